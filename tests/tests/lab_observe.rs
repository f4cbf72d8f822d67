//! What the daemon tells: its API and the document of it, metrics, events, and `vip-lb top` in a real terminal.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vip_lb_tests::lab::{
    Family, HttpLoad, LoadOptions, Mode, Scratch, Site, SiteOptions, StackCounters, Terminal, command,
    patience, wait_for,
};

const PYTHON: &str = "/usr/bin/python3";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const LISTEN: &str = "127.0.0.1:9177";

fn site() -> Result<Site> {
    let options = SiteOptions::new(Mode::L2, Family::V4)?;
    let config = options.config(&[100, 100, 200]);
    Site::start(options, &config)
}

/// What the daemon answers to `curl` over its socket.
#[test]
fn the_document_is_valid_and_answers_are_as_it_says() -> Result<()> {
    let site = site()?;
    let scratch = &site.lab.scratch;
    let document = site.daemon().get("/openapi.json")?;
    let described: Value = serde_json::from_str(&document)?;
    let paths = described["paths"].as_object().context("paths")?;

    let flow = "source=198.51.100.1&source_port=40000&destination=10.77.1.1&destination_port=80&protocol=tcp";
    let mut answers = Vec::new();
    for (path, methods) in paths {
        for method in methods.as_object().context("methods")?.keys() {
            let answer = match (method.as_str(), path.as_str()) {
                // Texts and streams are looked at elsewhere.
                (_, "/metrics" | "/v1/events" | "/v1/watch") => continue,
                ("get", "/v1/explain") => site.daemon().get(&format!("{path}?{flow}"))?,
                ("get", path) => match site.daemon().get(path) {
                    Ok(answer) => answer,
                    // What has arguments that this test does not know is checked by its own.
                    Err(_) if methods["get"]["parameters"].is_array() => continue,
                    Err(error) => return Err(error),
                },
                (_, "/v1/drain" | "/v1/undrain") => {
                    let command = path.rsplit('/').next().context("a name")?;
                    site.daemon().ask(&[command, "web/backend-1", "--json"])?
                }
                (_, "/v1/reload") => site.daemon().ask(&["reload", "--json"])?,
                // Orders have labs of their own.
                _ => continue,
            };
            let answer: Value = serde_json::from_str(&answer).with_context(|| format!("{path}: {answer}"))?;
            answers.push(json!({"method": method, "path": path, "answer": answer}));
        }
    }
    ensure!(answers.len() >= 6, "only {} routes were asked", answers.len());
    let events = Events::follow(&site, &["--since", "1h", "--follow"])?;
    for event in events.read(5)? {
        answers.push(json!({"method": "get", "path": "/v1/events", "answer": event}));
    }
    judge(scratch, &document, &answers).map_err(|faults| anyhow::anyhow!("{faults}"))?;

    // It would have noticed.
    let mut wrong = answers.clone();
    let status = wrong.iter_mut().find(|of| of["path"] == "/v1/status").context("the status")?;
    status["answer"]["pid"] = "4711".into();
    status["answer"]["vips"][0]["services"][0].as_object_mut().context("a service")?.remove("open_slots");
    let faults = judge(scratch, &document, &wrong).expect_err("a wrong answer");
    ensure!(faults.contains("pid") && faults.contains("'open_slots' is a required property"), "{faults}");
    let broken = document.replacen("\"operationId\"", "\"operationID\"", 1).replacen(
        "\"in\":\"query\"",
        "\"in\":\"air\"",
        1,
    );
    let faults = judge(scratch, &broken, &[]).expect_err("a wrong document");
    ensure!(faults.contains("document: "), "{faults}");
    site.succeeded();
    Ok(())
}

