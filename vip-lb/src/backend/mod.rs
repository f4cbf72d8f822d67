//! What the host of a backend needs for each way of forwarding: found out, put in place, and put back.
//!
//! [`needs`] decides from a [`Wish`] and [`HostFacts`] alone. [`HostFacts::gather`], [`apply`] and [`revert`] ask and
//! change the kernel; [`Record`] remembers what was there before in a file that outlives the process, but not a reboot, as
//! the settings do.

pub mod decapsulation;
mod facts;
mod needs;
mod record;
mod setup;

pub(crate) use facts::RP_FILTER;
pub use facts::{GatherError, HostFacts};
pub use needs::{Advice, Need, NeedKind, Wish, advice, needs, segment_sizes};
pub use record::{Change, Record, RecordError};
pub use setup::{apply, revert};
