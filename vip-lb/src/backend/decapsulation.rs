//! The unpacking of tunnelled packets on an interface, with the setting that it needs there.

use std::path::Path;

use anyhow::Context as _;

use crate::{
    dataplane::{self, DecapOptions},
    network::{HostChanges, Undone, VlanRxOffload},
};

/// Starts unpacking, or changes what is unpacked. Returns what was done, in lines for people.
///
/// # Errors
///
/// What could not be loaded or attached.
pub fn start(options: &DecapOptions) -> anyhow::Result<Vec<String>> {
    let name = &options.interface;
    let attachment =
        dataplane::decapsulate(options).with_context(|| format!("cannot decapsulate on {name}"))?;
    let mode = attachment.mode.name();
    let mut lines = vec![match (&attachment.fallback_reason, attachment.adopted) {
        (Some(reason), _) => {
            format!("{name}: attached in {mode} mode, because its driver refuses: {reason}")
        }
        (None, true) => format!("{name}: attached in {mode} mode, in place of the earlier program"),
        (None, false) => format!("{name}: attached in {mode} mode"),
    }];
    lines.push(format!(
        "{name}: unpacks ipip, and gue on port {}, from {} for {}",
        options.gue_port,
        list(options.from.iter().map(|(address, length)| format!("{address}/{length}"))),
        list(options.vips.iter().map(ToString::to_string)),
    ));
    // Untagged packets, which are most, are unpacked all the same: a driver that does not obey is no failure.
    match HostChanges::of(&options.pins).turn_off_vlan_rx_offload(name, options.index) {
        Ok(VlanRxOffload::AlreadyOff) => {}
        Ok(VlanRxOffload::TurnedOff(_)) => lines.push(format!("{name}: VLAN receive offload turned off")),
        Ok(VlanRxOffload::Refused(reason)) => {
            lines.push(format!("{name}: VLAN receive offload stays on: {reason}"));
        }
        Err(error) => {
            let reason = format!("{:#}", anyhow::Error::new(error));
            lines.push(format!("{name}: VLAN receive offload is not known to be off: {reason}"));
        }
    }
    Ok(lines)
}

/// Stops unpacking. Returns what was done, nothing if nothing was loaded.
///
/// # Errors
///
/// What could not be removed.
pub fn stop(pins: &Path, interface: &str) -> anyhow::Result<Vec<String>> {
    if !dataplane::stop_decapsulating(pins, interface)? {
        // The balancer has the interface, and its changes, if the decapsulator has not.
        return Ok(Vec::new());
    }
    let undone = HostChanges::of(pins)
        .undo(interface)
        .with_context(|| format!("detached from {interface}, but cannot undo what was changed on it"))?;
    let mut done = vec!["detached".to_owned()];
    done.extend(undone.iter().flat_map(Undone::describe));
    Ok(done)
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}
