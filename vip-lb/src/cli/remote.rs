//! The commands that ask the running daemon.

use std::{
    future::Future,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;

use super::{
    arguments::{CountersArgs, DEFAULT_SOCKET, EventsArgs, ExplainArgs, OutputArgs, StatusArgs, VipArgs},
    exit::{Exit, UsageError},
    output, render,
};
use crate::api::{
    Client, ClientError,
    model::{EventsRequest, ExplainRequest, UpgradeReport},
};

/// A client of the daemon on this socket, or on the default one.
pub(super) fn client(socket: Option<&Path>) -> Client {
    Client::new(socket.unwrap_or(Path::new(DEFAULT_SOCKET)))
}

#[expect(clippy::disallowed_methods, reason = "ages are shown as of now")]
pub(super) fn status(client: &Client, args: &StatusArgs) -> anyhow::Result<Exit> {
    let status = ask(client.status())?;
    if args.json {
        output::print_json(&status)?;
    } else if args.latency {
        output::print(&render::latencies(&status, render::Style::of_stdout()))?;
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        output::print(&render::status(&status, now, render::Style::of_stdout()))?;
    }
    Ok(Exit::Success)
}

#[expect(clippy::disallowed_methods, reason = "ages are shown as of now")]
pub(super) fn vip(client: &Client, args: &VipArgs) -> anyhow::Result<Exit> {
    let all = ask(client.status())?.vips;
    let known: Vec<_> = all.iter().map(|vip| vip.address.to_string()).collect();
    let vips: Vec<_> =
        all.into_iter().filter(|vip| args.address.is_none_or(|address| vip.address == address)).collect();
    if let Some(address) = args.address
        && vips.is_empty()
    {
        anyhow::bail!("there is no VIP {address}: known are {}", known.join(", "));
    }
    if args.json {
        // The services have `status`.
        let mut vips = serde_json::to_value(&vips)?;
        vips.as_array_mut().into_iter().flatten().filter_map(|vip| vip.as_object_mut()).for_each(|vip| {
            vip.remove("services");
        });
        output::print_json(&vips)?;
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        output::print(&render::vips(&vips, now, render::Style::of_stdout()))?;
    }
    Ok(Exit::Success)
}

pub(super) fn counters(client: &Client, args: &CountersArgs) -> anyhow::Result<Exit> {
    let counters = ask(client.counters())?;
    if args.json {
        output::print_json(&counters)?;
    } else {
        output::print(&render::counters(&counters, args.all))?;
    }
    Ok(Exit::Success)
}

pub(super) fn explain(client: &Client, args: &ExplainArgs) -> anyhow::Result<Exit> {
    let explanation = ask(client.explain(&request(args)?))?;
    if args.json {
        output::print_json(&explanation)?;
    } else {
        output::print(&render::explanation(&explanation))?;
    }
    Ok(Exit::Success)
}

pub(super) fn events(client: &Client, args: &EventsArgs) -> anyhow::Result<Exit> {
    run(async {
        let mut stream = client.events(wanted(args)).await?;
        while let Some(event) = stream.next().await? {
            let line = if args.json {
                serde_json::to_string(&event).context("cannot write the event as JSON")? + "\n"
            } else {
                render::event(&event, render::Style::of_stdout())
            };
            if output::print_some(&line)? == output::Reader::Gone {
                break;
            }
        }
        Ok(Exit::Success)
    })
}

/// What is asked of the daemon: all that is kept, unless it is told otherwise.
fn wanted(args: &EventsArgs) -> EventsRequest {
    #[expect(clippy::disallowed_methods, reason = "people count from now on their own clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since =
        args.since.map(|since| now.saturating_sub(since)).or((!args.follow).then_some(Duration::ZERO));
    EventsRequest {
        after: None,
        since_ms: since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        follow: (!args.follow).then_some(false),
    }
}

pub(super) fn upgrade(client: &Client, args: &OutputArgs) -> anyhow::Result<Exit> {
    let report = ask(client.upgrade())?;
    if args.json {
        output::print_json(&report)?;
    } else {
        let UpgradeReport { pid, former_pid, version } = report;
        output::print(&format!("pid {pid}, version {version}, has taken over from pid {former_pid}\n"))?;
    }
    Ok(Exit::Success)
}

fn request(args: &ExplainArgs) -> Result<ExplainRequest, UsageError> {
    let (Some(source), Some(destination)) = (args.packet_source, args.packet_destination) else {
        return Err(UsageError("a packet has a source and a destination".into()));
    };
    if let Some(filter) = args.filter.live_only() {
        return Err(UsageError(format!("{filter} chooses among real packets: it needs --live")));
    }
    let request = ExplainRequest {
        source: source.address,
        source_port: source.port,
        destination: destination.address,
        destination_port: destination.port,
        protocol: args.packet_protocol()?,
        packet: args.packet.unwrap_or_default(),
        fragment_id: args.fragment_id,
        interface: args.filter.interface.clone(),
    };
    request.check().map_err(|error| UsageError(error.to_string()))?;
    Ok(request)
}

/// Waits for one answer.
pub(super) fn ask<T>(answer: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    run(answer)
}

/// Runs what waits for the daemon.
pub(super) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime without threads needs only a few file descriptors")
        .block_on(work)
}
