//! Debian's routing daemons in the namespaces of a lab, with the very files of `packaging/`, whose addresses become those of the lab.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{
    config::Family,
    scratch::Scratch,
    topology::{Lab, Node, edge_address, vip},
    wait_for,
};

const LIMIT: Duration = Duration::from_secs(20);

/// What speaks BGP on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// BIRD 2.
    Bird,
    /// FRR.
    Frr,
}

/// Routing daemons that run. Dropped, they end.
#[derive(Debug)]
pub struct Routing {
    /// In the order in which they end.
    children: Vec<Child>,
    log: PathBuf,
}

impl Drop for Routing {
    fn drop(&mut self) {
        for child in &mut self.children {
            // SAFETY: the process is a child of this one and has not been waited for.
            unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
            let _ = child.wait();
        }
    }
}

impl Routing {
    /// Makes the client's machine a router: the VIPs lead where nodes of the lab tell it, by BIRD, which a node of the lab that is silent for three
    /// times so many milliseconds is no longer for. It spreads by connections.
    ///
    /// # Errors
    ///
    /// A setting is refused, or BIRD does not start.
    pub fn router(lab: &Lab, bfd_ms: u32) -> Result<Self> {
        let router = &lab.client;
        for family in Family::BOTH {
            let (protocol, name) = if family == Family::V4 { ("-4", "ipv4") } else { ("-6", "ipv6") };
            router.namespace.ip(&[
                protocol,
                "route",
                "del",
                &vip(family).to_string(),
                "dev",
                Node::DEVICE,
            ])?;
            router.namespace.sysctl(&format!("net/{name}/fib_multipath_hash_policy"), "1")?;
        }
        let text = include_str!("../../../packaging/bird/router.conf");
        let text = adapted(text, &bird_words(None, bfd_ms))?;
        bird(router, &lab.scratch, &text)
    }

    /// Starts what speaks BGP on the edge node of this index.
    ///
    /// # Errors
    ///
    /// It does not start, or does not take its configuration.
    pub fn node(lab: &Lab, edge: usize, speaker: Speaker, bfd_ms: u32) -> Result<Self> {
        let node = &lab.edges[edge];
        match speaker {
            Speaker::Bird => {
                let text = include_str!("../../../packaging/bird/vip-lb.conf");
                bird(node, &lab.scratch, &adapted(text, &bird_words(Some(edge), bfd_ms))?)
            }
            Speaker::Frr => {
                let text = include_str!("../../../packaging/frr/vip-lb.conf");
                frr(node, &lab.scratch, &adapted(text, &frr_words(edge, bfd_ms))?)
            }
        }
    }

    /// All that they said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The nodes of the lab that a router sends packets for a VIP to, by its kernel's routes.
    ///
    /// # Errors
    ///
    /// `ip` failed.
    pub fn next_hops(lab: &Lab, family: Family) -> Result<Vec<usize>> {
        let protocol = if family == Family::V4 { "-4" } else { "-6" };
        let shown = lab.client.namespace.ip(&[protocol, "route", "show", &vip(family).to_string()])?;
        let words: Vec<&str> = shown.split_whitespace().collect();
        let is_hop = |index: &usize| {
            let address = edge_address(*index, family).to_string();
            words.windows(2).any(|pair| pair[0] == "via" && pair[1] == address)
        };
        Ok((0..lab.edges.len()).filter(is_hop).collect())
    }

    /// Waits until a router sends packets for a VIP to exactly these nodes.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn wait_next_hops(lab: &Lab, family: Family, wanted: &[usize]) -> Result<()> {
        let mut last = Vec::new();
        wait_for("the router's routes", LIMIT, || {
            last = Self::next_hops(lab, family)?;
            Ok((last == wanted).then_some(()))
        })
        .with_context(|| format!("it leads to {last:?}, not {wanted:?}"))
    }
}

