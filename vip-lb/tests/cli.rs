//! The built `vip-lb` command against a daemon that is imitated: output, exit codes, errors.

use std::{
    fs,
    io::Read,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use vip_lb::{
    api::{
        Control,
        events::{Events, Subscription},
        model::{
            Action, ApiError, BackendChange, BackendSelector, ConfigInfo, ConfigRequest, Counters,
            DrainReport, DrainRequest, ErrorKind, EventsRequest, ExplainRequest, ExplainedService,
            Explanation, HandoverReport, HandoverRequest, Loss, NodeAdmin, NodeReport, Occurrence, Outcome,
            Plan, ReloadReport, Remaining, RevisionInfo, Revisions, Status, Step, TakeBackRequest,
            UpgradeReport, Verdict, VerdictCount, WatchRequest, WatchdogStatus, Watched,
        },
        server::serve,
        socket::{SocketClaim, claim},
    },
    config::model::{Affinity, NodeState, WatchdogAction},
    metrics::Facts,
};

/// A daemon without VIPs whose reload fails, with one backend `web/b1`, and very many verdicts.
#[derive(Default)]
struct Imitation {
    /// Looks at the backend so far; from the third on nothing is left of it.
    looks: AtomicU32,
}

fn verdict(name: &str) -> Verdict {
    Verdict { name: name.into(), meaning: "not for a vip".into(), action: Action::Pass }
}

impl Control for Imitation {
    async fn status(&self) -> Result<Status, ApiError> {
        Ok(Status {
            node: "edge1".into(),
            version: "0.1.0".into(),
            pid: 4711,
            started: 0,
            node_admin: NodeAdmin { admin: NodeState::Enabled, ordered_since: None },
            config: ConfigInfo {
                path: "/etc/vip-lb.yaml".into(),
                hash: "3f9a12bc".into(),
                loaded_at: 0,
                revision: None,
                instead_of_file: None,
            },
            interfaces: Vec::new(),
            bonds: Vec::new(),
            hosts: Vec::new(),
            watchdog: WatchdogStatus { action: WatchdogAction::Forward, after: 30 },
            peering: None,
            vips: Vec::new(),
            tables: Vec::new(),
            warnings: Vec::new(),
        })
    }

    async fn counters(&self) -> Result<Counters, ApiError> {
        // More than a pipe holds, so that writing to a closed one is noticed.
        let count =
            |index: u64| VerdictCount { verdict: verdict(&format!("verdict_{index}")), packets: index };
        Ok(Counters { verdicts: (0..20_000).map(count).collect() })
    }

    async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ApiError> {
        Ok(Explanation {
            request,
            steps: vec![Step { stage: "parse".into(), text: "ethernet, ipv4, udp".into() }],
            verdict: verdict("pass_other"),
            service: Some(ExplainedService { name: "web".into(), affinity: Affinity::Flow }),
            hash: None,
            slot: None,
            backend: None,
            rewrites: Vec::new(),
            egress: None,
        })
    }

    /// Two events, and the end; a third one for who follows.
    async fn events(&self, request: EventsRequest) -> Result<Subscription, ApiError> {
        let events = Events::new();
        events.tell(1_800_000_000_250, Occurrence::DaemonReady { version: "0.1.0".into(), pid: 4711 });
        events.tell(1_800_000_060_000, Occurrence::Warning { text: "eth1: generic mode".into() });
        let subscription = match request.since_ms {
            Some(since) => events.since(since, Vec::new()),
            None => events.subscribe(request.after),
        };
        let follows = request.follow != Some(false);
        let subscription = if follows { subscription } else { subscription.ending_now() };
        events.tell(1_800_000_061_000, Occurrence::DaemonStopping { pid: 4711 });
        events.close();
        Ok(subscription)
    }

    async fn metrics(&self) -> Result<Facts, ApiError> {
        Err(ApiError::new(ErrorKind::Unavailable, "the daemon is starting"))
    }

    async fn watch(&self, _: WatchRequest) -> Result<mpsc::Receiver<Watched>, ApiError> {
        Err(ApiError::new(ErrorKind::Conflict, "4 others watch packets already"))
    }

    async fn drain(&self, DrainRequest { backend, force }: DrainRequest) -> Result<DrainReport, ApiError> {
        report(&backend, if force { "out" } else { "draining" }, force)
    }

    async fn undrain(&self, backend: BackendSelector) -> Result<DrainReport, ApiError> {
        report(&backend, "in ring", false)
    }

    async fn upgrade(&self) -> Result<UpgradeReport, ApiError> {
        Ok(UpgradeReport { pid: 4712, former_pid: 4711, version: "0.1.0".to_owned() })
    }

    async fn drain_node(&self, drain: bool) -> Result<NodeReport, ApiError> {
        Ok(node_report(drain, false))
    }

    async fn node_remaining(&self) -> Result<NodeReport, ApiError> {
        Ok(node_report(true, self.looks.fetch_add(1, Ordering::Relaxed) >= 1))
    }

    async fn hand_over(&self, request: HandoverRequest) -> Result<HandoverReport, ApiError> {
        Ok(HandoverReport {
            vips: vec![request.vip],
            changed: request.yes,
            handed_over: request.yes,
            translated: 12,
            heirs: Vec::new(),
            differences: Vec::new(),
            warnings: Vec::new(),
        })
    }

    async fn take_back(&self, request: TakeBackRequest) -> Result<HandoverReport, ApiError> {
        Err(ApiError::new(ErrorKind::Conflict, format!("{} was not handed over", request.vip)))
    }

    async fn remaining(&self, backend: BackendSelector) -> Result<DrainReport, ApiError> {
        let drained = self.looks.fetch_add(1, Ordering::Relaxed) >= 2;
        report(&backend, if drained { "drained" } else { "draining" }, drained)
    }

    async fn plan(&self, request: ConfigRequest) -> Result<Plan, ApiError> {
        let lost = Loss {
            of: "web/b1".into(),
            reason: "disabled in the configuration".into(),
            recorded: 12,
            translated: 0,
            new_connections_per_second: 0.0,
        };
        Ok(match (request.text.map(|text| text.name), request.revision) {
            (None, None) => Plan::nothing(),
            (Some(_), _) => Plan { outcome: Outcome::Safe, ..Plan::nothing() },
            (None, Some(_)) => {
                Plan { outcome: Outcome::LosesConnections, lost: vec![lost], ..Plan::nothing() }
            }
        })
    }

    async fn reload(&self, request: ConfigRequest) -> Result<ReloadReport, ApiError> {
        if request.revision == Some(3) {
            return Ok(ReloadReport { plan: self.plan(request).await?, revision: Some(8) });
        }
        Err(ApiError::invalid_config("vip-lb.yaml is not valid", vec!["vip-lb.yaml:3:5: no".into()]))
    }

    async fn revisions(&self) -> Result<Revisions, ApiError> {
        let revision =
            |number, in_force| RevisionInfo { number, since: 0, hash: "3f9a".into(), bytes: 812, in_force };
        Ok(Revisions { revisions: vec![revision(3, false), revision(7, true)], folder: "/x".into() })
    }
}

fn node_report(drained: bool, quiet: bool) -> NodeReport {
    NodeReport {
        node: "edge1".into(),
        changed: true,
        admin: NodeAdmin { admin: NodeState::Enabled, ordered_since: drained.then_some(0) },
        quiet,
        seconds_left: drained.then_some(0),
        vips: Vec::new(),
        translated: 0,
        services: Vec::new(),
        warnings: Vec::new(),
    }
}

fn report(backend: &BackendSelector, now: &str, drained: bool) -> Result<DrainReport, ApiError> {
    if !backend.matches("web", "b1", "10.0.0.1".parse().unwrap()) {
        return Err(ApiError::new(ErrorKind::NotFound, format!("no backend matches `{backend}`")));
    }
    let change = BackendChange {
        service: "web".into(),
        backend: "b1".into(),
        changed: true,
        now: now.into(),
        order: None,
        remaining: Remaining { drained, ..Remaining::default() },
    };
    Ok(DrainReport { host: None, backends: vec![change], warnings: Vec::new() })
}

/// The imitation behind a socket, for as long as the value lives.
struct Daemon {
    folder: PathBuf,
    runtime: Runtime,
    running: Option<(oneshot::Sender<()>, JoinHandle<std::io::Result<()>>, SocketClaim)>,
}

impl Daemon {
    /// A folder for the socket, and nobody who listens.
    fn absent() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("vip-lb-cli-{}-{count}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        Self { folder, runtime: Runtime::new().unwrap(), running: None }
    }

    fn start() -> Self {
        let mut daemon = Self::absent();
        let (listener, claim) = daemon.runtime.block_on(claim(&daemon.socket())).unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let server = daemon.runtime.spawn(serve(listener, Arc::new(Imitation::default()), shutdown));
        daemon.running = Some((stop, server, claim));
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    /// The command, pointed at this daemon by the environment.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vip-lb"));
        command.args(line.split_whitespace()).env("VIP_LB_SOCKET", self.socket()).env_remove("RUST_LOG");
        command
    }

    fn run(&self, line: &str) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(line).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().expect("ended by itself"), text(stdout), text(stderr))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some((stop, server, claim)) = self.running.take() {
            let _ = stop.send(());
            let _ = self.runtime.block_on(server);
            drop(claim);
        }
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[test]
fn answers_are_text_or_json_and_the_code_is_0() {
    let daemon = Daemon::start();
    for (line, phrase) in [
        ("status", "edge1: vip-lb 0.1.0, pid 4711"),
        ("status --json", "\"hash\": \"3f9a12bc\""),
        ("vip", "no VIP is configured\n"),
        ("vip --json", "[]"),
        ("counters", "verdict_19999    19999  pass    not for a vip"),
        ("counters --all", "verdict_0            0  pass    not for a vip"),
        ("counters --json", "\"name\": \"verdict_0\""),
        ("explain 10.0.0.1:1000 192.0.2.1:80", "tcp 10.0.0.1:1000 -> 192.0.2.1:80\n\n 1. parse  ethernet"),
        ("explain 10.0.0.1 192.0.2.1:80 --protocol udp", "udp 10.0.0.1 -> 192.0.2.1:80"),
        ("explain 10.0.0.1 192.0.2.1:80", "the source port decides; it was not given, and 0 was used"),
        ("explain [2001:db8::1]:1 [2001:db8::2]:80 --json", "\"source\": \"2001:db8::1\""),
        ("drain b1", "web/b1: draining\n"),
        ("drain web/b1 --json", "\"changed\": true"),
        ("drain 10.0.0.1", "web/b1: draining\n"),
        ("drain b1 --force", "web/b1: out\n"),
        ("undrain web/b1", "web/b1: in ring\n"),
        ("drain --node", "edge1: this node is drained by the operator"),
        ("drain --node --json", "\"quiet\": false"),
        ("undrain --node", "edge1: this node is in service\n"),
        ("maintenance on", "edge1: this node is drained by the operator"),
        ("maintenance off", "edge1: this node is in service\n"),
        ("plan", "nothing changes\n"),
        ("reload --dry-run", "nothing changes\n"),
        ("rollback --list", "7  "),
        ("rollback --list --json", "\"in_force\": true"),
        ("rollback", "reloaded\nlost: all connections of web/b1, disabled in the configuration: 12 recorded"),
        ("rollback --json", "\"revision\": 8"),
    ] {
        let (code, stdout, stderr) = daemon.run(line);
        assert_eq!((code, stderr.as_str()), (0, ""), "{line}");
        assert!(stdout.contains(phrase), "{line}: {stdout:.2000}");
        if line.ends_with("--json") {
            serde_json::from_str::<serde_json::Value>(&stdout)
                .unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }
    let (_, stdout, _) = daemon.run("counters");
    assert!(!stdout.contains("verdict_0 "), "zero ones are hidden");
}

#[test]
fn events_are_lines_until_the_daemon_ends() {
    let daemon = Daemon::start();
    let (code, now, stderr) = daemon.run("events --follow");
    assert_eq!(
        (code, now.as_str(), stderr.as_str()),
        (0, "2027-01-15T08:01:01.000Z the daemon, pid 4711, stops\n", "")
    );
    let (code, all, _) = daemon.run("events --follow --since 24h");
    assert_eq!((code, all.lines().count()), (0, 3), "{all}");
    let (code, past, _) = daemon.run("events --json");
    assert_eq!(code, 0);
    assert_eq!(
        past,
        "{\"id\":1,\"time_ms\":1800000000250,\"event\":\"daemon_ready\",\"version\":\"0.1.0\",\"pid\":4711}\n\
         {\"id\":2,\"time_ms\":1800000060000,\"event\":\"warning\",\"text\":\"eth1: generic mode\"}\n"
    );
}

#[test]
fn a_plan_tells_by_its_code_what_it_comes_to() {
    let daemon = Daemon::start();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/ipip.yaml");
    for (line, expected, phrase) in [
        ("plan".to_owned(), 0, "nothing changes"),
        (format!("plan {file}"), 10, "safe: every connection stays"),
        (format!("plan {file} --json"), 10, "\"outcome\": \"safe\""),
        (format!("reload {file} --dry-run"), 10, "safe: every connection stays"),
        ("rollback --dry-run".to_owned(), 11, "loses connections"),
        ("rollback 3 --dry-run --json".to_owned(), 11, "\"outcome\": \"loses_connections\""),
        ("plan /nowhere/c.yaml".to_owned(), 3, ""),
    ] {
        let (code, stdout, stderr) = daemon.run(&line);
        assert_eq!(code, expected, "{line}: {stderr}");
        assert!(stdout.contains(phrase), "{line}: {stdout}");
    }
}

#[test]
fn waiting_for_a_drain_ends_when_it_is_done_or_at_the_deadline() {
    let daemon = Daemon::start();
    let (code, stdout, stderr) = daemon.run("drain b1 --wait");
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.starts_with("web/b1: draining\n") && stdout.ends_with("web/b1: drained\n"), "{stdout}");
    let (code, stdout, stderr) = Daemon::start().run("drain --node --wait");
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.ends_with("nothing comes any more\n"), "{stdout}");
    let (code, ..) = Daemon::start().run("drain --node --wait --deadline 1ms");
    assert_eq!(code, 12);
    let late = |line: &str| Daemon::start().run(line);
    let (code, stdout, _) = late("drain b1 --wait --deadline 1ms");
    assert_eq!(code, 12, "{stdout}");
    assert!(stdout.ends_with(" older ones (an estimate)\n"), "{stdout}");
    let (code, stdout, _) = late("drain b1 --wait --deadline 1ms --force --json");
    assert_eq!(code, 0, "{stdout}");
    assert!(stdout.contains("\"now\": \"out\""), "what is left is cut: {stdout}");
}

