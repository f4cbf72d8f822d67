//! `vip-lb decap` on a real interface: what it lets through, what it leaves alone, and that it goes without a trace.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use vip_lb_common::{Verdict, checksum::Sum};
use vip_lb_tests::lab::{
    Decap, Family, Lab, LabOptions, Node, RawLink, command, daemon_binary, edge_address, vip, wait_for,
};

const PORT: u16 = 5300;
const IPIP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const UDP: u8 = 17;

#[test]
fn every_family_in_every_family_arrives_and_nothing_else() -> Result<()> {
    let scene = Scene::new()?;
    let edges = Family::BOTH.map(|family| edge_address(0, family));
    let decap = scene.start(&edges)?;
    for (outer, inner) in PAIRS {
        let name = format!("{inner:?} in {outer:?}");
        let edge = edge_address(0, outer);
        let stranger = edge_address(1, outer);
        scene.send(outer, stranger, inner, vip(inner), "a stranger's")?;
        scene.send(outer, edge, inner, scene.backend().address(inner), "not for the VIP")?;
        scene.send(outer, edge, inner, vip(inner), &name)?;
        // What came before in the same queue would have arrived before.
        ensure!(scene.receive(inner)? == name, "{name} is the first to arrive");
    }
    scene.wait_verdicts(&decap, [4, 4, 4])
}

#[test]
fn the_lists_change_while_it_runs() -> Result<()> {
    let scene = Scene::new()?;
    let [first, second] = [0, 1].map(|index| edge_address(index, Family::V4));
    let decap = scene.start(&[first])?;
    let send = |from, text| scene.send(Family::V4, from, Family::V4, vip(Family::V4), text);
    send(second, "too early")?;
    send(first, "one")?;
    ensure!(scene.receive(Family::V4)? == "one");
    scene.wait_verdicts(&decap, [1, 1, 0])?;

    let said = decap.allow(&[format!("{second}/32")], &[vip(Family::V4), vip(Family::V6)])?;
    ensure!(said.contains("in place of the earlier program"), "{said}");
    send(first, "too late")?;
    send(second, "two")?;
    ensure!(scene.receive(Family::V4)? == "two");
    scene.wait_verdicts(&decap, [2, 2, 0])?;

    // A prefix of the network, and the other VIP only.
    decap.allow(&["10.77.0.0/24".to_owned()], &[vip(Family::V6)])?;
    send(first, "for a VIP of the past")?;
    scene.send(Family::V4, first, Family::V6, vip(Family::V6), "three")?;
    ensure!(scene.receive(Family::V6)? == "three");
    scene.wait_verdicts(&decap, [3, 2, 1])
}

#[test]
fn unloading_detaches_and_leaves_nothing() -> Result<()> {
    let scene = Scene::new()?;
    scene.backend().namespace.run("ethtool", &["-K", Node::DEVICE, "rxvlan", "on"])?;
    let edge = edge_address(0, Family::V4);
    let decap = scene.start(&[edge])?;
    ensure!(scene.is_attached()?);
    ensure!(!scene.offloads_vlan()?, "VLAN tags must be seen");
    let record = Path::new("/run/vip-lb/changes").join(format!(
        "sys%fs%bpf%{}",
        decap.pins().file_name().and_then(|name| name.to_str()).context("a name")?
    ));
    ensure!(record.exists());

    let said = decap.unload()?;
    ensure!(said == "eth0: detached, VLAN receive offload turned on again\n", "{said}");
    ensure!(!scene.is_attached()?, "detached by the time the command ends");
    ensure!(scene.offloads_vlan()?);
    ensure!(!decap.pins().exists() && !record.exists());
    ensure!(decap.unload()? == "eth0: nothing is loaded\n");

    // `unload` finds decapsulators, too.
    decap.allow(&[format!("{edge}/32")], &[vip(Family::V4)])?;
    ensure!(scene.is_attached()?);
    let pins = decap.pins().display().to_string();
    let unload = || {
        let mut command = scene.backend().namespace.command(&scene.binary);
        command::output_of(command.args(["unload", "--pins", &pins]))
    };
    let said = unload()?;
    ensure!(
        said == format!("eth0: detached, VLAN receive offload turned on again\nremoved {pins}\n"),
        "{said}"
    );
    ensure!(!scene.is_attached()? && scene.offloads_vlan()? && !decap.pins().exists());
    let said = unload()?;
    ensure!(said == format!("nothing is loaded: no pins in {pins}\n"), "{said}");
    Ok(())
}

