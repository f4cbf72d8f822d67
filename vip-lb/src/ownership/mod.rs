//! Which node answers for a VIP.
//!
//! All nodes always forward what reaches them. Ownership only decides who answers ARP and neighbour solicitations, so a move of a VIP that is
//! made on purpose loses nothing, and neighbours that have not heard of it do no harm.
//!
//! [`vrrp`] decides, and is pure; [`Unheard`] finds what it was not told, and is pure too. [`Task`] is the edge: a thread with sockets and a clock, which gives the packet path its leases.
//! [`Lookout`] looks who else is at a VIP that this node answers for; [`Others`] judges that, and is pure.
//!
//! Where routers choose instead, [`route`] says which routes lead here, and is pure as well; the daemon carries it out.

mod addresses;
mod admission;
mod announcement;
mod claim;
mod envelope;
mod kernel;
mod link;
mod lookout;
mod obstacle;
mod others;
mod report;
pub mod route;
mod tap;
mod task;
pub mod tracking;
mod unheard;
pub mod vrrp;

pub use addresses::sweep;
pub use admission::remove_devices;
pub use claim::Claim;
pub use lookout::Lookout;
pub use others::{Ask, Other, Others, Place};
pub use report::{Admitted, Change, Discarded, HandedOver, RouterReport, Speaker};
pub use task::{Ending, GroupSetup, RouterSetup, StampLinks, Task};
pub use unheard::{Stamp, StampLink, Unheard};
