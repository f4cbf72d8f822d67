//! VRRP version 3 (RFC 9568): nodes of one link agree on which of them is active.
//!
//! [`Advert`] is what they say to each other, as bytes. [`Machine`] decides; it is pure: what happened and when goes in, what
//! to do comes out. Sockets and clocks live elsewhere.

mod advert;
mod group;
mod interval;
mod machine;

pub use advert::{Addresses, Advert, Malformed, PseudoHeader, Router};
pub use group::{Group, GroupEvent, Order};
pub use interval::{Interval, Priority};
pub use machine::{Action, Event, Heard, Machine, Profile, State, Why};

#[cfg(test)]
mod simulation;
