//! `vip-lb drain` and `undrain`: orders about backends, and waiting until they are carried out.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{
    arguments::{BackendArgs, DrainArgs},
    exit::Exit,
    output,
    remote::ask,
    render,
};
use crate::api::{
    Client, ClientError,
    model::{BackendSelector, DrainReport, DrainRequest},
};

/// Time between two looks.
const PACE: Duration = Duration::from_secs(1);
/// Time between two lines that say how far it is.
const LINES: Duration = Duration::from_secs(10);
/// A daemon that is restarted is back by then.
const ABSENCE: Duration = Duration::from_secs(60);

pub(super) fn drain(client: &Client, args: DrainArgs) -> anyhow::Result<Exit> {
    let cuts_now = args.force && args.deadline.is_none();
    let request = DrainRequest { backend: args.backend, force: cuts_now };
    let mut report = ask(client.drain(&request))?;
    if args.wait {
        if !args.json {
            output::print(&text(&report))?;
        }
        report = wait(client, &request.backend, report, args.deadline)?;
        if !report.is_drained() && args.force {
            report = ask(client.drain(&DrainRequest { force: true, ..request }))?;
        }
    }
    show(&report, args.json)?;
    Ok(if args.wait && !report.is_drained() { Exit::NotDrained } else { Exit::Success })
}

pub(super) fn undrain(client: &Client, args: BackendArgs) -> anyhow::Result<Exit> {
    show(&ask(client.undrain(args.backend))?, args.json)?;
    Ok(Exit::Success)
}

/// Looks until nothing is left, or until the deadline. Returns what was seen last.
#[expect(clippy::disallowed_methods, reason = "an operator's deadline is by the clock")]
fn wait(
    client: &Client,
    backend: &BackendSelector,
    mut report: DrainReport,
    deadline: Option<Duration>,
) -> anyhow::Result<DrainReport> {
    let (begun, mut told, mut heard) = (Instant::now(), Instant::now(), Instant::now());
    while !report.is_drained() && deadline.is_none_or(|deadline| begun.elapsed() < deadline) {
        let left = deadline.map_or(PACE, |deadline| deadline.saturating_sub(begun.elapsed()));
        std::thread::sleep(PACE.min(left));
        match ask(client.remaining(backend)) {
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
        if let Some(back) =
            report.backends.iter().find(|of| of.order.is_none() && of.remaining.current_slots > 0)
        {
            anyhow::bail!(
                "{}/{} is not drained any more: somebody has withdrawn the order",
                back.service,
                back.backend
            );
        }
        if told.elapsed() >= LINES {
            told = Instant::now();
            output::remark(&text(&report));
        }
    }
    Ok(report)
}

fn show(report: &DrainReport, json: bool) -> anyhow::Result<()> {
    if json { output::print_json(report) } else { output::print(&text(report)) }
}

#[expect(clippy::disallowed_methods, reason = "ages are shown as of now")]
fn text(report: &DrainReport) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    render::drain(report, now)
}
