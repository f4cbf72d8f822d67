//! Where the command line meets the daemon: the commands that touch the kernel.

use std::{collections::BTreeSet, path::Path};

use anyhow::Context as _;

use super::{
    arguments::{DecapArgs, RunArgs, UnloadArgs},
    output,
};
use crate::{
    backend::decapsulation,
    control::RunOptions,
    dataplane::{self, DecapOptions},
    network::{HostChanges, HostRoutes, Interface, Network, PROBE_OUTER, Undone},
    ownership,
};

/// Runs the daemon until it is told to stop. `socket`, if given, is used instead of the configuration's.
///
/// # Errors
///
/// [`InvalidConfig`](crate::config::InvalidConfig), if the file has mistakes, makes the exit code 3; any other 1.
pub fn run(args: &RunArgs, socket: Option<&Path>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let options = RunOptions {
        config: args.config.clone(),
        socket: socket.map(Path::to_owned),
        descriptors: args.hand_over,
    };
    runtime.block_on(crate::control::run(&options))
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
            Ok(undone) => done.extend(undone.iter().flat_map(Undone::describe)),
            Err(error) => failures.push(error),
        }
        if !done.is_empty() {
            output::print(&format!("{interface}: {}\n", done.join(", ")))?;
        }
    }
    // Behind the program, which answered in their place, the host would.
    for (vip, interface) in ownership::sweep(|_| false)? {
        output::print(&format!("{interface}: took {vip} away\n"))?;
    }
    for device in ownership::remove_devices()? {
        output::print(&format!("removed {device}, which let a virtual MAC address in\n"))?;
    }
    if remove_probe_pair()? {
        output::print(&format!("removed {PROBE_OUTER}, which probes left by\n"))?;
    }
    for device in remove_routes()? {
        output::print(&format!("removed {device}, which routes of VIPs led to, and the routes\n"))?;
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

/// Removes the routes of VIPs that a killed daemon left, and the devices made for them, whose names are returned.
fn remove_routes() -> anyhow::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let routes = HostRoutes::open().context("cannot ask the kernel about routes")?;
        for route in routes.own().await.context("cannot ask the kernel for the routes of VIPs")? {
            let what = || format!("cannot remove the route to {}", route.destination);
            routes.remove(route).await.with_context(what)?;
        }
        let network = Network::open().context("cannot ask the kernel about its network")?;
        network.remove_route_devices(&BTreeSet::new()).await.context("cannot remove the devices of routes")
    })
}

fn remove_probe_pair() -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let network = Network::open().context("cannot ask the kernel about its network")?;
        Ok(network.remove_probe_pair().await?)
    })
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
    let lines = decapsulation::start(&DecapOptions {
        interface: interface.name,
        index: interface.index,
        from: args.from.iter().map(|prefix| (prefix.address(), prefix.length())).collect(),
        vips: args.vip.clone(),
        gue_port: args.gue_port,
        pins: args.pins.clone(),
    })?;
    output::print(&format!("{}\n", lines.join("\n")))
}

fn stop_decapsulating(args: &DecapArgs) -> anyhow::Result<()> {
    let mut done = decapsulation::stop(&args.pins, &args.interface)?;
    if done.is_empty() {
        done.push("nothing is loaded".to_owned());
    }
    output::print(&format!("{}: {}\n", args.interface, done.join(", ")))
}

/// The interface of this name, which must be one of Ethernet.
pub(super) fn look_up(interface: &str) -> anyhow::Result<Interface> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(async {
        let network = Network::open().context("cannot open a netlink socket")?;
        Ok(network.interface(interface).await?)
    })
}
