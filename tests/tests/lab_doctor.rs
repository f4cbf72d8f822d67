//! `vip-lb doctor` on hosts that one thing is wrong with: it names it, the command that it prints mends it, and then it is content.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use vip_lb_common::abi::{RING_SIZES, Ring};
use vip_lb_tests::lab::{
    BackendSetup, Daemon, Decap, Family, Lab, LabOptions, Mode, Node, SiteOptions, attach_pass, command,
    config::ConfigFile, daemon_binary, edge_address, shell, vip,
};

const OK: i32 = 0;
const WARNINGS: i32 = 5;
const PROBLEMS: i32 = 6;

#[test]
fn a_node_is_mended_by_the_commands_that_are_printed() -> Result<()> {
    let scene = Scene::new(Mode::L2, Family::V4)?;
    let edge = &scene.edge().namespace;
    let address = vip(Family::V4);
    edge.run("ping", &["-c", "1", "10.77.0.11"])?;
    scene.is_content(&["interface", "driver", "program", "route", "neighbour", "vip", "offloads"])?;

    edge.ip(&["link", "set", Node::DEVICE, "down"])?;
    scene.is_named_and_mended("interface", PROBLEMS, "eth0 is down")?;

    edge.ip(&["neigh", "flush", "dev", Node::DEVICE])?;
    scene.is_named_and_mended("neighbour", WARNINGS, "10.77.0.11")?;

    edge.ip(&["addr", "add", &format!("{address}/32"), "dev", Node::DEVICE])?;
    scene.is_named_and_mended("vip", PROBLEMS, "eth0 has 10.77.1.1")?;
    edge.ip(&["addr", "add", &format!("{address}/24"), "dev", "lo"])?;
    scene.is_named_and_mended("vip", PROBLEMS, "lo has 10.77.1.1")?;

    attach_pass(edge, Node::DEVICE)?;
    scene.is_named_and_mended("program", PROBLEMS, "attached to eth0")?;

    let decap = Decap::start(scene.edge(), &scene.lab.scratch, &scene.binary, &[address], None)?;
    scene.is_named_and_mended("program", PROBLEMS, "(vip_lb_decap)")?;
    drop(decap);

    edge.ip(&["addr", "del", "10.77.0.5/24", "dev", Node::DEVICE])?;
    let found = scene.finding("route")?;
    ensure!(found["level"] == "problem" && found["found"].to_string().contains("no route"), "{found}");
    Ok(())
}

#[test]
fn queues_that_lie_idle_are_named_and_put_to_work() -> Result<()> {
    let scene = Scene::new(Mode::L2, Family::V4)?;
    let edge = &scene.edge().namespace;
    let queues = ["numtxqueues", "4", "numrxqueues", "4"];
    let mut link = vec!["link", "add", "q0", "up"];
    link.extend(queues);
    link.extend(["type", "veth", "peer", "name", "q1"]);
    link.extend(queues);
    edge.ip(&link)?;
    edge.ip(&["link", "set", "q1", "up"])?;
    edge.run("ethtool", &["-L", "q0", "rx", "1"])?;
    let mut config = scene.config.clone();
    config.node.interfaces = vec!["q0".to_owned()];
    scene.write(&config)?;
    if std::thread::available_parallelism()?.get() > 1 {
        scene.is_named_and_mended("queues", WARNINGS, "q0 receives by 1 of 4 queues")?;
    }
    Ok(())
}

#[test]
fn a_path_too_small_for_ipv6_is_named_and_mended() -> Result<()> {
    let scene = Scene::new(Mode::Ipip, Family::V6)?;
    let edge = &scene.edge().namespace;
    edge.run("ping", &["-c", "1", "fd77::11"])?;
    edge.ip(&["link", "set", Node::DEVICE, "mtu", "1300"])?;
    let found = scene.finding("mtu")?;
    ensure!(found["level"] == "problem" && found["fix"] == "ip link set dev eth0 mtu 1320", "{found}");
    scene.mend(&found)?;
    let found = scene.finding("mtu")?;
    ensure!(found["level"] == "note", "{found}");
    Ok(())
}

