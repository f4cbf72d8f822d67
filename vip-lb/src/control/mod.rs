//! From configuration, health, operator and network to the maps.
//!
//! ```text
//! config + health + operator + next hops  ->  Desired  ->  Engine: plan  ->  Dataplane: writes
//! ```
//!
//! One task ([`daemon`]) owns all map writes. What it wants is computed from facts alone ([`desired`], [`standing`]), how to get there is planned
//! without IO ([`engine`], [`service`], [`indices`], [`pacing`]), and can be tried first ([`rehearsal`]).

pub mod apply;
mod changes;
pub mod daemon;
pub mod desired;
pub mod engine;
pub mod explain;
pub mod floor;
pub mod hand_over;
pub mod indices;
mod observed;
pub mod ownership;
pub mod pacing;
pub mod rehearsal;
pub mod service;
pub mod slow_start;
pub mod standing;
pub mod watching;

pub use daemon::{RunOptions, run};