#[test]
fn a_new_interface_of_the_old_name_gets_a_program_of_its_own() -> Result<()> {
    let scene = Scene::new()?;
    let edge = edge_address(0, Family::V4);
    let decap = scene.start(&[edge])?;
    let namespace = &scene.backend().namespace;
    namespace.ip(&["link", "del", Node::DEVICE])?;
    namespace.ip(&["link", "add", Node::DEVICE, "type", "veth", "peer", "name", "far"])?;
    ensure!(!scene.is_attached()?);
    let said = decap.allow(&[format!("{edge}/32")], &[vip(Family::V4)])?;
    ensure!(said.starts_with("eth0: attached in native mode\n"), "{said}");
    ensure!(scene.is_attached()?);

    // Gone for good, there is still something to remove.
    namespace.ip(&["link", "del", Node::DEVICE])?;
    let said = decap.unload()?;
    ensure!(said.starts_with("eth0: detached"), "{said}");
    ensure!(!decap.pins().exists());
    Ok(())
}

#[test]
fn errors_say_what_is_in_the_way_and_leave_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let namespace = &scene.backend().namespace;
    let [pins, other] = ["a", "b"].map(|name| format!("/sys/fs/bpf/{}-{name}", scene.lab.scratch.name()));
    let fails = |interface: &str, pins: &str| -> Result<String> {
        let mut command = namespace.command(&scene.binary);
        command.args(["decap", "--interface", interface, "--from", "10.77.0.5", "--vip", "10.77.1.1"]);
        let output = command.args(["--pins", pins]).output()?;
        ensure!(output.status.code() == Some(1), "{output:?}");
        Ok(String::from_utf8(output.stderr)?)
    };
    let missing = fails("eth9", &pins)?;
    ensure!(missing == "vip-lb: interface `eth9` does not exist\n", "{missing}");
    ensure!(!Path::new(&pins).exists());

    let elsewhere = scene.lab.scratch.path().join("pins");
    let elsewhere = fails(Node::DEVICE, elsewhere.to_str().context("a path in UTF-8")?)?;
    ensure!(elsewhere.contains("is no folder below the root of a BPF file system"), "{elsewhere}");
    let root = fails(Node::DEVICE, "/sys/fs/bpf")?;
    ensure!(root.contains("is no folder below the root of a BPF file system"), "{root}");

    let _decap = scene.start(&[edge_address(0, Family::V4)])?;
    let busy = fails(Node::DEVICE, &other)?;
    ensure!(busy.contains("another XDP program is attached"), "{busy}");
    ensure!(!Path::new(&other).exists());
    ensure!(scene.is_attached()?);

    // Somebody else's pins are not ours to remove.
    fs::create_dir(&other)?;
    let mut unload = namespace.command(&scene.binary);
    let output = unload.args(["unload", "--pins", &other]).output();
    let existed = Path::new(&other).exists();
    fs::remove_dir(&other)?;
    let said = String::from_utf8(output?.stderr)?;
    ensure!(existed && said == format!("vip-lb: {other} holds no pins of vip-lb\n"), "{said}");
    Ok(())
}

const PAIRS: [(Family, Family); 4] =
    [(Family::V4, Family::V4), (Family::V4, Family::V6), (Family::V6, Family::V4), (Family::V6, Family::V6)];

/// An edge node that sends whatever frames it likes, and a backend that listens on both VIPs.
struct Scene {
    sender: RawLink,
    listeners: [UdpSocket; 2],
    binary: std::path::PathBuf,
    lab: Lab,
}

impl Scene {
    fn new() -> Result<Self> {
        let lab = Lab::new(&LabOptions { edges: 1, backends: 1, ..LabOptions::default() })?;
        let sender = RawLink::sender(&lab.edges[0].namespace, Node::DEVICE)?;
        let listen = |family| -> Result<UdpSocket> {
            let socket = lab.backends[0].namespace.enter(|| UdpSocket::bind((vip(family), PORT)))??;
            socket.set_read_timeout(Some(Duration::from_secs(10)))?;
            Ok(socket)
        };
        Ok(Self {
            sender,
            listeners: [listen(Family::V4)?, listen(Family::V6)?],
            binary: daemon_binary()?,
            lab,
        })
    }

    fn backend(&self) -> &Node {
        &self.lab.backends[0]
    }

    fn start(&self, edges: &[IpAddr]) -> Result<Decap> {
        Decap::start(self.backend(), &self.lab.scratch, &self.binary, edges, None)
    }