#[test]
fn a_hand_over_that_ends_connections_needs_consent() {
    let (code, stdout, stderr) = Daemon::start().run("handover 192.0.2.10");
    assert_eq!((code, stderr.as_str()), (11, ""));
    assert!(
        stdout.contains("12 translated connections") && stdout.ends_with("--yes accepts that\n"),
        "{stdout}"
    );
    let (code, stdout, _) = Daemon::start().run("handover 192.0.2.10 --json");
    assert_eq!(code, 11);
    assert!(stdout.contains("\"outcome\": \"refused\""), "{stdout}");
    let (code, _, stderr) = Daemon::start().run("handover 192.0.2.10 --back");
    assert_eq!((code, stderr.as_str()), (1, "vip-lb: 192.0.2.10 was not handed over\n"));
}

#[test]
fn a_refusal_is_1() {
    let (code, stdout, stderr) = Daemon::start().run("drain mail/b1");
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(stderr, "vip-lb: no backend matches `mail/b1`\n");
}

#[test]
fn a_line_that_makes_no_sense_is_2() {
    let daemon = Daemon::start();
    for (line, phrase) in [
        ("", "Usage: vip-lb"),
        ("frobnicate", "unrecognized subcommand"),
        ("explain 10.0.0.1 192.0.2.1", "the port is missing: write 192.0.2.1:80"),
        ("explain 10.0.0.1 192.0.2.1:80 --port 80", "--port chooses among real packets: it needs --live"),
        ("explain 10.0.0.1 192.0.2.1:80 --packet echo", "`echo` has no ports: leave out :80"),
        ("explain 10.0.0.1 [2001:db8::1]:80", "10.0.0.1 and 2001:db8::1 are of different families"),
        ("drain web/", "expected SERVICE/BACKEND or BACKEND"),
        ("decap --interface eth0 --from 10.0.0.1/8 --vip 192.0.2.1", "write 10.0.0.0/8"),
    ] {
        let (code, stdout, stderr) = daemon.run(line);
        assert_eq!((code, stdout.as_str()), (2, ""), "{line}: {stderr}");
        assert!(stderr.contains(phrase), "{line}: {stderr}");
    }
}