#[test]
fn ports_that_the_host_uses_too_are_named_and_taken_from_it() -> Result<()> {
    let scene = Scene::new(Mode::Nat, Family::V4)?;
    let edge = &scene.edge().namespace;
    let mut config = scene.config.clone();
    config.node.nat = None;
    scene.write(&config)?;
    edge.run("ping", &["-c", "1", "10.77.0.11"])?;
    scene.is_content(&["nat_ports"])?;
    edge.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
    scene.is_named_and_mended("nat_ports", PROBLEMS, "10.77.0.5 has ports 61000 to 65535")
}

#[test]
fn a_strict_filter_on_a_router_with_routes_to_vips_is_named_and_loosened() -> Result<()> {
    let scene = Scene::new(Mode::L2, Family::V4)?;
    let edge = &scene.edge().namespace;
    let mut config = scene.config.clone();
    config.vips[0].ownership = Some("route".to_owned());
    scene.write(&config)?;
    edge.run("ping", &["-c", "1", "10.77.0.11"])?;
    edge.sysctl("net/ipv4/ip_forward", "1")?;
    edge.sysctl("net/ipv4/conf/all/rp_filter", "0")?;
    edge.sysctl(&format!("net/ipv4/conf/{}/rp_filter", Node::DEVICE), "1")?;
    scene.is_named_and_mended("reverse_path", WARNINGS, "rp_filter of eth0 is strict, and 10.77.1.1")
}

#[test]
fn a_missing_bpf_file_system_is_named_and_mounted() -> Result<()> {
    let scene = Scene::new(Mode::L2, Family::V4)?;
    let doctor = format!("vip-lb doctor --config {} --json", scene.path.display());
    // In a mount namespace of its own, where nobody else misses it.
    let script = format!("umount /sys/fs/bpf; {doctor} || true");
    let mut unshared = scene.shell(&format!("exec unshare -m sh -c '{script}'"))?;
    let found = finding(&serde_json::from_str(&command::output_of(&mut unshared)?)?, "bpffs")?;
    ensure!(found["level"] == "problem", "{found}");
    let fix = found["fix"].as_str().context("a command")?;
    let script = format!("umount /sys/fs/bpf; {fix}; {doctor} || true");
    let mut unshared = scene.shell(&format!("exec unshare -m sh -c '{script}'"))?;
    let found = finding(&serde_json::from_str(&command::output_of(&mut unshared)?)?, "bpffs")?;
    ensure!(found["level"] == "ok", "{found}");
    Ok(())
}

/// Both say which gate is closed: the doctor before, the daemon when it is refused.
#[test]
fn the_gate_that_is_closed_is_named() -> Result<()> {
    let scene = Scene::new(Mode::L2, Family::V4)?;
    let config = scene.path.display();
    for (gate, wrapper) in [
        ("lacks CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN", "setpriv --bounding-set=-bpf,-perfmon,-sys_admin"),
        ("lacks CAP_NET_ADMIN", "setpriv --bounding-set=-net_admin"),
        ("in a user namespace", "unshare --user --map-root-user"),
    ] {
        let mut doctor = scene.shell(&format!("{wrapper} vip-lb doctor --config {config} --json || true"))?;
        let found = finding(&serde_json::from_str(&command::output_of(&mut doctor)?)?, "permission")?;
        ensure!(found["level"] == "problem" && found["found"].to_string().contains(gate), "{gate}: {found}");
    }
    let run = format!(
        "setpriv --bounding-set=-bpf,-perfmon,-sys_admin vip-lb run --config {config} 2>&1 && exit 1 || true"
    );
    let said = command::output_of(&mut scene.shell(&run)?)?;
    ensure!(said.contains("lacks CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN"), "{said}");
    ensure!(!PathBuf::from("/sys/fs/bpf").join(scene.lab.scratch.name()).join("VIPS").exists());
    Ok(())
}

