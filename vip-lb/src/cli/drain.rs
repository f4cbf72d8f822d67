//! `vip-lb drain` and `undrain`: orders about backends, hosts and this node, and waiting until they are carried out.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{
    arguments::{BackendArgs, DrainArgs},
    exit::Exit,
    output,
    remote::ask,
    render,
};
use crate::api::{
    Client, ClientError,
    model::{BackendSelector, DrainReport, DrainRequest, NodeReport},
};

/// Time between two looks.
const PACE: Duration = Duration::from_secs(1);
/// Time between two lines that say how far it is.
const LINES: Duration = Duration::from_secs(10);
/// A daemon that is restarted is back by then.
const ABSENCE: Duration = Duration::from_secs(60);

pub(super) fn drain(client: &Client, args: &DrainArgs) -> anyhow::Result<Exit> {
    match args.backend.clone() {
        Some(backend) => drain_backends(client, backend, args),
        None => drain_node(client, args),
    }
}

pub(super) fn undrain(client: &Client, args: BackendArgs) -> anyhow::Result<Exit> {
    match args.backend {
        Some(backend) => show(&ask(client.undrain(backend))?, args.json)?,
        None => show(&ask(client.drain_node(false))?, args.json)?,
    }
    Ok(Exit::Success)
}

fn drain_backends(client: &Client, backend: BackendSelector, args: &DrainArgs) -> anyhow::Result<Exit> {
    let cuts_now = args.force && args.deadline.is_none();
    let request = DrainRequest { backend, force: cuts_now };
    let mut report = ask(client.drain(&request))?;
    if args.wait {
        report = wait(report, args, || ask(client.remaining(&request.backend)))?;
        if !report.is_over() && args.force {
            report = ask(client.drain(&DrainRequest { force: true, ..request }))?;
        }
    }
    finish(&report, args)
}

fn drain_node(client: &Client, args: &DrainArgs) -> anyhow::Result<Exit> {
    finish_node(client, ask(client.drain_node(true))?, args)
}

/// Waits, if that is wanted, until nothing comes to this node any more.
pub(super) fn finish_node(client: &Client, mut report: NodeReport, args: &DrainArgs) -> anyhow::Result<Exit> {
    if args.wait {
        report = wait(report, args, || ask(client.node_remaining()))?;
    }
    finish(&report, args)
}

fn finish(report: &impl Progress, args: &DrainArgs) -> anyhow::Result<Exit> {
    show(report, args.json)?;
    Ok(if args.wait && !report.is_over() { Exit::NotDrained } else { Exit::Success })
}

/// What is looked at again and again until it is over.
pub(super) trait Progress: Serialize {
    fn is_over(&self) -> bool;

    /// Who is not drained any more, because somebody has withdrawn the order.
    fn withdrawn(&self) -> Option<String>;

    fn text(&self, now: u64) -> String;
}

impl Progress for DrainReport {
    fn is_over(&self) -> bool {
        self.is_drained()
    }

    fn withdrawn(&self) -> Option<String> {
        let back = self.backends.iter().find(|of| of.order.is_none() && of.remaining.current_slots > 0)?;
        Some(format!("{}/{}", back.service, back.backend))
    }

    fn text(&self, now: u64) -> String {
        render::drain(self, now)
    }
}

impl Progress for NodeReport {
    fn is_over(&self) -> bool {
        self.quiet
    }

    fn withdrawn(&self) -> Option<String> {
        (!self.admin.is_drained()).then(|| self.node.clone())
    }

    fn text(&self, now: u64) -> String {
        render::node(self, now)
    }
}

/// Looks until it is over, or until the deadline. Returns what was seen last.
#[expect(clippy::disallowed_methods, reason = "an operator's deadline is by the clock")]
fn wait<P: Progress>(
    mut report: P,
    args: &DrainArgs,
    look: impl Fn() -> Result<P, ClientError>,
) -> anyhow::Result<P> {
    if !args.json {
        output::print(&text(&report))?;
    }
    let deadline = args.deadline;
    let (begun, mut told, mut heard) = (Instant::now(), Instant::now(), Instant::now());
    while !report.is_over() && deadline.is_none_or(|deadline| begun.elapsed() < deadline) {
        let left = deadline.map_or(PACE, |deadline| deadline.saturating_sub(begun.elapsed()));
        std::thread::sleep(PACE.min(left));
        match look() {
            Ok(now) => {
                heard = Instant::now();
                report = now;
            }
            // Orders outlive the daemon, so it is worth waiting for it.
            Err(
                ClientError::NotRunning { .. } | ClientError::BrokenOff { .. } | ClientError::Silent { .. },
            ) if heard.elapsed() < ABSENCE => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(back) = report.withdrawn() {
            anyhow::bail!("{back} is not drained any more: somebody has withdrawn the order");
        }
        if told.elapsed() >= LINES {
            told = Instant::now();
            output::remark(&text(&report));
        }
    }
    Ok(report)
}

pub(super) fn show(report: &impl Progress, json: bool) -> anyhow::Result<()> {
    if json { output::print_json(report) } else { output::print(&text(report)) }
}

#[expect(clippy::disallowed_methods, reason = "ages are shown as of now")]
fn text(report: &impl Progress) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    report.text(now)
}
