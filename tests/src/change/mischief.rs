//! What befalls a daemon from its surroundings: files with mistakes, pins that it cannot use or make.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use super::stage::Stage;
use crate::lab::{Daemon, Disk, Node, Site, command, config::ConfigFile, wait_for};

/// Whom an operator drains.
const DRAINED: &str = "echo/backend-1";
/// Times [`patience`](crate::lab::patience): for what is tried every few seconds.
const LIMIT: Duration = Duration::from_secs(20);

/// Files that must be refused, by reload and by signal, and change nothing.
pub(super) fn invalid_files(site: &Site) -> Result<()> {
    let daemon = site.daemon();
    let good = daemon.config_text()?;
    let before = daemon.status()?;
    let broken = [
        ("a weight of nothing", good.replacen("weight: 100", "weight: 0", 1)),
        ("an unknown key", good.replacen("node:", "nodes:", 1)),
        ("no YAML", format!("{good}\n  - [}}")),
        ("half a file", good[..good.len() / 2].to_owned()),
        ("an empty file", String::new()),
        ("another seed", good.replacen("seed: ", "seed: another ", 1)),
    ];
    for (name, text) in broken {
        ensure!(text != good, "{name} is not in the file: {good}");
        daemon.write_config_text(&text)?;
        ensure!(daemon.ask(&["reload"]).is_err(), "{name} was taken");
        daemon.hang_up()?;
        let status = daemon.status()?;
        ensure!(status.config == before.config && status.pid == before.pid, "{name} changed something");
    }
    daemon.write_config_text(&good)?;
    daemon.ask(&["reload"]).map(drop)
}

/// A daemon finds pins whose layout is newer than all that it knows: it must not start, say so, and leave them.
pub(super) fn unknown_layout(site: &mut Site) -> Result<()> {
    site.daemon_mut().stop()?;
    let written = Layout::of(site.daemon())?;
    written.write(u32::MAX)?;
    let refusal = refusal(site.daemon_mut())?;
    ensure!(refusal.contains("layout"), "the reason is not said: {refusal}");
    written.write(written.number)?;
    site.daemon_mut().launch()
}

/// The file system of the pins takes no more: neither a reload nor a start that needs another pin may disturb what is pinned.
pub(super) fn no_pin_can_be_made(stage: &mut Stage) -> Result<()> {
    let base = stage.base();
    let spare = SpareInterface::add(stage)?;
    {
        let _full = ReadOnly::make(stage.site.daemon().pins().to_owned())?;
        stage.site.daemon().write_config(&spare.served_as_well(&base))?;
        // What it says is in the log and in status; what is forwarded goes on.
        let _ = stage.site.daemon().ask(&["reload"]);
        let status = stage.site.daemon().ask(&["status"])?;
        ensure!(status.contains(SPARE), "nobody says that {SPARE} cannot be served: {status}");
        stage.run_for(Duration::from_millis(300))?;
        stage.site.daemon_mut().stop()?;
        let refusal = refusal(stage.site.daemon_mut())?;
        ensure!(refusal.contains(SPARE) && refusal.contains("pin"), "the reason is not said: {refusal}");
        stage.run_for(Duration::from_millis(300))?;
        // What needs no new pin goes on to work.
        stage.site.daemon().write_config(&base)?;
        stage.site.daemon_mut().launch()?;
    }
    spare.remove(stage)?;
    stage.wait_until_complete(&base)?;
    ensure!(stage.site.daemon().status()?.interfaces[0].name == Node::DEVICE, "another interface is served");
    Ok(())
}

/// The daemon starts successors that fail, before it has handed over and after: it goes on.
pub(super) fn successors_that_fail(stage: &mut Stage) -> Result<()> {
    let base = stage.base();
    let pid = stage.site.daemon().pid();
    let fails = |stage: &Stage, reason: &str| -> Result<()> {
        let error = stage.site.daemon().ask(&["upgrade"]).err().context("the successor took over")?;
        let said = format!("{error:#}");
        ensure!(said.contains("this daemon goes on") && said.contains(reason), "it is not said why: {said}");
        let status = stage.site.daemon().status()?;
        ensure!(Some(status.pid) == pid, "pid {} answers instead of {pid:?}", status.pid);
        stage.wait_until_complete(&stage.base())
    };
    let good = stage.site.daemon().config_text()?;
    stage.site.daemon().write_config_text(&good.replacen("weight: 100", "weight: 0", 1))?;
    fails(stage, "weight")?;
    // One that is let to the maps, swaps the program in, and only then finds that it cannot serve all interfaces.
    let spare = SpareInterface::add(stage)?;
    stage.site.daemon().write_config(&spare.served_as_well(&base))?;
    {
        let _full = ReadOnly::make(stage.site.daemon().pins().to_owned())?;
        fails(stage, SPARE)?;
        stage.run_for(Duration::from_millis(300))?;
    }
    stage.site.daemon().write_config(&base)?;
    spare.remove(stage)?;
    stage.put_in_force(&base)
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Full,
    ReadOnly,
}