#[test]
fn a_backend_is_mended_by_the_commands_that_are_printed() -> Result<()> {
    let lab = Lab::new(&LabOptions { edges: 1, backends: 1, plain: [0].into() })?;
    let node = &lab.backends[0];
    let namespace = &node.namespace;
    let setup = BackendSetup::new(node, Mode::Gue, &lab.scratch)?;
    setup.apply()?;
    let (exit, answer) = setup.doctor()?;
    ensure!(exit == Some(OK) && answer["verdict"] == "ok", "{answer}");

    type Break<'a> = Box<dyn Fn() -> Result<()> + 'a>;
    let sysctl = |name: &'static str, value: &'static str| -> Break<'_> {
        Box::new(move || namespace.sysctl(name, value))
    };
    let ip = |arguments: &'static [&'static str]| -> Break<'_> {
        Box::new(move || namespace.ip(arguments).map(drop))
    };
    let cases: [(&str, Break<'_>); 9] = [
        ("arp", sysctl("net/ipv4/conf/all/arp_ignore", "0")),
        ("arp", sysctl("net/ipv4/conf/eth0/arp_ignore", "3")),
        ("arp", sysctl("net/ipv4/conf/all/arp_announce", "1")),
        ("reverse_path", sysctl("net/ipv4/conf/all/rp_filter", "1")),
        ("ipv6", sysctl("net/ipv6/conf/lo/disable_ipv6", "1")),
        ("address", ip(&["addr", "del", "10.77.1.1/32", "dev", "lo"])),
        ("vip", ip(&["addr", "add", "10.77.1.1/24", "dev", "eth0"])),
        (
            "decapsulation",
            Box::new(|| {
                let pins = setup.pins().display().to_string();
                let arguments = ["decap", "--interface", "eth0", "--unload", "--pins", &pins];
                setup.vip_lb(&arguments.map(str::to_owned)).map(drop)
            }),
        ),
        (
            "decapsulation",
            Box::new(|| {
                let pins = setup.pins().display().to_string();
                let from = edge_address(1, Family::V4).to_string();
                let arguments =
                    ["decap", "--interface", "eth0", "--from", &from, "--vip", "10.77.1.1", "--pins", &pins];
                setup.vip_lb(&arguments.map(str::to_owned)).map(drop)
            }),
        ),
    ];
    for (check, make_wrong) in cases {
        make_wrong()?;
        let (exit, answer) = setup.doctor()?;
        let found = finding(&answer, check)?;
        ensure!(exit == Some(PROBLEMS) && found["level"] == "problem", "{check}: {answer}");
        // What one mistake takes along is named as well.
        for found in answer["findings"].as_array().context("findings")? {
            if let Some(fix) = found["fix"].as_str() {
                setup.shell(fix).with_context(|| format!("mend {found}"))?;
            }
        }
        let (exit, answer) = setup.doctor()?;
        ensure!(exit == Some(OK), "{check} is not mended: {answer}");
    }

    // A default route that announces more than fits the tunnel.
    namespace.ip(&["route", "add", "default", "via", "10.77.0.2"])?;
    let (_, answer) = setup.doctor()?;
    let found = finding(&answer, "segment_size")?;
    ensure!(found["level"] == "note", "{found}");
    setup.shell(found["fix"].as_str().context("a command")?)?;
    let routes = namespace.ip(&["route", "show", "default"])?;
    // 1500 bytes, less an IPv6 and a UDP header outside, an IPv4 and a TCP header inside.
    ensure!(routes.contains("via 10.77.0.2 dev eth0") && routes.contains("advmss 1412"), "{routes}");
    ensure!(finding(&setup.doctor()?.1, "segment_size").is_err(), "still named");
    Ok(())
}

