//! Changes under traffic: an event happens while thousands of requests a second, two hundred connections and UDP flows are under way, and
//! what it lost and broke is counted, packet by packet, and held against what was planned.
//!
//! An [`Event`] is data. [`Stage::play`] plays one in a lab and returns an [`Outcome`]. `cargo xtask bench --suite change` and the tests of
//! `lab_change_events` play each of them once, `cargo xtask soak` mixes them at random.

mod event;
mod garbage;
mod ledger;
mod mischief;
mod outcome;
mod requests;
mod soak;
mod stage;
mod traffic;

use std::path::PathBuf;

pub use event::Event;
pub use outcome::Outcome;
pub use soak::{Soak, SoakOptions, soak};
pub use stage::Stage;

/// What is said where the daemon of the commit before is needed and not there.
pub const NO_PREVIOUS: &str =
    "there is no daemon of the commit before: `cargo xtask previous` builds it, or VIP_LB_PREVIOUS names one";

/// The daemon of the commit before: what `VIP_LB_PREVIOUS` names, or what `cargo xtask previous` built. `None` if it is not there.
#[must_use]
pub fn previous_binary() -> Option<PathBuf> {
    let named = std::env::var_os("VIP_LB_PREVIOUS").map(PathBuf::from);
    let built = || {
        let own = std::env::current_exe().ok()?;
        // Of target/debug/change or target/debug/deps/lab_change_events-0123.
        own.ancestors()
            .skip(2)
            .take(2)
            .map(|target| target.join("previous/vip-lb"))
            .find(|path| path.is_file())
    };
    named.or_else(built).filter(|path| path.is_file())
}
