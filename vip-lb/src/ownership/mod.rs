//! Which node answers for a VIP.
//!
//! All nodes always forward what reaches them. Ownership only decides who answers ARP and neighbour solicitations, so a move of a VIP that is
//! made on purpose loses nothing, and neighbours that have not heard of it do no harm.

pub mod vrrp;
