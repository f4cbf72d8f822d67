//! What is wrong with a host, why it matters, and the command that mends it.
//!
//! [`Facts`] are gathered at the edge, in [`gather`]; every check is a small function over them, in
//! `checks`. What a backend needs is [`crate::backend`]'s to know.

mod checks;
mod facts;
mod finding;
pub mod gather;

pub use checks::{backend, node};
pub use facts::{BackendPath, Facts, Host, InterfaceFacts, PathAnswer, Program};
pub use finding::{Check, Finding, Level, Verdict};
