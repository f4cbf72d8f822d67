//! Every route, and every way to be refused.

use std::path::{Path, PathBuf};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixStream},
    sync::mpsc,
    task::JoinHandle,
};

use super::*;
use crate::{
    api::{
        Client, ClientError,
        events::{Events, Subscription},
        limited::CONNECTIONS,
        model::{
            BackendChange, BackendSelector, Change, ChangeAction, ConfigRequest, ConfigText, Counters,
            DrainReport, DrainRequest, EventsRequest, Explanation, HandoverReport, NodeAdmin, NodeReport,
            Occurrence, Outcome, PacketKind, Plan, ReloadReport, Remaining, RevisionInfo, Revisions, Status,
            Subject, UpgradeReport, WatchRequest, Watched,
        },
        samples::{self, TempFolder},
        socket::{SocketClaim, claim},
    },
    config::model::{NodeState, Protocol},
    metrics::Facts,
};

/// Answers with the samples; has one backend, `web/b1`, and breaks when asked for `panic`.
struct Fake {
    events: Events,
    reload: Result<(), ApiError>,
}

fn revisions() -> Revisions {
    let revision =
        RevisionInfo { number: 7, since: 1_800_000_000, hash: "3f9a".into(), bytes: 812, in_force: true };
    Revisions { revisions: vec![revision], folder: "/var/lib/vip-lb".into() }
}

impl Fake {
    fn changed(backend: &BackendSelector, now: &str) -> Result<DrainReport, ApiError> {
        if !backend.matches("web", "b1", "10.0.0.1".parse().unwrap()) {
            return Err(ApiError::new(ErrorKind::NotFound, format!("no backend matches `{backend}`")));
        }
        let change = BackendChange {
            service: "web".into(),
            backend: "b1".into(),
            changed: true,
            now: now.into(),
            order: None,
            remaining: Remaining { open_slots: 41, seconds_left: Some(600), ..Remaining::default() },
        };
        Ok(DrainReport { host: None, backends: vec![change], warnings: Vec::new() })
    }
}

impl Control for Fake {
    async fn status(&self) -> Result<Status, ApiError> {
        Ok(samples::status())
    }

    async fn counters(&self) -> Result<Counters, ApiError> {
        Ok(samples::counters())
    }

    async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ApiError> {
        Ok(samples::explanation(request))
    }

    async fn metrics(&self) -> Result<Facts, ApiError> {
        Ok(samples::facts())
    }

    async fn events(&self, request: EventsRequest) -> Result<Subscription, ApiError> {
        let subscription = self.events.subscribe(request.after);
        Ok(if request.follow == Some(false) { subscription.ending_now() } else { subscription })
    }

    async fn watch(&self, request: WatchRequest) -> Result<mpsc::Receiver<Watched>, ApiError> {
        if request.verdict.as_deref() == Some("none") {
            return Err(ApiError::new(ErrorKind::BadRequest, "there is no such verdict"));
        }
        let (hears, hearing) = mpsc::channel(4);
        hears.try_send(Watched::Packet(Box::new(samples::watched()))).unwrap();
        hears.try_send(Watched::Count { matched: 2, missed: 1 }).unwrap();
        Ok(hearing)
    }

    async fn drain(&self, DrainRequest { backend, force }: DrainRequest) -> Result<DrainReport, ApiError> {
        assert_ne!(backend.to_string(), "panic", "as asked for");
        Self::changed(&backend, if force { "out" } else { "draining" })
    }

    async fn drain_node(&self, drain: bool) -> Result<NodeReport, ApiError> {
        let admin = NodeAdmin { admin: NodeState::Enabled, ordered_since: drain.then_some(7) };
        let (node, services, warnings) = ("edge1".to_owned(), Vec::new(), Vec::new());
        Ok(NodeReport {
            node,
            changed: true,
            admin,
            quiet: false,
            seconds_left: None,
            vips: Vec::new(),
            translated: 0,
            services,
            warnings,
        })
    }

    async fn node_remaining(&self) -> Result<NodeReport, ApiError> {
        self.drain_node(true).await
    }

    async fn hand_over(&self, request: HandoverRequest) -> Result<HandoverReport, ApiError> {
        Ok(HandoverReport {
            vips: vec![request.vip],
            changed: true,
            handed_over: request.yes,
            translated: 2,
            heirs: Vec::new(),
            differences: Vec::new(),
            warnings: Vec::new(),
        })
    }