/// What maps take is foretold.
#[test]
fn the_memory_that_is_foretold_is_the_memory_that_is_taken() -> Result<()> {
    let scene = Scene::new(Mode::L2, Family::V4)?;
    let found = scene.finding("memory")?["found"].to_string();
    let foretold: f64 = found
        .split_once("the maps take ")
        .and_then(|(_, rest)| rest.split_once(" MiB")?.0.parse().ok())
        .with_context(|| found.clone())?;
    let daemon = Daemon::start(scene.edge(), &scene.lab.scratch, &scene.binary, &scene.config)?;
    let maps = command::run("bpftool", &["-j", "map", "show"])?;
    let maps: Value = serde_json::from_str(&maps)?;
    let mut bytes = 0;
    for entry in std::fs::read_dir(daemon.pins())? {
        let path = entry?.path();
        if path.is_file() {
            let shown =
                command::run("bpftool", &["-j", "map", "show", "pinned", &path.display().to_string()])?;
            let map: Value = serde_json::from_str(&shown)?;
            bytes += map["bytes_memlock"].as_u64().unwrap_or(0);
        }
    }
    // The rings are maps without pins of their own.
    let rings = maps.as_array().context("a list of maps")?.iter().filter(|map| map["name"] == "ring");
    ensure!(rings.count() >= scene.config.vips[0].services.len(), "no rings in {maps}");
    bytes += (scene.config.vips[0].services.len() * size_of::<Ring<{ RING_SIZES[0] }>>()) as u64;
    let taken = bytes as f64 / 1_048_576.0;
    ensure!((foretold / taken - 1.0).abs() < 0.05, "foretold {foretold} MiB, taken {taken} MiB");
    daemon.succeeded();
    Ok(())
}

/// An edge node with a configuration and a backend; no daemon runs.
struct Scene {
    lab: Lab,
    binary: PathBuf,
    config: ConfigFile,
    path: PathBuf,
}

impl Scene {
    fn new(mode: Mode, family: Family) -> Result<Self> {
        let lab = Lab::new(&LabOptions { edges: 1, backends: 1, ..LabOptions::default() })?;
        let options = SiteOptions { backends: 1, ..SiteOptions::new(mode, family)? };
        let mut config = options.config(&[100]);
        config.node.pins = Some(format!("/sys/fs/bpf/{}", lab.scratch.name()));
        let path = lab.scratch.path().join("doctor.yaml");
        let scene = Self { lab, binary: daemon_binary()?, config, path };
        scene.write(&scene.config)?;
        Ok(scene)
    }

    fn edge(&self) -> &Node {
        &self.lab.edges[0]
    }

    fn write(&self, config: &ConfigFile) -> Result<()> {
        std::fs::write(&self.path, config.to_yaml()?).context("write the configuration")
    }

    fn shell(&self, script: &str) -> Result<Command> {
        shell(&self.edge().namespace.entry(), &self.binary, script)
    }

    fn doctor(&self) -> Result<(i32, Value)> {
        let output =
            self.shell(&format!("exec vip-lb doctor --json --config {}", self.path.display()))?.output()?;
        let answer = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        Ok((output.status.code().context("an exit code")?, answer))
    }

    fn finding(&self, check: &str) -> Result<Value> {
        finding(&self.doctor()?.1, check)
    }

    fn mend(&self, found: &Value) -> Result<()> {
        let fix = found["fix"].as_str().with_context(|| format!("no command in {found}"))?;
        command::output_of(&mut self.shell(fix)?).map(drop)
    }

    fn is_content(&self, checks: &[&str]) -> Result<()> {
        let (_, answer) = self.doctor()?;
        for check in checks {
            let found = finding(&answer, check)?;
            ensure!(found["level"] == "ok", "{found}");
        }
        Ok(())
    }

    fn is_named_and_mended(&self, check: &str, exit: i32, words: &str) -> Result<()> {
        let (code, answer) = self.doctor()?;
        let found = finding(&answer, check)?;
        let level = if exit == PROBLEMS { "problem" } else { "warning" };
        ensure!(found["level"] == level && found["found"].to_string().contains(words), "{check}: {found}");
        ensure!(code >= exit, "exits with {code}: {answer}");
        self.mend(&found)?;
        let found = self.finding(check)?;
        ensure!(found["level"] == "ok", "not mended: {found}");
        Ok(())
    }
}

/// The worst finding of a check.
fn finding(answer: &Value, check: &str) -> Result<Value> {
    let findings = answer["findings"].as_array().context("a list of findings")?;
    let of_check = || findings.iter().filter(|finding| finding["check"] == check);
    for level in ["problem", "warning", "note", "ok"] {
        if let Some(found) = of_check().find(|finding| finding["level"] == level) {
            return Ok(found.clone());
        }
    }
    bail!("nothing of {check} in {answer}")
}