/// What to put in the place of words of a file, in this order.
type Words = Vec<(&'static str, String)>;

/// The words of BIRD's files for an edge node, or for the router.
fn bird_words(edge: Option<usize>, bfd_ms: u32) -> Words {
    let mut words = match edge {
        Some(edge) => vec![
            ("192.0.2.11", edge_address(edge, Family::V4).to_string()),
            ("2001:db8:1::11", edge_address(edge, Family::V6).to_string()),
        ],
        None => {
            vec![("192.0.2.0/24", "10.77.0.0/24".to_owned()), ("2001:db8:1::/64", "fd77::/64".to_owned())]
        }
    };
    words.extend(router_words());
    words.extend([
        ("[ 198.51.100.0/24{32,32} ]", "[ 10.77.1.0/24{32,32} ]".to_owned()),
        ("[ 2001:db8:2::/64{128,128} ]", "[ fd77:1::/64{128,128} ]".to_owned()),
        ("log syslog all", "log stderr all".to_owned()),
        ("interval 50 ms", format!("interval {bfd_ms} ms")),
    ]);
    words
}

fn frr_words(edge: usize, bfd_ms: u32) -> Words {
    let mut words = vec![("192.0.2.11", edge_address(edge, Family::V4).to_string())];
    words.extend(router_words());
    words.extend([
        ("198.51.100.0/24 ge 32", "10.77.1.0/24 ge 32".to_owned()),
        ("2001:db8:2::/64 ge 128", "fd77:1::/64 ge 128".to_owned()),
        ("transmit-interval 50", format!("transmit-interval {bfd_ms}")),
        ("receive-interval 50", format!("receive-interval {bfd_ms}")),
    ]);
    words
}

/// The router's address is the client's.
fn router_words() -> [(&'static str, String); 2] {
    [("192.0.2.1", "10.77.0.2".to_owned()), ("2001:db8:1::1", "fd77::2".to_owned())]
}

/// A file with other words.
///
/// # Errors
///
/// One of them is not there, or the file still names an address of the documentation (RFC 5737, RFC 3849).
fn adapted(text: &str, words: &Words) -> Result<String> {
    let mut adapted = text.to_owned();
    for (word, other) in words {
        ensure!(adapted.contains(word), "`{word}` is not in the file");
        adapted = adapted.replace(word, other);
    }
    for left in ["192.0.2.", "198.51.100.", "2001:db8:"] {
        ensure!(!adapted.contains(left), "an address of {left} is left in the file");
    }
    Ok(adapted)
}

fn bird(node: &Node, scratch: &Scratch, text: &str) -> Result<Routing> {
    let file = |suffix: &str| scratch.path().join(format!("{}-bird.{suffix}", node.name));
    let config = write(&file("conf"), text)?;
    let log = file("log");
    let mut command = node.namespace.command("bird");
    command.arg("-f").arg("-c").arg(config).arg("-s").arg(file("ctl")).arg("-P").arg(file("pid"));
    let routing = Routing { children: vec![spawn(command, &log)?], log };
    ready(&file("ctl"), &routing)?;
    Ok(routing)
}

fn frr(node: &Node, scratch: &Scratch, text: &str) -> Result<Routing> {
    // They give up root, and write their sockets here.
    let folder = scratch.path().join(format!("{}-frr", node.name));
    fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
    let own = folder.to_str().context("a path in UTF-8")?;
    node.namespace.run("chown", &["frr:frr", own])?;
    let log = scratch.path().join(format!("{}-frr.log", node.name));
    let mut routing = Routing { children: Vec::new(), log };
    for daemon in ["zebra", "bgpd", "bfdd"] {
        let mut command = node.namespace.command(Path::new("/usr/lib/frr").join(daemon));
        let empty = write(&folder.join(format!("{daemon}.conf")), "")?;
        command.arg("-f").arg(empty).arg("-i").arg(folder.join(format!("{daemon}.pid")));
        command.arg("-z").arg(folder.join("zserv.api")).arg("--vty_socket").arg(&folder);
        command.args(["-P", "0", "--log", "stdout"]);
        if daemon == "bfdd" {
            command.arg("--bfdctl").arg(folder.join("bfdd.sock"));
        }
        routing.children.insert(0, spawn(command, &routing.log)?);
        ready(&folder.join(format!("{daemon}.vty")), &routing)?;
    }
    let config = write(&folder.join("frr.conf"), text)?;
    let config = config.to_str().context("a path in UTF-8")?;
    node.namespace.run("vtysh", &["--vty_socket", own, "-f", config])?;
    Ok(routing)
}

fn write(path: &Path, text: &str) -> Result<PathBuf> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path.to_owned())
}

fn ready(socket: &Path, routing: &Routing) -> Result<()> {
    wait_for("a routing daemon to start", LIMIT, || Ok(socket.exists().then_some(())))
        .with_context(|| format!("no {}; it says\n{}", socket.display(), routing.log()))
}

/// Starts a daemon, which ends with this process at the latest.
fn spawn(mut command: Command, log: &Path) -> Result<Child> {
    let log = fs::File::options().create(true).append(true).open(log)?;
    // SAFETY: the closure makes one system call, which takes numbers.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
    child.with_context(|| format!("start {}", command.get_program().display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_of_the_files_becomes_one_of_the_lab() {
        for (text, words) in [
            (include_str!("../../../packaging/bird/vip-lb.conf"), bird_words(Some(0), 50)),
            (include_str!("../../../packaging/bird/router.conf"), bird_words(None, 50)),
            (include_str!("../../../packaging/frr/vip-lb.conf"), frr_words(0, 50)),
        ] {
            let text = adapted(text, &words).expect("a file of the lab");
            assert!(text.contains("10.77.0.2") && text.contains("fd77::2"), "{text}");
        }
        let missing =
            adapted("router id 192.0.2.11;", &bird_words(Some(0), 50)).expect_err("words are missing");
        assert!(missing.to_string().contains("2001:db8:1::11"), "{missing}");
    }
}
