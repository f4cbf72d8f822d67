//! Which node answers for a VIP.
//!
//! All nodes always forward what reaches them. Ownership only decides who answers ARP and neighbour solicitations, so a move of a VIP that is
//! made on purpose loses nothing, and neighbours that have not heard of it do no harm.
//!
//! [`vrrp`] decides, and is pure. [`Task`] is the edge: a thread with sockets and a clock, which gives the packet path its leases.

mod announcement;
mod link;
mod report;
mod task;
pub mod vrrp;

pub use report::{Change, Discarded, RouterReport};
pub use task::{GroupSetup, RouterSetup, Task};
