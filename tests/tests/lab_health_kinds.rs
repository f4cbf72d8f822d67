//! Every kind of health check against a real server: up, answering wrongly, gone, and its host gone.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use vip_lb_tests::lab::{
    EchoServer, Family, Mode, Node, Scratch, Site, SiteOptions, backend_address, command, patience, vip,
    wait_for,
};

const PYTHON: &str = "/usr/bin/python3";

/// One service: its name, its check, and what becomes of it when servers answer wrongly, when they are gone, and when the
/// host is; `None` where it stays up.
struct Kind {
    name: &'static str,
    port: u16,
    protocol: &'static str,
    check: &'static str,
    wrong: Option<&'static str>,
    gone: Option<&'static str>,
    unplugged: Option<&'static str>,
}

const NO_CONNECTION: Option<&str> = Some("no connection within");
const SILENT: Option<&str> = Some("no answer within");
const REFUSED: Option<&str> = Some("connection refused");

/// `{folder}` is the lab's.
const KINDS: &[Kind] = &[
    Kind {
        name: "tcp",
        port: EchoServer::PORT,
        protocol: "tcp",
        check: "kind: tcp, send: \"PING\\r\\n\", expect: PING",
        wrong: None,
        gone: REFUSED,
        unplugged: NO_CONNECTION,
    },
    Kind {
        name: "http2",
        port: 8080,
        protocol: "tcp",
        check: "kind: http, http2: true, path: /healthz, expected_status: [200], expected_body: ready",
        wrong: Some("status 503, expected 200"),
        gone: REFUSED,
        unplugged: NO_CONNECTION,
    },
    Kind {
        name: "https",
        port: 8443,
        protocol: "tcp",
        check: "kind: https, host: www.example.net, ca_file: {folder}/ca.pem, path: /healthz, \
                expected_pattern: \"^rea.y\"",
        wrong: Some("status 503, expected 200-399"),
        gone: REFUSED,
        unplugged: NO_CONNECTION,
    },
    Kind {
        name: "https2",
        port: 8444,
        protocol: "tcp",
        check: "kind: https, port: 8443, http2: true, server_name: www.example.net, ca_file: {folder}/ca.pem, method: HEAD",
        wrong: None,
        gone: REFUSED,
        unplugged: NO_CONNECTION,
    },
    Kind {
        name: "grpc",
        port: 50051,
        protocol: "tcp",
        check: "kind: grpc, grpc_service: shop.Cart",
        wrong: Some("gRPC health NOT_SERVING, expected SERVING"),
        gone: REFUSED,
        unplugged: NO_CONNECTION,
    },
    Kind {
        name: "dns",
        port: 53,
        protocol: "udp",
        check: "kind: dns, query: www.example.net, expected_address: 192.0.2.7",
        wrong: Some("192.0.2.8, expected 192.0.2.7"),
        gone: REFUSED,
        unplugged: SILENT,
    },
    Kind {
        name: "dns-tcp",
        port: 53,
        protocol: "tcp",
        check: "kind: dns, query: nowhere.example.net, record: AAAA, expected_code: NXDOMAIN",
        wrong: None,
        gone: REFUSED,
        unplugged: NO_CONNECTION,
    },
    Kind {
        name: "udp",
        port: EchoServer::PORT,
        protocol: "udp",
        check: "kind: udp, send: \"hex:00 ff\", expect: \"hex:ff\"",
        wrong: None,
        gone: REFUSED,
        unplugged: SILENT,
    },
    Kind {
        name: "udp-silent",
        port: 1007,
        protocol: "udp",
        check: "kind: udp, port: 7, send: hello",
        wrong: None,
        gone: Some("refused"),
        // Nothing comes back, and nothing is expected.
        unplugged: None,
    },
    Kind {
        name: "icmp",
        port: 1008,
        protocol: "tcp",
        check: "kind: icmp",
        wrong: None,
        gone: None,
        unplugged: SILENT,
    },
    Kind {
        name: "exec",
        port: 1009,
        protocol: "tcp",
        check: "kind: exec, command: [/bin/sh, -c, \"echo $VIP_LB_ADDRESS $VIP_LB_PORT is ill; test ! -e {folder}/ill\"]",
        wrong: Some("exit status 1: 10.77.0.11 1009 is ill"),
        gone: None,
        unplugged: None,
    },
];

