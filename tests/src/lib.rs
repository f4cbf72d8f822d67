//! The lab of vip-lb: namespaces joined by a switch, real servers and clients, the real daemon, and the figures
//! that come out of them. The scenarios that hold the project's promises are in `tests/tests/lab_*.rs`.

pub mod bench;
pub mod change;
pub mod compare;
pub mod ending;
pub mod failover;
pub mod fuzz;
pub mod health;
pub mod lab;
pub mod packet;
pub mod program;
