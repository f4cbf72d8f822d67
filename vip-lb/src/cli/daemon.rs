//! Where the command line meets the daemon: the commands that touch the kernel.

use std::path::Path;

use anyhow::Context as _;

use super::{
    arguments::{DecapArgs, RunArgs, UnloadArgs},
    output,
};
use crate::{
    dataplane::{self, DecapOptions},
    network::{HostChanges, Interface, Network, Undone, VlanRxFeatures, VlanRxOffload},
};

/// Runs the daemon until it is told to stop. `socket`, if given, is used instead of the configuration's.
///
/// # Errors
///
/// [`InvalidConfig`](crate::config::InvalidConfig), if the file has mistakes, makes the exit code 3; any other 1.
pub fn run(args: &RunArgs, socket: Option<&Path>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(crate::control::run(&args.config, socket))
}

/// Detaches the packet programs, removes the pins and undoes what was changed on the interfaces. Succeeds if nothing is
/// loaded.
///
/// # Errors
///
/// What could not be detached, removed or undone.
pub fn unload(args: &UnloadArgs) -> anyhow::Result<()> {
    let detached = dataplane::unload(&args.pins)?;
    let changes = HostChanges::of(&args.pins);
    let is_loaded = detached.is_some();
    let detached = detached.unwrap_or_default();
    let mut interfaces = changes.interfaces()?;
    interfaces.extend(detached.iter().cloned());
    interfaces.sort();
    interfaces.dedup();

    let mut failures = Vec::new();
    for interface in &interfaces {
        let mut done = Vec::new();
        if detached.contains(interface) {
            done.push("detached".to_owned());
        }
        match changes.undo(interface) {
            Ok(undone) => done.extend(undone.iter().flat_map(describe_undone)),
            Err(error) => failures.push(error),
        }
        if !done.is_empty() {
            output::print(&format!("{interface}: {}\n", done.join(", ")))?;
        }
    }
    if is_loaded {
        output::print(&format!("removed {}\n", args.pins.display()))?;
    } else if interfaces.is_empty() {
        output::print(&format!("nothing is loaded: no pins in {}\n", args.pins.display()))?;
    }
    match failures.into_iter().next() {
        None => Ok(()),
        Some(error) => {
            Err(anyhow::Error::new(error).context("cannot undo all that was changed on the interfaces"))
        }
    }
}

/// Attaches the unpacking program of a backend to an interface, or detaches it with [`DecapArgs::unload`]. Does not
/// stay: the program is pinned.
///
/// # Errors
///
/// What could not be loaded, attached or removed.
pub fn decap(args: &DecapArgs) -> anyhow::Result<()> {
    if args.unload { stop_decapsulating(args) } else { decapsulate(args) }
}

fn decapsulate(args: &DecapArgs) -> anyhow::Result<()> {
    let interface = look_up(&args.interface)?;
    let name = &interface.name;
    let options = DecapOptions {
        interface: name.clone(),
        index: interface.index,
        from: args.from.iter().map(|prefix| (prefix.address(), prefix.length())).collect(),
        vips: args.vip.clone(),
        gue_port: args.gue_port,
        pins: args.pins.clone(),
    };
    let attachment =
        dataplane::decapsulate(&options).with_context(|| format!("cannot decapsulate on {name}"))?;
    let mode = attachment.mode.name();
    let mut text = match (&attachment.fallback_reason, attachment.adopted) {
        (Some(reason), _) => {
            format!("{name}: attached in {mode} mode, because its driver refuses: {reason}\n")
        }
        (None, true) => format!("{name}: attached in {mode} mode, in place of the earlier program\n"),
        (None, false) => format!("{name}: attached in {mode} mode\n"),
    };
    text.push_str(&format!(
        "{name}: unpacks ipip, and gue on port {}, from {} for {}\n",
        args.gue_port,
        list(&args.from),
        list(&args.vip)
    ));
    // Untagged packets, which are most, are unpacked all the same: a driver that does not obey is no failure.
    match HostChanges::of(&args.pins).turn_off_vlan_rx_offload(name, interface.index) {
        Ok(VlanRxOffload::AlreadyOff) => {}
        Ok(VlanRxOffload::TurnedOff(_)) => {
            text.push_str(&format!("{name}: VLAN receive offload turned off\n"));
        }
        Ok(VlanRxOffload::Refused(reason)) => {
            text.push_str(&format!("{name}: VLAN receive offload stays on: {reason}\n"));
        }
        Err(error) => {
            let reason = format!("{:#}", anyhow::Error::new(error));
            text.push_str(&format!("{name}: VLAN receive offload is not known to be off: {reason}\n"));
        }
    }
    output::print(&text)
}

fn stop_decapsulating(args: &DecapArgs) -> anyhow::Result<()> {
    let name = &args.interface;
    let mut done = Vec::new();
    if dataplane::stop_decapsulating(&args.pins, name)? {
        done.push("detached".to_owned());
    }
    // The balancer has the interface, and its changes, if the decapsulator has not.
    if !done.is_empty() {
        let undone = HostChanges::of(&args.pins)
            .undo(name)
            .with_context(|| format!("detached from {name}, but cannot undo what was changed on it"))?;
        done.extend(undone.iter().flat_map(describe_undone));
    } else {
        done.push("nothing is loaded".to_owned());
    }
    output::print(&format!("{name}: {}\n", done.join(", ")))
}

/// What was undone, in words.
fn describe_undone(undone: &Undone) -> Vec<String> {
    let Undone::Restored(changes) = undone else {
        return vec!["the interface is gone or another one now, nothing to restore".to_owned()];
    };
    let mut done = Vec::new();
    if changes.vlan_rx_offload != VlanRxFeatures::default() {
        done.push("VLAN receive offload turned on again".to_owned());
    }
    match changes.multicast.len() {
        0 => {}
        1 => done.push("1 multicast filter entry removed".to_owned()),
        count => done.push(format!("{count} multicast filter entries removed")),
    }
    done
}

/// The interface of this name, which must be one of Ethernet.
fn look_up(interface: &str) -> anyhow::Result<Interface> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(async {
        let network = Network::open().context("cannot open a netlink socket")?;
        Ok(network.interface(interface).await?)
    })
}

fn list(items: &[impl ToString]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join(", ")
}
