//! Attaches programs to interfaces, by links that are pinned: they stay when the daemon goes.

use std::io;

use aya::programs::{
    ProgramError, Xdp, XdpMode as AyaMode,
    links::{FdLink, PinnedLink},
    xdp::XdpLink,
};
use thiserror::Error;

use super::{
    pins::{self, Pins},
    raw, refusal,
};
use crate::{config::model::AttachMode, network};

/// Where in the receive path the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the stack, after a socket buffer was made: works everywhere, costs much more.
    Generic,
}

impl XdpMode {
    /// Both modes.
    pub(super) const ALL: [Self; 2] = [Self::Native, Self::Generic];

    /// The mode in a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    fn satisfies(self, wanted: AttachMode) -> bool {
        match wanted {
            AttachMode::Auto => true,
            AttachMode::Native => self == Self::Native,
            AttachMode::Generic => self == Self::Generic,
        }
    }
}

/// A program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// How it is attached.
    pub mode: XdpMode,
    /// An existing link was taken over, so that no packet missed the program.
    pub adopted: bool,
    /// Why the driver did not take it, if generic mode is the fallback.
    pub fallback_reason: Option<String>,
}

/// Why a program cannot be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// Another program is there.
    #[error(
        "cannot attach to {interface}: another XDP program is attached to it, or to the bond that it is a member of; see \
         `ip link show {interface}`, remove it with `ip link set {interface} xdp off`"
    )]
    Busy {
        /// The interface.
        interface: String,
    },
    /// The driver refuses and generic mode was ruled out, or the kernel refuses both.
    #[error("cannot attach to {interface} in {mode} mode: {reason}")]
    Refused {
        /// The interface.
        interface: String,
        /// Native or generic.
        mode: &'static str,
        /// What the kernel says, and what can be done about it.
        reason: String,
    },
    /// The link cannot be kept.
    #[error("cannot pin the link of {interface}")]
    Pin {
        /// The interface.
        interface: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Attaches `program` to an interface, replacing in one step what a pinned link of ours holds there.
pub(super) fn attach(
    program: &mut Xdp,
    pins: &Pins,
    interface: &str,
    ifindex: u32,
    wanted: AttachMode,
) -> Result<Attachment, AttachError> {
    for mode in XdpMode::ALL {
        let path = pins.link(interface, mode);
        if !path.exists() {
            continue;
        }
        if mode.satisfies(wanted) && adopt(program, &path, ifindex).is_ok() {
            return Ok(Attachment { mode, adopted: true, fallback_reason: None });
        }
        // Its interface is gone, or the configuration asks for the other mode.
        pins::remove_link(&path).map_err(|source| pin_error(interface, source))?;
    }
    let (link, mode, fallback_reason) = match wanted {
        AttachMode::Native => (create(program, interface, ifindex, XdpMode::Native)?, XdpMode::Native, None),
        AttachMode::Generic => {
            (create(program, interface, ifindex, XdpMode::Generic)?, XdpMode::Generic, None)
        }
        AttachMode::Auto => match create(program, interface, ifindex, XdpMode::Native) {
            Ok(link) => (link, XdpMode::Native, None),
            Err(AttachError::Refused { reason, .. }) => {
                let link = create(program, interface, ifindex, XdpMode::Generic)?;
                (link, XdpMode::Generic, Some(reason))
            }
            Err(error) => return Err(error),
        },
    };
    let link = FdLink::try_from(link).map_err(|source| pin_error(interface, source))?;
    link.pin(pins.link(interface, mode)).map_err(|source| pin_error(interface, source))?;
    Ok(Attachment { mode, adopted: false, fallback_reason })
}

/// Removes the pinned link of an interface, which detaches its program.
pub(super) fn detach(pins: &Pins, interface: &str) -> io::Result<()> {
    for mode in XdpMode::ALL {
        pins::remove_link(&pins.link(interface, mode))?;
    }
    Ok(())
}

/// Swaps the program under a pinned link. Fails if the link's interface is another one now.
fn adopt(program: &mut Xdp, path: &std::path::Path, ifindex: u32) -> Result<(), Box<dyn std::error::Error>> {
    if raw::link_info(path)?.ifindex != ifindex {
        return Err("the link belongs to another interface".into());
    }
    let link = FdLink::from(PinnedLink::from_pin(path)?);
    let id = program.attach_to_link(XdpLink::try_from(link)?)?;
    // The pin keeps the link; this handle of it must not end it.
    drop(program.take_link(id)?);
    Ok(())
}

fn create(program: &mut Xdp, interface: &str, ifindex: u32, mode: XdpMode) -> Result<XdpLink, AttachError> {
    let flag = match mode {
        XdpMode::Native => AyaMode::Driver,
        XdpMode::Generic => AyaMode::Skb,
    };
    let id = program
        .attach_to_if_index(ifindex, flag)
        .map_err(|source| refused(&source, interface, ifindex, mode))?;
    program.take_link(id).map_err(|source| pin_error(interface, source))
}

fn pin_error(interface: &str, source: impl std::error::Error + Send + Sync + 'static) -> AttachError {
    AttachError::Pin { interface: interface.to_owned(), source: Box::new(source) }
}

fn refused(error: &ProgramError, interface: &str, ifindex: u32, mode: XdpMode) -> AttachError {
    let interface = interface.to_owned();
    match refusal::os_error(error) {
        Some(libc::EBUSY | libc::EEXIST) => AttachError::Busy { interface },
        number => {
            let device = refusal::Device {
                mtu: network::interface_mtu(&interface),
                features: network::xdp_features(ifindex),
            };
            let mut reason = refusal::words(error);
            reason.push_str(&refusal::gates(error));
            if let Some(advice) = refusal::advice(mode, number, &device) {
                reason = format!("{reason}; {advice}");
            }
            AttachError::Refused { interface, mode: mode.name(), reason }
        }
    }
}
