//! The kernel side as userspace sees it: the object, its maps, pins and links. The only place that names maps and aya.
//!
//! Nothing here decides anything. [`Dataplane`] carries out [`Write`]s one by one, in the order given, and reads back
//! what the program wrote.

mod adverts;
mod attach;
mod decap;
mod examine;
mod inspect;
mod layout;
mod loader;
mod maps;
mod migrate;
mod nat;
pub mod object;
mod occupant;
mod owners;
mod pins;
mod probe;
mod raw;
mod refusal;
mod rings;
mod samples;
mod size;
mod vips;
mod watch;
mod write;

pub use adverts::Adverts;
pub use attach::{AttachError, Attachment, XdpMode};
pub use decap::{DecapOptions, Decapsulator, decapsulate, decapsulator, stop_decapsulating};
pub use examine::{Examination, Way, examine, verify_program};
pub use inspect::{ObservedTables, Snapshot, monotonic};
pub use layout::Refusal;
pub use loader::{LoadError, LoadOptions, ProgramCost};
pub use maps::{Capacities, Dataplane, Found};
pub use occupant::{Occupant, occupant};
pub use owners::Owners;
pub use pins::{PinError, check_place, unload, unload_balancer};
pub use probe::ProbeError;
pub use samples::Samples;
pub use size::map_memory;
pub use watch::{Seen, Sightings};
pub use write::{Publication, Write};
