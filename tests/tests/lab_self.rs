//! The lab itself does what the scenarios believe it does. Needs root, and no daemon.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{
    Daemon, EchoServer, Family, Flood, FloodKind, HttpLoad, HttpServer, Lab, LabOptions, LoadOptions,
    LongConnections, Mode, Node, SiteOptions, Transport, UdpFlows, command, fetch, vip, wait_for,
    who_answers,
};

fn lab() -> Result<Lab> {
    Lab::new(&LabOptions { edges: 1, backends: 2, ..LabOptions::default() })
}

/// Whatever carries the lab's name: namespaces, its folder, its pins.
fn remains_of(name: &str) -> Result<Vec<String>> {
    let mut found: Vec<String> = command::run("ip", &["netns", "list"])?
        .lines()
        .filter(|line| line.split('-').next() == Some(name))
        .map(str::to_owned)
        .collect();
    found.extend(
        Some(std::env::temp_dir().join(name)).filter(|path| path.exists()).map(|p| p.display().to_string()),
    );
    for pins in Path::new("/sys/fs/bpf").read_dir().into_iter().flatten().flatten() {
        found.extend(
            pins.file_name().to_str().filter(|pin| pin.split('-').next() == Some(name)).map(str::to_owned),
        );
    }
    Ok(found)
}

#[test]
fn namespaces_come_and_go_also_when_a_test_panics() -> Result<()> {
    let lab = lab()?;
    let name = lab.scratch.name().to_owned();
    ensure!(
        remains_of(&name)?.len() == 6,
        "client, edge, two backends, switch and folder: {:?}",
        remains_of(&name)?
    );
    ensure!(lab.namespaces().count() == 5);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _lab = lab;
        panic!("on purpose");
    }));
    ensure!(panic.is_err());
    ensure!(remains_of(&name)?.is_empty(), "left behind: {:?}", remains_of(&name)?);
    Ok(())
}

#[test]
fn what_a_killed_process_left_is_swept_away_unless_kept() -> Result<()> {
    // No process has this number: the kernel's largest is 4194304. And no other run of this test.
    let nobody = 4_194_304 + std::process::id();
    for (number, kept) in [(0, false), (1, true)] {
        let name = &format!("vl{nobody}x{number}");
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder)?;
        if kept {
            std::fs::write(folder.join("keep"), "")?;
        }
        let namespace = format!("{name}-client");
        command::run("ip", &["netns", "add", &namespace])?;
        let mut inside = Command::new("ip").args(["netns", "exec", &namespace, "sleep", "60"]).spawn()?;
        wait_for("the process inside", Duration::from_secs(5), || {
            // Another test's lab may have swept it already.
            let pids = command::run("ip", &["netns", "pids", &namespace]).unwrap_or_default();
            Ok((!pids.is_empty() || inside.try_wait()?.is_some()).then_some(()))
        })?;
        let lab = lab()?;
        let remains = remains_of(name)?;
        drop(lab);
        if kept {
            inside.kill()?;
            command::run("ip", &["netns", "del", &namespace])?;
            std::fs::remove_dir_all(&folder)?;
        }
        inside.wait()?;
        ensure!(remains.is_empty() != kept, "{name}: {remains:?}");
    }
    Ok(())
}

#[test]
fn web_servers_answer_across_the_switch_in_both_families() -> Result<()> {
    let lab = lab()?;
    let servers =
        lab.backends.iter().map(|node| HttpServer::start(node, &lab.scratch)).collect::<Result<Vec<_>>>()?;
    for family in Family::BOTH {
        for node in &lab.backends {
            let target = (node.address(family), HttpServer::PORT).into();
            let report = HttpLoad::run(&lab.client.namespace, LoadOptions::count(target, 200))?;
            ensure!(report.failed().count() == 0, "{:?}", report.errors());
            ensure!(report.share_error(&[(&node.name, 1)]) == 0.0, "{:?}", report.by_backend());
            ensure!(report.requests.len() == 200);
        }
    }
    let own = (lab.backends[0].address(Family::V4), HttpServer::PORT).into();
    let health = || fetch(&lab.client.namespace, own, "/healthz").map(|answer| answer.0);
    ensure!(health()? == 200);
    servers[0].set_healthy(false)?;
    ensure!(health()? == 503);
    ensure!(fetch(&lab.client.namespace, own, "/")?.1 == "backend-1", "a sick server goes on answering");
    servers[0].set_healthy(true)?;
    ensure!(health()? == 200);
    Ok(())
}

#[test]
fn backends_serve_the_vip_but_do_not_announce_it() -> Result<()> {
    let lab = lab()?;
    let _servers =
        lab.backends.iter().map(|node| HttpServer::start(node, &lab.scratch)).collect::<Result<Vec<_>>>()?;
    for family in Family::BOTH {
        let target = (vip(family), HttpServer::PORT).into();
        ensure!(fetch(&lab.client.namespace, target, "/").is_err(), "nobody forwards {target} yet");
        let neighbour = lab.client.namespace.ip(&["neigh", "show", &vip(family).to_string()])?;
        ensure!(!neighbour.contains("lladdr"), "somebody answered for the VIP: {neighbour}");
    }
    // A route to a backend stands in for the rewritten MAC address.
    lab.route_vips_through(&lab.backends[1])?;
    for family in Family::BOTH {
        let answer = fetch(&lab.client.namespace, (vip(family), HttpServer::PORT).into(), "/")?;
        ensure!(answer == (200, "backend-2".to_owned()), "{answer:?}");
    }
    Ok(())
}