#[test]
fn a_configuration_with_mistakes_is_3() {
    let daemon = Daemon::start();
    let (code, stdout, stderr) = daemon.run("reload");
    assert_eq!((code, stdout.as_str()), (3, ""));
    assert_eq!(stderr, "vip-lb: vip-lb.yaml is not valid\n  vip-lb.yaml:3:5: no\n");

    let (code, stdout, stderr) = daemon.run("reload --json");
    assert_eq!((code, stderr.as_str()), (3, ""));
    let answer: ApiError = serde_json::from_str(&stdout).unwrap();
    assert_eq!(answer.details, ["vip-lb.yaml:3:5: no"]);
}

#[test]
fn check_needs_no_daemon_and_lists_every_mistake() {
    let daemon = Daemon::absent();
    let file = daemon.folder.join("vip-lb.yaml");
    let check = |flags: &str| daemon.run(&format!("check {} {flags}", file.display()));

    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/ipip.yaml"), &file).unwrap();
    let (code, stdout, stderr) = check("");
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(stdout, format!("{} is valid\n", file.display()));
    let (code, stdout, _) = check("--json");
    let answer: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &answer["valid"]), (0, &true.into()));

    fs::write(&file, "node: {}\nvips: 7\nvip: []\n").unwrap();
    let (code, stdout, stderr) = check("");
    assert_eq!((code, stdout.as_str()), (3, ""));
    assert!(
        stderr.starts_with(&format!("vip-lb: {} is not a valid configuration\n", file.display())),
        "{stderr}"
    );
    for place in [":2:7: vips", ":3:1: vip:"] {
        assert!(stderr.contains(place), "{stderr}");
    }
    let (code, stdout, stderr) = check("--json");
    assert_eq!((code, stderr.as_str()), (3, ""));
    let answer: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(answer["valid"], false);
    assert!(answer["errors"].as_array().unwrap().iter().any(|error| error["key"] == "vips"), "{stdout}");
}