    async fn take_back(&self, request: TakeBackRequest) -> Result<HandoverReport, ApiError> {
        Err(ApiError::new(ErrorKind::Conflict, format!("{} was not handed over", request.vip)))
    }

    async fn remaining(&self, backend: BackendSelector) -> Result<DrainReport, ApiError> {
        Self::changed(&backend, "draining still")
    }

    async fn undrain(&self, backend: BackendSelector) -> Result<DrainReport, ApiError> {
        Self::changed(&backend, "in ring")
    }

    async fn upgrade(&self) -> Result<UpgradeReport, ApiError> {
        Ok(UpgradeReport { pid: 4712, former_pid: 4711, version: "0.1.0".to_owned() })
    }

    async fn plan(&self, request: ConfigRequest) -> Result<Plan, ApiError> {
        // What was asked for comes back as the change.
        let change = Change {
            subject: Subject::Backend,
            name: request.text.map(|text| format!("{} of {} bytes", text.name, text.yaml.len())),
            action: ChangeAction::Added,
            key: request.revision.map(|revision| revision.to_string()),
            from: None,
            to: None,
            note: None,
        };
        Ok(Plan { outcome: Outcome::Safe, changes: vec![change], ..Plan::nothing() })
    }

    async fn reload(&self, request: ConfigRequest) -> Result<ReloadReport, ApiError> {
        self.reload.clone()?;
        Ok(ReloadReport { plan: self.plan(request).await?, revision: Some(7) })
    }

    async fn revisions(&self) -> Result<Revisions, ApiError> {
        Ok(revisions())
    }
}

/// A server of the fake on a socket of its own.
struct Running {
    folder: TempFolder,
    claim: SocketClaim,
    stop: oneshot::Sender<()>,
    server: JoinHandle<io::Result<()>>,
}

impl Running {
    async fn start() -> Self {
        Self::start_with(Fake { reload: Ok(()), events: Events::new() }).await
    }

    async fn start_with(fake: Fake) -> Self {
        let folder = TempFolder::new();
        let (listener, claim) = claim(&folder.join("control.sock")).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { stopped.await.unwrap() };
        let server = serve_with_grace(listener, router(Arc::new(fake)), shutdown, Duration::from_millis(10));
        Self { folder, claim, stop, server: tokio::spawn(server) }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    fn client(&self) -> Client {
        Client::new(&self.path())
    }
}

fn request() -> ExplainRequest {
    ExplainRequest {
        source: "2001:db8::1".parse().unwrap(),
        source_port: Some(40000),
        destination: "2001:db8::10".parse().unwrap(),
        destination_port: Some(80),
        protocol: Protocol::Udp,
        packet: PacketKind::First,
        fragment_id: None,
        interface: Some("eth0".into()),
    }
}

/// Sends bytes as they are and returns all that comes back until the server closes.
async fn raw(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends one HTTP request and returns the status and the error in the body.
async fn refused(path: &Path, line: &str, header: &str, body: &str) -> (u16, ApiError) {
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}Content-Length: {length}\r\n\r\n{body}"
    );
    let answer = raw(path, request.as_bytes()).await;
    let (head, body) =
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{line}: no answer: {answer:?}"));
    assert!(head.to_lowercase().contains("content-type: application/json"), "{line}: {head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{line}: {error} in {body:?}")))
}

