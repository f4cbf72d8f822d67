//! Packets are watched on their way: `explain --live` tells of them, `capture` writes what Wireshark reads, and the flows notice nothing. A
//! node without a daemon leaves its packets to the host where it is configured so.

use std::{
    collections::BTreeMap,
    net::UdpSocket,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vip_lb_tests::lab::{
    Family, Gate, LongConnections, Mode, Pace, Site, SiteOptions, Transport, WatchdogConfig, command,
    patience, wait_for, who_answers,
};

/// Number of the verdict `unattended`.
const UNATTENDED: usize = 45;
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn live_packets_go_where_their_flows_are_answered() -> Result<()> {
    let options = SiteOptions::new(Mode::Ipip, Family::V4)?;
    let config = options.config(&[100, 100, 200]);
    let site = Site::start(options, &config)?;
    let ports: Vec<u16> = (20_000..20_040).collect();
    // So slow that they do not have all of what is looked at for themselves.
    let pace = Pace::new(Duration::from_millis(200), &Gate::default());
    let connections = LongConnections::open_at(&site.lab.client.namespace, site.echo(), 10, &pace)?;
    let vip = site.echo().ip().to_string();
    let port = site.echo().port().to_string();
    let live = ["explain", "--live", "--json", "--count", "60", "--destination", &vip, "--port", &port];
    let (output, answers) = while_it_runs(&site, &live, || {
        who_answers(&site.lab.client.namespace, site.echo(), Transport::Tcp, &ports)
    })?;
    let answered: BTreeMap<u16, String> = answers.into_iter().collect();
    let mut compared = 0;
    let lines: Vec<Value> = output.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(lines.len() == 60, "{} lines", lines.len());
    for packet in &lines {
        ensure!(packet["verdict"]["name"] == "forwarded_ipip", "{packet}");
        ensure!(packet["interface"] == "eth0" && packet["service"] == "echo", "{packet}");
        let source: std::net::SocketAddr = packet["source"].as_str().context("a source")?.parse()?;
        if let Some(name) = answered.get(&source.port()) {
            ensure!(packet["backend"]["name"] == format!("echo/{name}"), "{name} answered {packet}");
            compared += 1;
        }
    }
    ensure!(compared > 0, "no packet of a flow that was answered is among them");
    connections.exchange(3)?;
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
    // Nobody is there any more: the usual state again.
    wait_for("the program to be watched no more", LIMIT, || Ok((flags(&site)? == 0).then_some(())))?;
    site.succeeded();
    Ok(())
}

#[test]
fn a_capture_has_packets_as_they_came_and_left_and_those_dropped() -> Result<()> {
    let options = SiteOptions::new(Mode::Ipip, Family::V4)?;
    let config = options.config(&[100, 100]);
    let site = Site::start(options, &config)?;
    let connections = LongConnections::open(&site.lab.client.namespace, site.echo(), 5)?;
    let scratch = site.lab.scratch.path().join("watched.pcapng");
    let file = scratch.to_str().context("a path in UTF-8")?;
    let nobody = std::net::SocketAddr::new(site.echo().ip(), 4711);
    let socket = site.lab.client.namespace.enter(|| UdpSocket::bind("0.0.0.0:0"))??;
    let capture = ["capture", "-w", file, "--count", "80"];
    while_it_runs(&site, &capture, || {
        // To a port that no service has, again and again: nobody knows when the capture begins.
        socket.send_to(b"who", nobody)?;
        Ok(())
    })?;
    let fields = ["frame.comment", "frame.interface_name", "ip.dst", "frame.protocols", "frame.len"];
    let mut arguments = vec!["-r", file, "-T", "fields", "-E", "separator=|", "-E", "occurrence=a"];
    for field in fields {
        arguments.extend(["-e", field]);
    }
    let text = command::run("tshark", &arguments)?;
    let came: Vec<&str> = text.lines().filter(|line| line.starts_with("came: ")).collect();
    let left: Vec<&str> = text.lines().filter(|line| line.starts_with("left: ")).collect();
    ensure!(came.len() == 80, "{} packets came:\n{text}", came.len());
    let forwarded =
        |lines: &[&str]| lines.iter().filter(|line| line.contains("forwarded_ipip, echo/backend-")).count();
    ensure!(forwarded(&came) > 0 && forwarded(&came) == forwarded(&left), "{text}");
    ensure!(
        left.iter().all(|line| !line.contains("forwarded_ipip") || line.contains("eth:ethertype:ip:ip:")),
        "{text}"
    );
    ensure!(came.iter().any(|line| line.contains("unknown_service")), "nothing was dropped:\n{text}");
    ensure!(!left.iter().any(|line| line.contains("unknown_service")), "{text}");
    ensure!(connections.broken().is_empty(), "{:?}", connections.broken());
    let checked = command::run("capinfos", &["-c", "-E", file])?;
    ensure!(checked.contains("Ethernet"), "{checked}");
    site.succeeded();
    Ok(())
}

#[test]
fn without_a_daemon_packets_go_to_the_host_where_it_is_configured_so() -> Result<()> {
    let options = SiteOptions::new(Mode::L2, Family::V4)?;
    let mut config = options.config(&[100, 100]);
    let after = 5 * patience();
    config.node.watchdog = Some(WatchdogConfig { after: format!("{after}s"), action: "pass".to_owned() });
    let mut site = Site::start(options, &config)?;
    let status: Value = site.daemon().ask_json(&["status"])?;
    ensure!(status["watchdog"]["action"] == "pass" && status["watchdog"]["after"] == after, "{status}");
    let ports: Vec<u16> = (20_000..20_040).collect();
    let answers = |site: &Site| who_answers(&site.lab.client.namespace, site.echo(), Transport::Tcp, &ports);
    let before = answers(&site)?;
    site.daemon_mut().kill()?;
    ensure!(answers(&site)? == before, "it does not forward on for as long as it was told");
    wait_for("packets to go to the host", LIMIT, || {
        let _ = who_answers(&site.lab.client.namespace, site.echo(), Transport::Udp, &[30_000]);
        Ok((verdicts(&site, UNATTENDED)? > 0).then_some(()))
    })?;
    site.daemon_mut().launch()?;
    let passed = verdicts(&site, UNATTENDED)?;
    ensure!(answers(&site)? == before, "flows go elsewhere than before");
    ensure!(verdicts(&site, UNATTENDED)? == passed, "the daemon is there, and packets go to the host");
    site.succeeded();
    Ok(())
}

/// Runs `vip-lb` with these arguments until it ends, and makes traffic all the while. Returns what it printed and what the last traffic was.
fn while_it_runs<T>(
    site: &Site,
    arguments: &[&str],
    mut traffic: impl FnMut() -> Result<T>,
) -> Result<(String, T)> {
    let daemon = site.daemon();
    let mut child = Running(
        Command::new(daemon.binary())
            .arg("--socket")
            .arg(daemon.socket())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?,
    );
    let last = wait_for("enough packets to be seen", LIMIT, || {
        let last = traffic()?;
        Ok(child.0.try_wait()?.map(|_| last))
    })?;
    let mut output = String::new();
    std::io::Read::read_to_string(&mut child.0.stdout.take().context("its output")?, &mut output)?;
    let mut errors = String::new();
    std::io::Read::read_to_string(&mut child.0.stderr.take().context("its errors")?, &mut errors)?;
    let status = child.0.wait()?;
    ensure!(status.success(), "{status}: {errors}");
    Ok((output, last))
}

/// A child that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// SETTINGS.flags.
fn flags(site: &Site) -> Result<u64> {
    let entries = site.daemon().map_entries("SETTINGS")?;
    entries[0]["formatted"]["value"]["flags"].as_u64().with_context(|| format!("no flags in {entries:?}"))
}

/// Packets with this verdict, on all CPUs, with or without a daemon.
fn verdicts(site: &Site, number: usize) -> Result<u64> {
    let entries = site.daemon().map_entries("VERDICTS")?;
    let values = entries[number]["formatted"]["values"].as_array().context("values of all CPUs")?;
    Ok(values.iter().filter_map(|value| value["value"].as_u64()).sum())
}