#[test]
fn a_daemon_that_cannot_be_reached_is_4() {
    let daemon = Daemon::absent();
    let socket = daemon.socket().display().to_string();
    for line in [
        "status",
        "vip",
        "counters",
        "explain 10.0.0.1 192.0.2.1:80",
        "drain b1",
        "undrain b1",
        "reload --json",
        "events",
    ] {
        let (code, stdout, stderr) = daemon.run(line);
        assert_eq!((code, stdout.as_str()), (4, ""), "{line}: {stderr}");
        assert!(stderr.contains(&socket) && stderr.contains("vip-lb run --config FILE"), "{line}: {stderr}");
    }
}

#[test]
fn the_flag_wins_over_the_environment() {
    let daemon = Daemon::start();
    let elsewhere = daemon.folder.join("elsewhere.sock");
    let (code, _, stderr) = daemon.run(&format!("status --socket {}", elsewhere.display()));
    assert_eq!(code, 4);
    assert!(stderr.contains("elsewhere.sock"), "{stderr}");
}

#[test]
fn a_reader_that_goes_away_is_success() {
    let daemon = Daemon::start();
    let mut child = daemon.command("counters").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 7]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn the_help_documents_the_exit_codes_and_every_command() {
    let daemon = Daemon::absent();
    let (code, help, _) = daemon.run("--help");
    assert_eq!(code, 0);
    assert!(help.contains("Exit codes:\n  0  done"), "{help}");
    let commands = [
        "run", "check", "unload", "decap", "status", "vip", "explain", "drain", "undrain", "counters", "top",
        "events", "reload",
    ];
    for command in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        let (code, help, _) = daemon.run(&format!("{command} --help"));
        assert_eq!(code, 0, "{command}");
        assert!(help.contains("Examples:\n  vip-lb "), "{command}: {help}");
    }
}