#[test]
fn every_kind_finds_its_server_up_wrong_and_gone() -> Result<()> {
    let options = SiteOptions { backends: 1, ..SiteOptions::new(Mode::L2, Family::V4)? };
    let mut site = Site::start(options.clone(), &options.config(&[100]))?;
    let folder = site.lab.scratch.path().to_owned();
    certificates(&folder)?;
    let mut servers = Servers::start(site.lab.backend("backend-1"), &site.lab.scratch, "192.0.2.7")?;
    configure(&site, &folder)?;
    wait(&site, "right", |_| None)?;
    no_broken_connections(&site, &folder)?;

    // Each server answers as before, but not as is expected.
    fs::write(folder.join("ill"), "")?;
    servers.grpc("shop.Cart NOT_SERVING")?;
    servers.dns = dns(site.lab.backend("backend-1"), &folder, "192.0.2.8", servers.dns.take())?;
    wait(&site, "wrong", |kind| kind.wrong)?;

    fs::remove_file(folder.join("ill"))?;
    servers.grpc("shop.Cart SERVING")?;
    servers.dns = dns(site.lab.backend("backend-1"), &folder, "192.0.2.7", servers.dns.take())?;
    wait(&site, "right again", |_| None)?;

    drop(servers);
    site.kill_servers("backend-1");
    wait(&site, "gone", |kind| kind.gone)?;

    let servers = Servers::start(site.lab.backend("backend-1"), &site.lab.scratch, "192.0.2.7")?;
    site.start_servers("backend-1")?;
    wait(&site, "back", |_| None)?;

    site.lab.set_cable(site.lab.backend("backend-1"), false)?;
    wait(&site, "unplugged", |kind| kind.unplugged)?;
    drop(servers);
    site.succeeded();
    Ok(())
}

/// Brings a service for each kind in force, instead of those of the lab.
fn configure(site: &Site, folder: &Path) -> Result<()> {
    let text = site.daemon().config_text()?;
    let (node, _) = text.split_once("vips:").context("vips")?;
    let mut text = format!("{node}vips:\n- address: {}\n  services:\n", vip(Family::V4));
    let address = backend_address(0, Family::V4);
    let interval = 300 * patience();
    for Kind { name, port, protocol, check, .. } in KINDS {
        let check = check.replace("{folder}", &folder.display().to_string());
        text.push_str(&format!(
            "  - name: {name}\n    port: {port}\n    protocol: {protocol}\n    mode: l2\n    \
             health: {{{check}, interval: {interval}ms, timeout: {interval}ms, rise: 2, fall: 2, flap_hold: 0s}}\n    \
             backends: [{{name: b, address: {address}}}]\n"
        ));
    }
    site.daemon().write_config_text(&text)?;
    site.daemon().ask(&["reload"])?;
    Ok(())
}

/// Waits until every service is down for the reason that `expected` gives, or up where it gives none.
fn wait(site: &Site, stage: &str, expected: impl Fn(&Kind) -> Option<&'static str>) -> Result<()> {
    let mut wrong = Vec::new();
    let found = wait_for(stage, Duration::from_secs(20), || {
        let status = site.daemon().status()?;
        wrong.clear();
        for kind in KINDS {
            let mut services = status.vips.iter().flat_map(|vip| &vip.services);
            let service = services.find(|service| service.name == kind.name);
            let health = &service.with_context(|| kind.name)?.backends[0].health;
            let reason = health.reason.as_deref().unwrap_or_default();
            let as_expected = match expected(kind) {
                None => health.state == "up",
                Some(words) => health.state == "down" && reason.contains(words),
            };
            if !as_expected {
                wrong.push(format!(
                    "{} is {} ({reason}), expected {:?}",
                    kind.name,
                    health.state,
                    expected(kind)
                ));
            }
        }
        Ok(wrong.is_empty().then_some(()))
    });
    found.with_context(|| wrong.join("\n"))
}

/// Sees that nginx has nothing to say of how probes end their connections, though it would of others.
fn no_broken_connections(site: &Site, folder: &Path) -> Result<()> {
    let said = || -> Result<String> {
        let log = fs::read_to_string(folder.join("kinds.log")).context("read the log of nginx")?;
        Ok(log.lines().filter(|line| !line.contains("[notice]")).collect())
    };
    ensure!(said()?.is_empty(), "{}", said()?);
    // curl does not know the authority, and breaks off.
    let url = format!("https://{}:8443/", backend_address(0, Family::V4));
    let fetched = site.lab.edges[0].namespace.run("curl", &["-sS", "--max-time", "5", &url]);
    ensure!(fetched.is_err(), "{fetched:?}");
    wait_for("nginx to complain", Duration::from_secs(10), || Ok((!said()?.is_empty()).then_some(())))
}