/// The disk of the state takes nothing: what an operator orders and changes is in force all the same, also after a hand-over, and is kept
/// as soon as there is room.
pub(super) fn nothing_can_be_kept(stage: &mut Stage, trouble: Trouble) -> Result<()> {
    let base = stage.base();
    {
        let disk = Disk::mount(stage.site.daemon().state())?;
        let complaint = match trouble {
            Trouble::Full => {
                disk.fill();
                "No space left"
            }
            Trouble::ReadOnly => {
                disk.set_read_only(true)?;
                "Read-only file system"
            }
        };
        stage.there_and_back(&stage.config(&[300, 100, 50]))?;
        let answer = stage.site.daemon().ask(&["drain", DRAINED])?;
        ensure!(
            answer.contains("may not outlive the daemon"),
            "nobody says that the order is not kept: {answer}"
        );
        stage.site.daemon_mut().hand_over()?;
        ensure!(is_drained(&stage.site)?, "the successor does not know the order");
        wait_for("the status to warn", LIMIT, || {
            let warnings = stage.site.daemon().status()?.warnings;
            Ok(warnings.iter().any(|warning| warning.contains(complaint)).then_some(()))
        })?;
        stage.site.daemon().ask(&["undrain", DRAINED])?;
        stage.wait_until_complete(&base)?;
        stage.site.daemon_mut().stop()?;
        stage.site.daemon_mut().launch()?;
        stage.wait_until_complete(&base)?;
    }
    wait_for("the state to be kept", LIMIT, || {
        let status = stage.site.daemon().status()?;
        Ok((status.config.revision.is_some() && status.warnings.is_empty()).then_some(()))
    })
}

fn is_drained(site: &Site) -> Result<bool> {
    let (service, backend) = DRAINED.split_once('/').context("a service and a backend")?;
    let vips = site.daemon().status()?.vips;
    let mut services = vips.iter().flat_map(|vip| &vip.services);
    let found = services.find(|found| found.name == service).and_then(|found| found.backend(backend));
    Ok(found.context("no such backend")?.operator_order.is_some())
}

/// Name of an interface that needs a pin of its own.
const SPARE: &str = "spare0";

/// Such an interface.
struct SpareInterface;

impl SpareInterface {
    fn add(stage: &Stage) -> Result<Self> {
        let edge = &stage.site.lab.edges[0].namespace;
        edge.ip(&["link", "add", SPARE, "type", "veth", "peer", "name", "spare1"])?;
        edge.ip(&["link", "set", SPARE, "up"])?;
        Ok(Self)
    }

    fn served_as_well(&self, config: &ConfigFile) -> ConfigFile {
        let mut config = config.clone();
        config.node.interfaces.push(SPARE.to_owned());
        config
    }

    fn remove(self, stage: &Stage) -> Result<()> {
        stage.site.lab.edges[0].namespace.ip(&["link", "del", SPARE]).map(drop)
    }
}

/// Starts a daemon that must not start, and returns what it says.
fn refusal(daemon: &mut Daemon) -> Result<String> {
    match daemon.launch() {
        Ok(()) => bail!("the daemon starts"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

/// A folder in which nothing can be made, until this is dropped.
struct ReadOnly(String);

impl ReadOnly {
    fn make(folder: PathBuf) -> Result<Self> {
        let path = folder.into_os_string().into_string().ok().context("a path in UTF-8")?;
        command::run("mount", &["--bind", &path, &path])?;
        let read_only = Self(path);
        command::run("mount", &["-o", "remount,bind,ro", &read_only.0])?;
        Ok(read_only)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        // Lazily, so that it goes in any case; nobody has a file of it open.
        if let Err(error) = command::run("umount", &["--lazy", &self.0]) {
            eprintln!("{error:#}");
        }
    }
}

/// The layout version in the pinned settings.
struct Layout {
    pin: String,
    value: Vec<u8>,
    number: u32,
}

/// Where it is in `Settings`, behind the magic.
const AT: std::ops::Range<usize> = 8..12;

impl Layout {
    fn of(daemon: &Daemon) -> Result<Self> {
        let pin = daemon.pins().join("SETTINGS").display().to_string();
        let text =
            command::run("bpftool", &["-j", "map", "lookup", "pinned", &pin, "key", "0", "0", "0", "0"])?;
        let entry: serde_json::Value = serde_json::from_str(&text).with_context(|| format!("read {text}"))?;
        let bytes = entry["value"].as_array().with_context(|| format!("no value in {text}"))?;
        let byte = |word: &serde_json::Value| {
            let digits = word.as_str()?.strip_prefix("0x")?;
            u8::from_str_radix(digits, 16).ok()
        };
        let value: Vec<u8> =
            bytes.iter().map(byte).collect::<Option<_>>().with_context(|| format!("no bytes in {text}"))?;
        let number = value.get(AT).and_then(|bytes| bytes.try_into().ok()).context("short settings")?;
        Ok(Self { pin, value, number: u32::from_ne_bytes(number) })
    }

    fn write(&self, number: u32) -> Result<()> {
        let mut value = self.value.clone();
        value[AT].copy_from_slice(&number.to_ne_bytes());
        let bytes: Vec<String> = value.iter().map(ToString::to_string).collect();
        let mut arguments = vec!["map", "update", "pinned", &self.pin, "key", "0", "0", "0", "0", "value"];
        arguments.extend(bytes.iter().map(String::as_str));
        command::run("bpftool", &arguments).map(drop)
    }
}
