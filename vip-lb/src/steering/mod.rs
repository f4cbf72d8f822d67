//! Which backend a slot names, and when it may change.
//!
//! Everything here is pure: it takes what was read from the maps and the tick of SETTINGS, and returns what to publish and
//! what to delete. The packets' side is [`vip_lb_common::pipeline::steer`].
//!
//! # The invariant
//!
//! **In an open slot every live flow that is not on `previous` is recorded; in a closed slot every live flow is on `current`.**
//! A flow is live while it is not silent for longer than the idle timeout and its backend has not died. From the invariant
//! follows where an unknown flow of an open slot goes (`previous`), and that a closed slot needs no table.
//!
//! What keeps it true:
//!
//! * **Opening**: all live flows of a closed slot are on its `current`, which becomes `previous`. A new epoch makes every record of an
//!   earlier opening void.
//! * **Later changes** touch `current` only: whatever went there since the opening is recorded, with the backend it went to.
//! * **Records** are made before the first packet goes to `current`. NEWBORN evicts, so its budget gives each entry several seconds
//!   for the handshake to be answered; FLOWS does not evict, and the [`Budget`] keeps room there for all of NEWBORN. A flow that
//!   cannot be recorded goes to `previous`, and leaves the tick in the slot.
//! * **Closing** waits until nothing unrecorded can be alive on another `previous` (one idle timeout since the opening and since the last
//!   unrecorded packet) and no record names another backend than `current`, not even a silent one, which a new handshake may
//!   follow until it is deleted. `current == previous` alone is not enough (A -> B -> A leaves records on B). Between the decision and the close the slot is *settling*: a handshake that would begin on
//!   `previous` without a record is dropped, so nothing appears there unseen. The ring is published first, records are deleted after.
//! * **Death** of `previous` makes the former `current` its heir, because that is where packets went from then on. A backend that
//!   returns has a new generation and inherits nothing.
//! * **Without visible beginnings** (UDP, affinity by source) an unknown flow may be old or new. While the slot is *open* it counts as old,
//!   goes to `previous` and is recorded there; one idle timeout later all old flows are recorded, the slot is *known*, and unknown
//!   flows are new: they go to `current`, which therefore takes the place of `previous`.
//! * **Time** is the tick. It advances by at most one per second and only while a daemon lives to advance it ([`Ticker`]), so a flow is
//!   never silent for more ticks than seconds, however long the daemon stood still.
//!
//! * **Several nodes** that tell each other of their slots and records ([`ServiceRing::shared`], [`ServiceRing::learn`],
//!   [`ServiceRing::place`], [`Told`]) have the same `previous`, and none closes a slot that another one still has open. Flows may
//!   then move between them. What another node says of a slot's past counts only where this one has forwarded nothing itself.
//!
//! # Limits
//!
//! * A client that has sent FIN or RST, or has not answered the SYN-ACK yet, counts as live for [`Timeouts::closing`] and
//!   [`Timeouts::newborn`] (60 s at most), not for the whole idle timeout.
//! * A repeated SYN whose first copy was answered late by another backend (closed slot, or refused a record) can meet two answers; TCP
//!   resets one of them and the client tries again.
//! * Where beginnings are not visible and the budget is spent, a flow born in the moment between reading the ring and publishing the slot as
//!   known moves once, with its second packet.

pub mod budget;
pub mod identity;
pub mod maglev;
pub mod ring;
pub mod ticker;
pub mod told;

pub use budget::{Budget, Limits};
pub use identity::identity;
pub use maglev::{Candidate, populate};
pub use ring::{Changes, Collected, Fate, Learnt, Record, Records, ServiceRing, Start, Timeouts, Trust};
pub use ticker::Ticker;
pub use told::{Clock, News, Report, Told, everything};