#[tokio::test]
async fn every_route_makes_the_round_trip() {
    let server = Running::start().await;
    let client = server.client();
    assert_eq!(client.health().await.unwrap().pid, std::process::id());
    assert_eq!(client.status().await.unwrap(), samples::status());
    assert_eq!(client.counters().await.unwrap(), samples::counters());
    for source_port in [Some(40000), None] {
        let request = ExplainRequest { source_port, ..request() };
        assert_eq!(client.explain(&request).await.unwrap(), samples::explanation(request));
    }
    let fragment = ExplainRequest {
        packet: PacketKind::Fragment,
        fragment_id: Some(70_000),
        destination_port: None,
        ..request()
    };
    assert_eq!(client.explain(&fragment).await.unwrap(), samples::explanation(fragment));
    for selector in ["b1", "web/b1", "10.0.0.1", "web/10.0.0.1"] {
        for (force, now) in [(false, "draining"), (true, "out")] {
            let request = DrainRequest { backend: selector.parse().unwrap(), force };
            let report = client.drain(&request).await.unwrap();
            assert_eq!(report.backends[0].now, now, "{selector}");
        }
        let report = client.remaining(&selector.parse().unwrap()).await.unwrap();
        assert_eq!(report.backends[0].remaining.open_slots, 41, "{selector}");
        let report = client.undrain(selector.parse().unwrap()).await.unwrap();
        assert_eq!(report.backends[0].now, "in ring", "{selector}");
    }
    assert_eq!(client.revisions().await.unwrap(), revisions());
    // More than other requests may bring along.
    let text = ConfigText { name: "new.yaml".into(), yaml: "x".repeat(4 * BODY_LIMIT) };
    let request = ConfigRequest { text: Some(text), revision: Some(9) };
    let plan = client.plan(&request).await.unwrap();
    assert_eq!(plan.changes[0].name.as_deref(), Some("new.yaml of 262144 bytes"));
    assert_eq!(plan.changes[0].key.as_deref(), Some("9"));
    let report = client.reload(&request).await.unwrap();
    assert_eq!((report.plan, report.revision), (plan, Some(7)));
    let json = "Content-Type: application/json\r\n";
    for (header, body) in [("", ""), (json, "null"), (json, "{}")] {
        let request = format!(
            "POST /v1/reload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = raw(&server.path(), request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "the file is meant by {body:?}: {answer}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_daemon_arrives_whole() {
    let invalid = ApiError::invalid_config(
        "vip-lb.yaml is not valid",
        vec!["line 3: one".into(), "line 9: two".into()],
    );
    let server = Running::start_with(Fake { reload: Err(invalid.clone()), events: Events::new() }).await;
    let client = server.client();
    match client.reload(&ConfigRequest::default()).await {
        Err(ClientError::Refused(error)) => assert_eq!(error, invalid),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.drain_node(true).await.unwrap().admin.ordered_since, Some(7));
    assert_eq!(client.drain_node(false).await.unwrap().admin.ordered_since, None);
    assert!(client.node_remaining().await.unwrap().admin.is_drained());
    let vip = "192.0.2.10".parse().unwrap();
    let request = HandoverRequest { vip, to: None, yes: true };
    assert_eq!(client.hand_over(&request).await.unwrap().vips, [vip]);
    match client.take_back(&TakeBackRequest { vip }).await {
        Err(ClientError::Refused(error)) => assert_eq!(error.error, "192.0.2.10 was not handed over"),
        other => panic!("{other:?}"),
    }
    match client.undrain("mail/b1".parse().unwrap()).await {
        Err(ClientError::Refused(error)) => {
            assert_eq!(error, ApiError::new(ErrorKind::NotFound, "no backend matches `mail/b1`"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bad_requests_are_answered_with_a_json_error() {
    let server = Running::start().await;
    let json = "Content-Type: application/json\r\n";
    let large = format!(r#"{{"backend": "{}"}}"#, "b".repeat(BODY_LIMIT));
    let cases: [(&str, &str, &str, u16, &str); 13] = [
        ("GET /v2/status", "", "", 404, "there is no route /v2/status"),
        ("DELETE /v1/status", "", "", 405, "/v1/status does not take DELETE"),
        ("GET /v1/undrain", "", "", 405, "/v1/undrain does not take GET"),
        ("GET /v1/remaining", "", "", 400, "missing field `backend`"),
        ("POST /v1/reload", json, r#"{"file": "/etc/passwd"}"#, 422, "unknown field `file`"),
        ("POST /v1/drain", "", r#"{"backend": "b1"}"#, 415, "Content-Type"),
        ("POST /v1/drain", json, "{", 400, "EOF while parsing"),
        ("POST /v1/drain", json, r#"{"backend": "/"}"#, 422, "SERVICE/BACKEND"),
        ("POST /v1/undrain", json, r#"{"backend": "b1", "force": true}"#, 422, "unknown field `force`"),
        ("POST /v1/drain", json, &large, 413, "length limit exceeded"),
        ("GET /v1/explain?source=10.0.0.1", "", "", 400, "destination"),
        (
            "GET /v1/explain?source=10.0.0.1&destination=10.0.0.2",
            "",
            "",
            400,
            "the port is missing: write 10.0.0.2:80",
        ),
        (
            "GET /v1/explain?source=10.0.0.1&destination=10.0.0.2&packet=syn",
            "",
            "",
            400,
            "unknown variant `syn`",
        ),
    ];
    for (line, header, body, status, phrase) in cases {
        let (answered, error) = refused(&server.path(), line, header, body).await;
        assert_eq!(answered, status, "{line} {header} {error:?}");
        assert_eq!(error.kind, ErrorKind::BadRequest, "{line}");
        assert!(error.error.contains(phrase), "{line}: {:?} has no {phrase:?}", error.error);
    }
}

#[tokio::test]
async fn an_explanation_across_families_is_refused() {
    let server = Running::start().await;
    let request = ExplainRequest { source: "10.0.0.1".parse().unwrap(), ..request() };
    let error = server.client().explain(&request).await.unwrap_err();
    assert_eq!(error.to_string(), "10.0.0.1 and 2001:db8::10 are of different families: no packet has both");
}

#[tokio::test]
async fn garbage_disturbs_nobody() {
    let server = Running::start().await;
    let path = server.path();
    let half = UnixStream::connect(&path).await.unwrap();
    half.try_write(b"POST /v1/drain HTTP/1.1\r\nContent-Length: 900\r\n\r\n{").unwrap();
    drop(UnixStream::connect(&path).await.unwrap());
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET /v1/status HTTP/9.9\r\n\r\n",
        b"GET /v1/\xff\xfe HTTP/1.1\r\n\r\n",
        b"POST /v1/drain HTTP/1.1\r\nContent-Length: minus\r\n\r\n",
    ] {
        let answer = raw(&path, bytes).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{bytes:?} was answered with {answer:?}");
    }
    let endless = [&b"GET /v1/status HTTP/1.1\r\nX: "[..], &vec![b'x'; 1 << 20]].concat();
    assert!(raw(&path, &endless).await.len() < 1024);
    assert_eq!(server.client().status().await.unwrap(), samples::status());
    drop(half);
}

#[tokio::test]
async fn a_panic_ends_one_connection_only() {
    let server = Running::start().await;
    let error = server
        .client()
        .drain(&DrainRequest { backend: "panic".parse().unwrap(), force: false })
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::BrokenOff { .. }), "{error}");
    assert!(server.client().status().await.is_ok());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_half_a_request() {
    let server = Running::start().await;
    let path = server.path();
    let stalled = UnixStream::connect(&path).await.unwrap();
    stalled.try_write(b"POST /v1/drain HTTP/1.1\r\n").unwrap();
    // Answered after the stalled one was accepted.
    server.client().health().await.unwrap();
    server.stop.send(()).unwrap();
    server.server.await.unwrap().unwrap();
    drop(stalled);
    server.claim.refuse();
    let error = Client::new(&path).status().await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
}

#[tokio::test]
async fn events_arrive_as_they_happen_and_the_stream_ends_with_the_daemon() {
    let events = Events::with_capacity(2);
    let fake = Fake { reload: Err(ApiError::new(ErrorKind::Conflict, "no")), events: events.clone() };
    let server = Running::start_with(fake).await;
    let warning = |text: &str| Occurrence::Warning { text: text.into() };
    for text in ["one", "two\nlines", "three"] {
        events.tell(samples::NOW * 1000, warning(text));
    }
    let from_the_beginning = EventsRequest { after: Some(0), ..EventsRequest::default() };
    let mut stream = server.client().events(from_the_beginning).await.unwrap();
    let mut next = async || stream.next().await.unwrap().map(|event| (event.id, event.what));
    assert_eq!(next().await, Some((1, Occurrence::Lost { events: 1 })));
    assert_eq!(next().await, Some((2, warning("two\nlines"))));
    assert_eq!(next().await, Some((3, warning("three"))));
    events.tell(samples::NOW * 1000, warning("four"));
    assert_eq!(next().await, Some((4, warning("four"))));
    let until_now = EventsRequest { follow: Some(false), ..from_the_beginning };
    let mut stream = server.client().events(until_now).await.unwrap();
    let mut ended = Vec::new();
    while let Some(event) = stream.next().await.unwrap() {
        ended.push(event.id);
    }
    assert_eq!(ended, [2, 3, 4], "it ends though the daemon goes on");
    events.close();
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn the_document_describes_what_is_served() {
    let server = Running::start().await;
    let answer =
        raw(&server.path(), b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"), "{head}");
    let document: serde_json::Value = serde_json::from_str(body).unwrap();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            // An unknown word in the body or query is refused by the route, not by the lack of one.
            let line = format!("{} {path}", method.to_uppercase());
            let request = format!("{line}?x=%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answer = raw(&server.path(), request.as_bytes()).await;
            assert!(!answer.contains("there is no route") && !answer.contains("405"), "{line}: {answer}");
        }
    }
    let drain = &document["paths"]["/v1/drain"]["post"];
    let body = &drain["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["properties"]["backend"]["type"], "string", "{drain:#}");
    assert_eq!(
        drain["responses"]["200"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/DrainReport"
    );
    let explain = document["paths"]["/v1/explain"]["get"]["parameters"].as_array().unwrap();
    let required = |name: &str| explain.iter().find(|of| of["name"] == name).unwrap()["required"].clone();
    assert_eq!((required("source"), required("source_port")), (true.into(), false.into()));
}

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Status and body of a request over TCP.
async fn over_tcp(address: std::net::SocketAddr, path: &str, header: &str) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    assert_eq!(status == 401, head.to_lowercase().contains("www-authenticate: bearer"), "{head}");
    (status, body.to_owned())
}

#[tokio::test]
async fn over_tcp_only_the_token_opens() {
    let folder = TempFolder::new();
    let file = folder.join("token");
    std::fs::write(&file, TOKEN).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let token = Token::read(&file).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gate = Gate::default();
    let fake = Fake { reload: Err(ApiError::new(ErrorKind::Conflict, "no")), events: Events::new() };
    let listener = Limited::new(listener, oneshot::channel().0);
    tokio::spawn(serve_tcp(listener, Arc::new(fake), gate.clone(), std::future::pending()));

    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(over_tcp(address, "/v1/health", &right).await.0, 401, "a new gate lets nobody in");
    for open_metrics in [false, true] {
        gate.set(Some(Access { token: token.clone(), open_metrics }));
        for (path, header, status) in [
            ("/v1/health", right.as_str(), 200),
            ("/v1/health", &format!("authorization: bearer {TOKEN}\r\n"), 200),
            ("/v1/health", "", 401),
            ("/v1/health", &format!("Authorization: Bearer {TOKEN}0\r\n"), 401),
            ("/v1/health", &format!("Authorization: Basic {TOKEN}\r\n"), 401),
            ("/v1/health", &format!("Authorization: {TOKEN}\r\n"), 401),
            ("/v1/no_such_route", "", 401),
            ("/openapi.json", "", 401),
            ("/metrics", right.as_str(), 200),
            ("/metrics", "", if open_metrics { 200 } else { 401 }),
            ("/metrics/", "", 401),
        ] {
            let (answered, body) = over_tcp(address, path, header).await;
            assert_eq!(answered, status, "{path} {header:?} {open_metrics}: {body}");
        }
    }
    gate.set(None);
    assert_eq!(over_tcp(address, "/metrics", &right).await.0, 401);

    // Whoever takes all connections keeps others out, and not for longer than they are held.
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let mut one_more = Box::pin(over_tcp(address, "/metrics", &right));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut one_more).await.is_err());
    held.pop();
    assert_eq!(one_more.await.0, 401);
}

#[tokio::test]
async fn metrics_are_in_the_format_of_prometheus() {
    let server = Running::start().await;
    let answer = raw(&server.path(), b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("\nvip_lb_build_info{version=\"0.1.0\"} 1\n"), "{answer}");
}

#[tokio::test]
async fn what_is_watched_arrives_until_the_daemon_ends_it() {
    let server = Running::start().await;
    let request = WatchRequest {
        source: Some("2001:db8::/32".into()),
        interface: Some("a b&c".into()),
        verdict: Some("drop,pass".into()),
        every: Some(3),
        ..WatchRequest::default()
    };
    let mut stream = server.client().watch(&request).await.unwrap();
    let packet = Watched::Packet(Box::new(samples::watched()));
    assert_eq!(stream.next().await.unwrap(), Some(packet));
    assert_eq!(stream.next().await.unwrap(), Some(Watched::Count { matched: 2, missed: 1 }));
    assert_eq!(stream.next().await.unwrap(), None);

    let refused = WatchRequest { verdict: Some("none".into()), ..WatchRequest::default() };
    let Err(ClientError::Refused(error)) = server.client().watch(&refused).await else {
        panic!("a bad request is refused")
    };
    assert_eq!(error.kind, ErrorKind::BadRequest);
}