#[test]
fn long_connections_live_until_their_server_dies() -> Result<()> {
    let lab = lab()?;
    let mut servers = lab.backends.iter().map(EchoServer::start).collect::<Result<Vec<_>>>()?;
    for family in Family::BOTH {
        let open = |node: &Node| {
            let target = (node.address(family), EchoServer::PORT).into();
            LongConnections::open(&lab.client.namespace, target, 10)
        };
        let doomed = open(&lab.backends[0])?;
        let safe = open(&lab.backends[1])?;
        safe.exchange(5)?;
        doomed.exchange(5)?;
        ensure!(doomed.broken().is_empty() && safe.broken().is_empty());
        ensure!(doomed.by_backend().get("backend-1") == Some(&10), "{:?}", doomed.by_backend());
        servers.remove(0).kill();
        wait_for("the connections to break", Duration::from_secs(5), || {
            Ok((doomed.broken().len() == 10).then_some(()))
        })?;
        safe.exchange(5)?;
        ensure!(safe.broken().is_empty(), "{:?}", safe.broken());
        servers.insert(0, EchoServer::start(&lab.backends[0])?);
    }
    Ok(())
}

#[test]
fn a_pulled_cable_is_noticed_and_can_be_put_back() -> Result<()> {
    let lab = lab()?;
    let node = &lab.backends[0];
    let _server = EchoServer::start(node)?;
    let target = (node.address(Family::V4), EchoServer::PORT).into();
    let connections = LongConnections::open(&lab.client.namespace, target, 3)?;
    lab.set_cable(node, false)?;
    wait_for("the connections to break", Duration::from_secs(10), || {
        Ok((connections.broken().len() == 3).then_some(()))
    })?;
    lab.set_cable(node, true)?;
    LongConnections::open(&lab.client.namespace, target, 3).context("after the cable is back")?.exchange(1)
}

#[test]
fn echo_says_who_answers_a_chosen_port() -> Result<()> {
    let lab = lab()?;
    let _servers = lab.backends.iter().map(EchoServer::start).collect::<Result<Vec<_>>>()?;
    let ports: Vec<u16> = (20_000..20_200).collect();
    // At the VIP, so that the answers have to come from the address that was asked.
    lab.route_vips_through(&lab.backends[1])?;
    for family in Family::BOTH {
        for transport in [Transport::Tcp, Transport::Udp] {
            let target = (vip(family), EchoServer::PORT).into();
            let names = who_answers(&lab.client.namespace, target, transport, &ports)?;
            ensure!(
                names.keys().copied().eq(ports.iter().copied()),
                "{transport:?}: {} answers",
                names.len()
            );
            let who: BTreeSet<_> = names.into_values().collect();
            ensure!(who.iter().eq(["backend-2"]), "{transport:?} over {family:?}: {who:?}");
        }
    }
    Ok(())
}

#[test]
fn udp_flows_notice_another_backend() -> Result<()> {
    let lab = lab()?;
    let _servers = lab.backends.iter().map(EchoServer::start).collect::<Result<Vec<_>>>()?;
    lab.route_vips_through(&lab.backends[0])?;
    let flows = UdpFlows::open(&lab.client.namespace, (vip(Family::V4), EchoServer::PORT).into(), 8)?;
    flows.exchange(3)?;
    ensure!(
        flows.moved().is_empty() && flows.by_backend().get("backend-1") == Some(&8),
        "{:?}",
        flows.states()
    );
    lab.route_vips_through(&lab.backends[1])?;
    wait_for("all flows to move", Duration::from_secs(5), || Ok((flows.moved().len() == 8).then_some(())))?;
    Ok(())
}

#[test]
fn a_flood_reaches_its_target() -> Result<()> {
    let lab = lab()?;
    let node = &lab.backends[0];
    let received = || -> Result<u64> {
        let statistics = node.namespace.ip(&["-json", "-statistics", "link", "show", "dev", Node::DEVICE])?;
        let links: serde_json::Value = serde_json::from_str(&statistics)?;
        links[0]["stats64"]["rx"]["packets"].as_u64().context("received packets")
    };
    for kind in [FloodKind::Syn, FloodKind::Ack] {
        let before = received()?;
        let target = (node.address(Family::V4), EchoServer::PORT).into();
        let flood = Flood::start(&lab.client.namespace, target, kind, Flood::MODERATE)?;
        wait_for("a thousand packets", Duration::from_secs(10), || {
            Ok((received()? > before + 1000).then_some(()))
        })?;
        ensure!(flood.is_running());
    }
    Ok(())
}

#[test]
fn links_leave_nothing_for_offloads_to_do() -> Result<()> {
    let lab = lab()?;
    let ends = [(&lab.edges[0].namespace, Node::DEVICE), (lab.switch.namespace(), "edge-1")];
    for (namespace, device) in ends {
        let features = namespace.run("ethtool", &["-k", device])?;
        for off in ["tx-checksumming", "tcp-segmentation-offload", "rx-vlan-offload", "tx-vlan-offload"] {
            ensure!(features.contains(&format!("{off}: off")), "{off} on {device}: {features}");
        }
        ensure!(features.contains("generic-receive-offload: on"), "NAPI needs GRO on {device}: {features}");
    }
    Ok(())
}

#[test]
fn a_daemon_that_does_not_start_is_an_error_with_its_log() -> Result<()> {
    let lab = lab()?;
    let binary = PathBuf::from("/bin/ls");
    let options =
        SiteOptions { backends: 2, binary: binary.clone(), ..SiteOptions::new(Mode::L2, Family::V4)? };
    let error = Daemon::start(&lab.edges[0], &lab.scratch, &binary, &options.config(&[100, 200])).err();
    let text = format!("{:#}", error.context("ls is no daemon")?);
    ensure!(text.contains("it ended with exit status: 2") && text.contains("unrecognized option"), "{text}");
    Ok(())
}