/// An authority, and a certificate of its for www.example.net.
fn certificates(folder: &Path) -> Result<()> {
    let file = |name: &str| folder.join(name).display().to_string();
    let new =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7"];
    let ca = ["-subj", "/CN=lab", "-keyout", &file("ca.key"), "-out", &file("ca.pem")];
    command::run("openssl", &[&new[..], &ca].concat())?;
    let own = [
        "-subj",
        "/CN=www",
        "-addext",
        "subjectAltName=DNS:www.example.net",
        "-addext",
        "basicConstraints=CA:FALSE",
    ];
    let by = [
        "-CA",
        &file("ca.pem"),
        "-CAkey",
        &file("ca.key"),
        "-keyout",
        &file("www.key"),
        "-out",
        &file("www.pem"),
    ];
    command::run("openssl", &[&new[..], &own, &by].concat())?;
    Ok(())
}

/// What runs on the backend beside the lab's own servers.
struct Servers {
    _nginx: Running,
    grpc: Running,
    dns: Option<Running>,
}

impl Servers {
    fn start(node: &Node, scratch: &Scratch, address: &str) -> Result<Self> {
        let folder = scratch.path();
        let dns = dns(node, folder, address, None)?;
        let mut servers = Self { _nginx: nginx(node, folder)?, grpc: grpc(node)?, dns };
        servers.grpc("shop.Cart SERVING")?;
        Ok(servers)
    }

    fn grpc(&mut self, line: &str) -> Result<()> {
        let input = self.grpc.0.stdin.as_mut().context("the input of the gRPC server")?;
        writeln!(input, "{line}").context("tell the gRPC server")
    }
}

fn nginx(node: &Node, folder: &Path) -> Result<Running> {
    let config = folder.join("kinds.conf");
    let shown = folder.display();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {shown}/kinds.pid;\nerror_log {shown}/kinds.log info;\nevents {{}}\n\
         http {{\n access_log off;\n client_body_temp_path {shown}/kinds.body;\n proxy_temp_path {shown}/kinds.proxy;\n \
         fastcgi_temp_path {shown}/kinds.fastcgi;\n uwsgi_temp_path {shown}/kinds.uwsgi;\n scgi_temp_path {shown}/kinds.scgi;\n \
         server {{\n  listen 8080 http2;\n  listen 8443 ssl http2;\n  ssl_certificate {shown}/www.pem;\n  \
         ssl_certificate_key {shown}/www.key;\n  location = /healthz {{\n   if (-f {shown}/ill) {{ return 503; }}\n   \
         return 200 ready;\n  }}\n  location / {{ return 200 here; }}\n }}\n}}\n"
    );
    fs::write(&config, text)?;
    Running::start(node.namespace.command("nginx").arg("-c").arg(&config).args(["-e", "stderr"]))
}

fn dns(node: &Node, folder: &Path, address: &str, former: Option<Running>) -> Result<Option<Running>> {
    drop(former);
    let mut dnsmasq = node.namespace.command("dnsmasq");
    dnsmasq.args([
        "--no-daemon",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--log-facility=/dev/null",
    ]);
    dnsmasq.arg("--local=/example.net/").arg(format!("--address=/www.example.net/{address}"));
    dnsmasq.arg(format!("--pid-file={}", folder.join("dnsmasq.pid").display()));
    Running::start(dnsmasq.stderr(Stdio::null())).map(Some)
}

fn grpc(node: &Node) -> Result<Running> {
    let own = std::env::current_exe()?;
    let modules: PathBuf = own.ancestors().nth(3).map(|target| target.join("python")).unwrap_or_default();
    let mut python = node.namespace.command(PYTHON);
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("grpc/serve.py")).arg("50051");
    python.env("PYTHONPATH", modules).env("PYTHONDONTWRITEBYTECODE", "1");
    Running::start(python.stdin(Stdio::piped()))
}

/// A process that ends with this.
struct Running(Child);

impl Running {
    fn start(command: &mut std::process::Command) -> Result<Self> {
        command.spawn().map(Self).with_context(|| format!("start {command:?}: run cargo xtask setup"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
