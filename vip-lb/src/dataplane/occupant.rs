//! Whose XDP program an interface has.

use std::path::Path;

use aya::programs::{loaded_links, loaded_programs};

use super::{attach::XdpMode, pins::Pins, raw};

/// Whose program it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// The balancer's whose pins were asked for.
    Ours,
    /// Somebody else's, the decapsulator's included.
    Other {
        /// Its name, where it has one.
        name: Option<String>,
        /// The link that holds it: as long as that lives, it can be replaced by nobody else. `None` if it was attached by netlink.
        link: Option<u32>,
    },
}

/// Tells whose program `id` on an interface is, by the pins in a folder. Needs `CAP_SYS_ADMIN` to see what others have loaded.
#[must_use]
pub fn occupant(pins: &Path, interface: &str, id: u32) -> Occupant {
    let pins = Pins::of(pins);
    let is_ours = XdpMode::ALL
        .into_iter()
        .any(|mode| raw::link_info(&pins.link(interface, mode)).is_ok_and(|info| info.program_id == id));
    if is_ours {
        return Occupant::Ours;
    }
    let program = loaded_programs().flatten().find(|program| program.id() == id);
    Occupant::Other {
        name: program.and_then(|program| program.name_as_str().map(str::to_owned)),
        link: loaded_links().flatten().find(|link| link.program_id() == id).map(|link| link.id()),
    }
}
