//! The nodes of a group speak with each other: whether they do the same, and what one has learnt that all should know.
//!
//! Each node connects to each peer and *tells* it over that connection; the peer answers nothing but how much it has taken in. So between two nodes
//! there are two connections, and either end knows of each whether it lasts. Nobody speaks without the common [`secret`]: [`handshake`] says how that
//! is found out, [`channel`] how every frame is signed. [`message`] is what is said; [`statement`] how a node is, and [`compare`] what two of them do
//! not have in common; [`flows`] what is recorded of flows: those are pure. [`task`] runs the connections; what is made of them is the daemon's.

pub mod channel;
pub mod compare;
pub mod flows;
pub mod handshake;
pub mod message;
pub mod secret;
pub mod statement;
pub mod task;