    /// Sends a client's datagram to `destination`, in a tunnel from `edge` to the backend.
    fn send(
        &self,
        outer: Family,
        edge: IpAddr,
        inner: Family,
        destination: IpAddr,
        text: &str,
    ) -> Result<()> {
        let client = self.lab.client.address(inner);
        let datagram = packet(UDP, client, destination, &udp(client, destination, text.as_bytes()));
        let protocol = if inner == Family::V4 { IPIP } else { IPV6_IN_IP };
        let tunnelled = packet(protocol, edge, self.backend().address(outer), &datagram);
        let mut frame = mac(self.backend())?.to_vec();
        frame.extend(mac(&self.lab.edges[0])?);
        frame.extend(ether_type(outer).to_be_bytes());
        frame.extend(tunnelled);
        self.sender.send(&frame).context("send a frame")
    }

    fn receive(&self, family: Family) -> Result<String> {
        let mut buffer = [0; 256];
        let (length, from) = self.listeners[usize::from(family == Family::V6)]
            .recv_from(&mut buffer)
            .context("wait for a datagram")?;
        ensure!(from == SocketAddr::new(self.lab.client.address(family), PORT), "from {from}");
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Waits until so many packets were decapsulated, refused by their source, refused by their destination. Those of
    /// the second and third kind are counted before a later one arrives.
    fn wait_verdicts(&self, decap: &Decap, expected: [u64; 3]) -> Result<()> {
        let verdicts = [Verdict::Decapsulated, Verdict::DecapSource, Verdict::DecapDestination];
        let mut last = BTreeMap::new();
        let waited = wait_for("the counters", Duration::from_secs(5), || {
            last = counters(&decap.maps().join("VERDICTS"))?;
            let found = verdicts.map(|verdict| last.get(&(verdict as u32)).copied().unwrap_or(0));
            Ok((found == expected).then_some(()))
        });
        waited.with_context(|| format!("expected {expected:?}, found {last:?}"))
    }

    fn is_attached(&self) -> Result<bool> {
        let shown = self.backend().namespace.ip(&["link", "show", Node::DEVICE])?;
        Ok(shown.contains("prog/xdp"))
    }

    fn offloads_vlan(&self) -> Result<bool> {
        let shown = self.backend().namespace.run("ethtool", &["-k", Node::DEVICE])?;
        Ok(shown.contains("rx-vlan-offload: on"))
    }
}

/// Packets by number of verdict, as bpftool prints them, summed over the CPUs.
fn counters(pin: &Path) -> Result<BTreeMap<u32, u64>> {
    let pin = pin.to_str().context("a path in UTF-8")?;
    let text = command::run("bpftool", &["-j", "map", "dump", "pinned", pin])?;
    let entries: Vec<serde_json::Value> = serde_json::from_str(&text)?;
    let mut counters = BTreeMap::new();
    for entry in &entries {
        // With BTF, bpftool adds the entry in the map's own types.
        let entry = &entry["formatted"];
        let key = entry["key"].as_u64().context("a key")?;
        let values = entry["values"].as_array().context("a value for each CPU")?;
        let sum = values.iter().filter_map(|value| value["value"].as_u64()).sum();
        counters.insert(u32::try_from(key)?, sum);
    }
    Ok(counters)
}

fn mac(node: &Node) -> Result<[u8; 6]> {
    // Name, state, address.
    let shown = node.namespace.ip(&["-br", "link", "show", Node::DEVICE])?;
    let text = shown.split_whitespace().nth(2).context("a MAC address")?;
    let bytes: Vec<u8> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
    bytes.try_into().ok().with_context(|| format!("six bytes, not {text}"))
}

fn ether_type(family: Family) -> u16 {
    if family == Family::V4 { 0x0800 } else { 0x86dd }
}

/// An IP header of either family in front of a payload (RFC 791, RFC 8200).
fn packet(protocol: u8, source: IpAddr, destination: IpAddr, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    let mut packet = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet.extend([0x45, 0]);
            packet.extend((20 + length).to_be_bytes());
            packet.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            let checksum = sum(Sum::default(), &packet).finish();
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
        }
        families => panic!("no packet is of two families: {families:?}"),
    }
    packet.extend(payload);
    packet
}

/// A datagram from and to [`PORT`] (RFC 768).
fn udp(source: IpAddr, destination: IpAddr, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let mut datagram = Vec::new();
    for field in [PORT, PORT, length, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    let mut pseudo = Sum::default().add(UDP.into()).add(length);
    for address in [source, destination] {
        pseudo = match address {
            IpAddr::V4(address) => sum(pseudo, &address.octets()),
            IpAddr::V6(address) => sum(pseudo, &address.octets()),
        };
    }
    let checksum = sum(pseudo, &datagram).finish();
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    datagram
}

fn sum(start: Sum, bytes: &[u8]) -> Sum {
    bytes
        .chunks(2)
        .fold(start, |sum, word| sum.add(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])))
}