/// Has other people's validators judge the document and the answers.
fn judge(scratch: &Scratch, document: &str, answers: &[Value]) -> Result<(), String> {
    let (document_file, answers_file) =
        (scratch.path().join("openapi.json"), scratch.path().join("answers.jsonl"));
    fs::write(&document_file, document).map_err(|error| error.to_string())?;
    let lines: Vec<String> = answers.iter().map(ToString::to_string).collect();
    fs::write(&answers_file, lines.join("\n")).map_err(|error| error.to_string())?;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let modules = own.ancestors().nth(3).map(|target| target.join("python")).unwrap_or_default();
    let output = Command::new(PYTHON)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi/judge.py"))
        .args([&document_file, &answers_file])
        .env("PYTHONPATH", modules)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .map_err(|error| error.to_string())?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!text.contains("ModuleNotFoundError"), "run cargo xtask setup: {text}");
    let all = format!("{} answers, 0 faults", answers.len());
    if output.status.success() && text.contains(&all) { Ok(()) } else { Err(text) }
}

/// `vip-lb events --json`, running.
struct Events {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Events {
    fn follow(site: &Site, arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(site.daemon().binary())
            .arg("--socket")
            .arg(site.daemon().socket())
            .args(["events", "--json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("its output")?;
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    fn next(&self) -> Result<Value> {
        let line = self.lines.recv_timeout(Duration::from_secs(20) * patience()).context("an event")?;
        Ok(serde_json::from_str(&line)?)
    }

    fn read(&self, count: usize) -> Result<Vec<Value>> {
        (0..count).map(|_| self.next()).collect()
    }

    /// The next event that has all these fields.
    fn wait(&self, wanted: &Value) -> Result<Value> {
        let mut seen = Vec::new();
        loop {
            let event = self.next().with_context(|| format!("no {wanted} among {seen:?}"))?;
            let fields = wanted.as_object().context("an object")?;
            if fields.iter().all(|(name, value)| event.get(name) == Some(value)) {
                return Ok(event);
            }
            seen.push(event.to_string());
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_happens_is_told_as_it_happens() -> Result<()> {
    let mut site = site()?;
    let recent = Events::follow(&site, &["--since", "1h", "--follow"])?;
    recent.wait(&json!({"event": "interface_attached", "interface": "eth0"}))?;
    recent.wait(&json!({"event": "ownership", "vip": "10.77.1.1", "answering": true}))?;
    let ready = recent.wait(&json!({"event": "daemon_ready", "pid": site.daemon().pid()}))?;
    drop(recent);

    let socket = site.daemon().socket().display().to_string();
    let now = Events::follow(&site, &["--follow"])?;
    // The stream is there when the first event of it is: an order is given until it is told.
    wait_for("the stream", Duration::from_secs(20), || {
        site.daemon().ask(&["drain", "web/backend-1"])?;
        site.daemon().ask(&["undrain", "web/backend-1"])?;
        Ok(now.lines.recv_timeout(Duration::from_millis(200)).ok())
    })?;
    site.daemon().ask(&["drain", "web/backend-2"])?;
    let drain = now.wait(&json!({"event": "drain", "service": "web", "backend": "backend-2"}))?;
    ensure!(drain["id"].as_u64() > ready["id"].as_u64(), "{drain} after {ready}");
    now.wait(
        &json!({"event": "forwarding_changed", "backend": "backend-2", "from": "in ring", "to": "draining"}),
    )?;
    site.kill_servers("backend-3");
    now.wait(&json!({"event": "health_changed", "service": "web", "backend": "backend-3", "from": "up", "to": "down"}))?;
    now.wait(&json!({"event": "forwarding_changed", "service": "web", "backend": "backend-3", "to": "out"}))?;

    let valid = site.daemon().config_text()?;
    site.daemon().write_config_text("node: 1\n")?;
    site.daemon().hang_up()?;
    let refused = now.wait(&json!({"event": "reload_refused"}))?;
    ensure!(refused["details"].to_string().contains("node: found 1, expected a mapping"), "{refused}");
    site.daemon().write_config_text(&valid)?;
    site.daemon().ask(&["reload"])?;
    now.wait(&json!({"event": "config_reloaded", "changes": []}))?;

    // A reader from an earlier place sees what was in between.
    let since = drain["id"].as_u64().context("a number")?;
    let url = format!("http://localhost/v1/events?after={since}");
    let time = (2 * patience()).to_string();
    let text = Command::new("curl")
        .args(["-sS", "--max-time", &time, "--unix-socket", &socket, &url])
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())?;
    ensure!(text.starts_with(&format!("id: {}\ndata: ", since + 1)), "{text}");

    // The end of the daemon ends the stream, and that is success.
    site.daemon_mut().stop()?;
    now.wait(&json!({"event": "daemon_stopping"}))?;
    let mut now = now;
    let status = wait_for("the end of the stream", Duration::from_secs(10), || Ok(now.child.try_wait()?))?;
    ensure!(status.success(), "{status}");

    // What happened outlives the daemon, whose numbers go on.
    site.daemon_mut().launch()?;
    let ready = json!({"event": "daemon_ready", "pid": site.daemon().pid()});
    let kept: Vec<Value> = wait_for("the event to be kept", Duration::from_secs(10), || {
        let told = site.daemon().ask(&["events", "--json"])?;
        let events = told.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
        Ok(events.iter().any(|event| event["pid"] == ready["pid"]).then_some(events))
    })?;
    let ids: Vec<_> = kept.iter().map(|event| event["id"].as_u64()).collect();
    ensure!(ids.windows(2).all(|pair| pair[0] < pair[1]), "numbers go on: {ids:?}");
    let down =
        kept.iter().find(|event| event["service"] == "web" && event["to"] == "down").context("down")?;
    let evidence = json!({"check": "http 10.77.0.13:80", "successes": 0, "failures": 3});
    let found: Vec<_> = ["check", "successes", "failures"].map(|key| &down["evidence"][key]).into();
    ensure!(found == [&evidence["check"], &evidence["successes"], &evidence["failures"]], "{down}");
    ensure!(down["lasted_ms"].as_u64() > Some(0), "{down}");
    let of_today = site.daemon().ask(&["events", "--since", "1h"])?;
    ensure!(of_today.contains("3 bad in a row of http 10.77.0.13:80"), "{of_today}");
    site.succeeded();
    Ok(())
}

/// The value of the sample that begins so.
fn sample(page: &str, series: &str) -> Result<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {series} in\n{page}"))?.parse()?)
}

#[test]
fn metrics_are_what_prometheus_takes_and_what_happened() -> Result<()> {
    let site = site()?;
    let scratch = &site.lab.scratch;
    let before = site.daemon().get("/metrics")?;
    let sent_again = || StackCounters::read(&site.lab.client.namespace)?.get("TcpRetransSegs");
    let sent_again_before = sent_again()?;
    let report = HttpLoad::run(&site.lab.client.namespace, LoadOptions::count(site.web(), 500))?;
    ensure!(report.failed().count() == 0, "{:?}", report.errors());
    let page = site.daemon().get("/metrics")?;
    promtool(scratch, &page)?;
    let connections = |page: &str| sample(page, "vip_lb_service_connections_total{service=\"web\"}");
    let begun = connections(&page)? - connections(&before)?;
    // A SYN that a busy machine answers late comes twice.
    let most = 500.0 + (sent_again()? - sent_again_before) as f64;
    ensure!((500.0..=most).contains(&begun), "500 requests are {begun} connections, {most} at most");
    let of_backends: f64 = (1..=3)
        .map(|backend| {
            sample(
                &page,
                &format!("vip_lb_backend_connections_total{{service=\"web\",backend=\"backend-{backend}\"}}"),
            )
        })
        .sum::<Result<f64>>()?;
    ensure!(of_backends == connections(&page)?, "the backends have {of_backends} of them");
    let forwarded = sample(&page, "vip_lb_packets_total{verdict=\"forwarded_l2\",action=\"forward\"}")?;
    ensure!(forwarded >= 1500.0, "{forwarded} packets forwarded");
    let status: Value = site.daemon().ask_json(&["status"])?;
    let hash = status["config"]["hash"].as_str().context("a hash")?;
    ensure!(
        sample(&page, &format!("vip_lb_config_info{{node=\"edge-1\",hash=\"{hash}\"}}"))? == 1.0,
        "{page}"
    );

    site.daemon().write_config_text("node: 1\n")?;
    ensure!(site.daemon().ask(&["reload"]).is_err(), "a broken file was taken");
    let page = site.daemon().get("/metrics")?;
    ensure!(sample(&page, "vip_lb_config_last_reload_successful")? == 0.0, "{page}");
    ensure!(sample(&page, "vip_lb_config_reloads_total{result=\"failure\"}")? == 1.0, "{page}");
    site.succeeded();
    Ok(())
}

/// Turned on until it is dropped, and then as it was.
struct Statistics {
    before: String,
}

impl Statistics {
    const PATH: &str = "/proc/sys/kernel/bpf_stats_enabled";

    fn enable() -> Result<Self> {
        let before = fs::read_to_string(Self::PATH).context(Self::PATH)?;
        fs::write(Self::PATH, "1")?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(Self::PATH, &self.before) {
            eprintln!("cannot restore {}: {error}", Self::PATH);
        }
    }
}

#[test]
fn a_packets_cost_is_known_while_the_kernel_counts() -> Result<()> {
    let site = site()?;
    let statistics = Statistics::enable()?;
    let report = HttpLoad::run(&site.lab.client.namespace, LoadOptions::count(site.web(), 200))?;
    ensure!(report.failed().count() == 0, "{:?}", report.errors());
    let page = site.daemon().get("/metrics")?;
    drop(statistics);
    ensure!(sample(&page, "vip_lb_bpf_statistics_enabled")? == 1.0, "{page}");
    // A request has five packets at least on its way to the backend.
    let (runs, seconds) =
        (sample(&page, "vip_lb_program_runs_total")?, sample(&page, "vip_lb_program_run_seconds_total")?);
    ensure!(runs >= 1000.0, "{runs} runs for 200 requests");
    let each = seconds / runs;
    ensure!(each > 1e-9 && each < 1e-2, "{each} s for each of {runs} runs");
    site.succeeded();
    Ok(())
}

/// Has promtool read a page as a Prometheus server does.
fn promtool(scratch: &Scratch, page: &str) -> Result<()> {
    let file = scratch.path().join("metrics.txt");
    fs::write(&file, page)?;
    let output = Command::new("promtool").args(["check", "metrics"]).stdin(fs::File::open(&file)?).output();
    let output = output.context("promtool: run cargo xtask setup")?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && text.trim().is_empty(), "promtool: {text}");
    Ok(())
}

#[test]
fn alerts_fire_when_they_should() -> Result<()> {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/prometheus");
    let path = |name: &str| rules.join(name).display().to_string();
    let checked = command::run("promtool", &["check", "rules", &path("alerts.yml")])?;
    ensure!(checked.contains("SUCCESS: 16 rules found"), "{checked}");
    let tested = command::run("promtool", &["test", "rules", &path("alerts_test.yml")])?;
    ensure!(tested.contains("SUCCESS"), "{tested}");
    Ok(())
}

/// Status of a request to the API over TCP in the edge node.
fn over_tcp(site: &Site, path: &str, token: Option<&str>) -> Result<u16> {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}"));
    let url = format!("http://{LISTEN}{path}");
    let mut arguments = vec!["-s", "-o", "/dev/null", "-w", "%{http_code}", &url];
    if let Some(header) = &authorization {
        arguments.extend(["-H", header]);
    }
    let mut curl = site.lab.edges[0].namespace.command("curl");
    let output = curl.args(arguments).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}

fn write_token(file: &Path, token: &str, mode: u32) -> Result<()> {
    fs::write(file, token)?;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(mode))?)
}

#[test]
fn the_api_over_tcp_follows_configuration_and_token() -> Result<()> {
    let mut site = site()?;
    let file: PathBuf = site.lab.scratch.path().join("token");
    let without = site.daemon().config_text()?;
    let with = |metrics: &str| {
        let api = format!(
            "node:\n  api: {{listen: \"{LISTEN}\", token_file: {}, metrics: {metrics}}}\n",
            file.display()
        );
        without.replacen("node:\n", &api, 1)
    };
    ensure!(over_tcp(&site, "/metrics", None)? == 0, "somebody listens already");

    // A token that others may read is none: nobody gets in, and the status says why.
    write_token(&file, TOKEN, 0o644)?;
    site.daemon().write_config_text(&with("token"))?;
    site.daemon().ask(&["reload"])?;
    wait_until(&site, "/v1/status", Some(TOKEN), 401)?;
    let status = site.daemon().ask(&["status"])?;
    ensure!(status.contains("(mode 0644): chmod 600"), "{status}");

    // Mended, it is found without another reload.
    write_token(&file, TOKEN, 0o600)?;
    wait_until(&site, "/v1/status", Some(TOKEN), 200)?;
    for (path, token, answer) in [
        ("/v1/status", None, 401),
        ("/v1/status", Some("fedcba9876543210fedcba9876543210"), 401),
        ("/metrics", None, 401),
        ("/metrics", Some(TOKEN), 200),
        ("/openapi.json", Some(TOKEN), 200),
    ] {
        let answered = over_tcp(&site, path, token)?;
        ensure!(answered == answer, "{path} with {token:?}: {answered}");
    }

    // Metrics alone can be for everybody, and a new token takes the place of the former.
    write_token(&file, "fedcba9876543210fedcba9876543210", 0o600)?;
    site.daemon().write_config_text(&with("open"))?;
    site.daemon().ask(&["reload"])?;
    wait_until(&site, "/metrics", None, 200)?;
    ensure!(over_tcp(&site, "/v1/status", Some(TOKEN))? == 401, "the former token still opens");
    ensure!(
        over_tcp(&site, "/v1/status", Some("fedcba9876543210fedcba9876543210"))? == 200,
        "the new one does not"
    );

    // A successor has the port without a try in vain.
    site.daemon_mut().hand_over()?;
    wait_until(&site, "/metrics", None, 200)?;
    let log = site.daemon().log();
    ensure!(!log.contains("cannot listen"), "{log}");

    site.daemon().write_config_text(&without)?;
    site.daemon().ask(&["reload"])?;
    wait_until(&site, "/metrics", None, 0)?;
    site.succeeded();
    Ok(())
}

fn wait_until(site: &Site, path: &str, token: Option<&str>, answer: u16) -> Result<()> {
    let mut last = 0;
    let waited = wait_for("the listener", Duration::from_secs(15), || {
        last = over_tcp(site, path, token)?;
        Ok((last == answer).then_some(()))
    });
    waited.with_context(|| format!("{path} is answered with {last} in place of {answer}"))
}

#[test]
fn top_shows_a_running_daemon_in_a_real_terminal() -> Result<()> {
    let mut site = site()?;
    let load = HttpLoad::start(&site.lab.client.namespace, LoadOptions::steady(site.web()))?;
    let command_line = |site: &Site| {
        let (binary, socket) = (site.daemon().binary().display(), site.daemon().socket().display());
        format!("{binary} top --socket {socket} --interval 0.5")
    };

    let terminal = Terminal::open(&site.lab.scratch, 80, 24, &[])?;
    terminal.line(&command_line(&site))?;
    let screen = terminal.wait_until("the rates of web", |screen| {
        let words = |begin: &str| {
            screen.iter().find(|line| line.starts_with(begin)).map(|line| line.split_whitespace())
        };
        let column = words(" SERVICE ").and_then(|mut names| names.position(|name| name == "PKT/S"));
        let rate = column.and_then(|column| words(" web ")?.nth(column));
        rate.is_some_and(|rate| rate != "0")
    })?;
    ensure!(screen.len() == 24 && screen[0].starts_with("edge-1  vip-lb "), "{screen:#?}");
    ensure!(screen[23].contains("q quit"), "{screen:#?}");
    ensure!(screen.iter().all(|line| line.chars().count() <= 80), "{screen:#?}");
    ensure!(is_coloured(&terminal.coloured_screen()?), "no colours for what is well");
    ensure!(terminal.state("#{alternate_on}")? == "1", "it draws over the shell's lines");

    // Wider, there is room for more, and smaller it is still drawn.
    terminal.resize(150, 40)?;
    terminal.wait_until("the wide screen", |screen| {
        screen.len() == 40 && screen[39].contains("q quit") && screen.iter().any(|line| line.contains("█"))
    })?;
    terminal.resize(60, 12)?;
    terminal.wait_until("the small screen", |screen| {
        screen.len() == 12 && screen[11].starts_with(" Enter open")
    })?;
    terminal.resize(80, 24)?;

    // Keys: all backends, those with a text, the sick one whole.
    terminal.key("3")?;
    site.kill_servers("backend-3");
    terminal.wait_until("the backend that is down", |screen| {
        screen.iter().any(|line| line.contains("backend-3") && line.contains("down ") && line.contains("out"))
    })?;
    terminal.key("/")?;
    terminal.line("out")?;
    terminal.wait_until("only what is out", |screen| {
        let rows: Vec<_> = screen.iter().filter(|line| line.starts_with(" backend-")).collect();
        rows.len() == 3 && rows.iter().all(|row| row.contains("backend-3"))
    })?;
    terminal.key("Enter")?;
    terminal.wait_for_text("all about it", "backend-3 is down: ")?;
    terminal.key("4")?;
    terminal.wait_for_text("the verdicts", "forwarded_l2")?;

    // A daemon that goes away and comes back is said.
    site.daemon_mut().stop()?;
    terminal.wait_for_text("that nobody answers", "no answer: ")?;
    site.daemon_mut().launch()?;
    terminal.wait_until("the daemon again", |screen| screen[0].starts_with("edge-1 "))?;

    // However it ends, the terminal is as before.
    terminal.key("q")?;
    is_restored(&terminal)?;
    for signal in ["TERM", "INT", "HUP"] {
        terminal.line("clear")?;
        terminal.line(&command_line(&site))?;
        terminal.wait_for_text("the view", "q quit")?;
        // It is what runs in front of the shell.
        let pid = children(&terminal.state("#{pane_pid}")?)?;
        command::run("kill", &[&format!("-{signal}"), &pid])?;
        is_restored(&terminal).with_context(|| format!("after SIG{signal}"))?;
    }

    // Without colours, if somebody wants none.
    terminal.line("clear")?;
    terminal.line(&format!("NO_COLOR=1 {}", command_line(&site)))?;
    terminal.wait_for_text("the view", "q quit")?;
    let screen = terminal.coloured_screen()?;
    ensure!(!is_coloured(&screen), "colours in spite of NO_COLOR: {screen:?}");
    terminal.key("C-c")?;
    is_restored(&terminal)?;

    // A terminal that goes away takes it along.
    terminal.line(&command_line(&site))?;
    terminal.wait_for_text("the view", "q quit")?;
    let pid = children(&terminal.state("#{pane_pid}")?)?;
    drop(terminal);
    wait_for("top to end with its terminal", Duration::from_secs(20), || {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        Ok((state.is_empty() || state.contains(") Z ")).then_some(()))
    })?;
    let answered = load.finish().by_backend().len();
    ensure!(answered == 3, "{answered} backends have answered");
    site.succeeded();
    Ok(())
}

fn is_restored(terminal: &Terminal) -> Result<()> {
    terminal.wait_for_text("the shell", "ready>")?;
    // The one is given back after the other.
    wait_for("the shell's screen and cursor to be back", Duration::from_secs(20), || {
        Ok((terminal.state("#{alternate_on}#{cursor_flag}")? == "01").then_some(()))
    })?;
    terminal.line("stty -a; echo end of settings")?;
    let screen =
        terminal.wait_until("the settings", |screen| screen.iter().any(|line| line == "end of settings"))?;
    let settings = screen.join(" ");
    ensure!(
        settings.contains(" icanon") && settings.contains(" echo ") && settings.contains(" isig"),
        "{settings}"
    );
    Ok(())
}

/// Whether a text sets a colour: one of eight, or of 256.
fn is_coloured(screen: &str) -> bool {
    screen.contains("38;5;") || (30..38).any(|colour| screen.contains(&format!("\u{1b}[{colour}m")))
}

/// The process that a shell has started.
fn children(shell: &str) -> Result<String> {
    let path = format!("/proc/{shell}/task/{shell}/children");
    let children = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    Ok(children.split_whitespace().next().context("the shell has started nothing")?.to_owned())
}
