//! Translated connections: which of them have ended, and how to remove one.
//!
//! The packet path makes two entries of each, one for either direction, and never removes one that lives. Here is decided from what was
//! read of both tables which have ended ([`Collector`], pure), and in which order their entries go ([`remove()`]), so that a packet that comes
//! at the last moment keeps its connection whole.

mod collector;
mod remove;

pub use collector::{Collected, Collector, Ended, Look, ServiceLife};
pub use remove::{NatTables, remove};
