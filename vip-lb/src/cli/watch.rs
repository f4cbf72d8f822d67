//! `explain --live` and `capture`: packets on their way through the running program.

use std::{
    fs::File,
    io::{self, Write},
};

use anyhow::Context as _;
use tokio::{signal, time};

use super::{
    arguments::{CaptureArgs, FilterArgs},
    exit::{Exit, UsageError},
    output,
    pcapng::{Capture, Direction, Packet},
    remote::run,
    render,
};
use crate::api::{
    Client, EventStream,
    model::{Action, Frame, WatchRequest, Watched, WatchedPacket},
};

/// `vip-lb explain --live`.
pub(super) fn live(client: &Client, filter: &FilterArgs, json: bool) -> anyhow::Result<Exit> {
    run(watch(client, filter, request(filter)?, |packet| {
        let text = if json {
            let mut line = serde_json::to_string(packet).context("cannot write a packet as JSON")?;
            line.push('\n');
            line
        } else {
            render::watched(packet)
        };
        Ok(output::print_some(&text)? == output::Reader::There)
    }))
}

/// `vip-lb capture`.
pub(super) fn capture(client: &Client, args: &CaptureArgs) -> anyhow::Result<Exit> {
    let request = WatchRequest { bytes: Some(args.snap), ..request(&args.filter)? };
    let to_stdout = args.write.as_os_str() == "-";
    let mut file: Box<dyn Write> = if to_stdout {
        Box::new(io::stdout())
    } else {
        let path = &args.write;
        Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?)
    };
    let mut capture = Capture::default();
    let mut write = move |bytes: &[u8]| match file.write_all(bytes).and_then(|()| file.flush()) {
        // A reader that went away has had enough.
        Err(error) if to_stdout && error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true).context("cannot write the capture"),
    };
    run(async {
        if !write(&Capture::head())? {
            return Ok(Exit::Success);
        }
        watch(client, &args.filter, request, |packet| {
            for part in parts(packet) {
                let bytes =
                    part.frame.decoded().context("the daemon's packet is not in hexadecimal digits")?;
                let block = capture.packet(&Packet {
                    interface: part.interface,
                    at_us: packet.at_us,
                    bytes: &bytes,
                    length: part.frame.length,
                    direction: part.direction,
                    comment: &part.comment,
                });
                if !write(&block)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
        .await
    })
}

/// A packet as it came or as it left.
struct Part<'p> {
    interface: &'p str,
    frame: &'p Frame,
    direction: Direction,
    comment: String,
}

/// What is written of a packet: as it came, and as it left if that is another matter than going on as it came.
fn parts(packet: &WatchedPacket) -> Vec<Part<'_>> {
    let fate = render::fate(packet);
    let came = Part {
        interface: &packet.interface,
        frame: &packet.came,
        direction: Direction::Inbound,
        comment: format!("came: {fate}"),
    };
    let mut parts = vec![came];
    let changed = |left: &&Frame| packet.verdict.action != Action::Pass || **left != packet.came;
    if let Some(left) = packet.left.as_ref().filter(changed) {
        let outbound = packet.verdict.action != Action::Pass;
        parts.push(Part {
            interface: packet.egress.as_ref().unwrap_or(&packet.interface),
            frame: left,
            direction: if outbound { Direction::Outbound } else { Direction::Inbound },
            comment: format!("left: {fate}"),
        });
    }
    parts
}

/// Takes packets until there were as many as wanted, the time is over, nobody reads any more, or the user interrupts.
async fn watch(
    client: &Client,
    filter: &FilterArgs,
    request: WatchRequest,
    mut take: impl FnMut(&WatchedPacket) -> anyhow::Result<bool>,
) -> anyhow::Result<Exit> {
    let mut stream = client.watch(&request).await?;
    let (mut shown, mut missed) = (0_u64, 0);
    let over = async {
        match filter.duration {
            Some(duration) => time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let mut over = std::pin::pin!(over);
    while filter.count.is_none_or(|count| shown < count) {
        let heard = tokio::select! {
            heard = next(&mut stream) => heard?,
            () = &mut over => break,
            _ = signal::ctrl_c() => break,
        };
        match heard {
            Some(Watched::Packet(packet)) => {
                shown += 1;
                if !take(&packet)? {
                    break;
                }
            }
            Some(Watched::Count { missed: so_far, .. }) => missed = so_far,
            None => anyhow::bail!("the daemon stopped"),
        }
    }
    if missed > 0 {
        output::note(&format!(
            "{missed} more packets were asked for but could not be shown: see --rate and --every"
        ));
    }
    Ok(Exit::Success)
}

async fn next(stream: &mut EventStream<Watched>) -> anyhow::Result<Option<Watched>> {
    Ok(stream.next().await?)
}

/// What the arguments ask for.
fn request(filter: &FilterArgs) -> Result<WatchRequest, UsageError> {
    let families = [filter.source, filter.destination].map(|of| of.map(|prefix| prefix.address().is_ipv4()));
    if let [Some(source), Some(destination)] = families
        && source != destination
    {
        return Err(UsageError(
            "the source and the destination are of different families: no packet has both".into(),
        ));
    }
    let mut verdicts = filter.verdict.clone();
    if filter.drops {
        verdicts.push("drop".to_owned());
    }
    Ok(WatchRequest {
        source: filter.source.map(|prefix| prefix.to_string()),
        source_port: filter.source_port,
        destination: filter.destination.map(|prefix| prefix.to_string()),
        destination_port: filter.port,
        protocol: filter.protocol.clone(),
        interface: filter.interface.clone(),
        verdict: (!verdicts.is_empty()).then(|| verdicts.join(",")),
        every: filter.every,
        rate: filter.rate,
        bytes: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;

    #[test]
    fn a_dropped_packet_came_and_a_forwarded_one_left_too() {
        let packet = samples::watched();
        let both = parts(&packet);
        let [came, left] = &both[..] else { panic!("{} parts", both.len()) };
        assert_eq!((came.interface, came.direction), ("eth0", Direction::Inbound));
        assert_eq!((left.interface, left.direction), ("eth1", Direction::Outbound));
        assert_eq!(
            came.comment,
            "came: forwarded_ipip, web/b1 10.0.0.1: every flow of a closed slot, slot 1234"
        );
        let dropped = WatchedPacket {
            left: None,
            backend: None,
            slot: None,
            verdict: vip_lb_common::Verdict::NoBackend.into(),
            ..packet.clone()
        };
        let one = parts(&dropped);
        assert_eq!(one.len(), 1);
        assert_eq!(one[0].comment, "came: no_backend, service web: The service has no backend at present.");
        // What the host gets unchanged left no other way.
        let passed = WatchedPacket {
            left: Some(packet.came.clone()),
            verdict: vip_lb_common::Verdict::LocalBackend.into(),
            ..packet
        };
        assert_eq!(parts(&passed).len(), 1);
    }
}
