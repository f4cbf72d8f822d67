//! The control socket: whatever a client sends, the daemon's side answers in HTTP and JSON or hangs up, and never panics.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener as StdListener, UnixStream},
    },
    panic,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{net::UnixListener, sync::mpsc};
use vip_lb::{
    api::{
        Control,
        events::{Events, Subscription},
        model::{
            ApiError, BackendChange, BackendSelector, ConfigRequest, Counters, DrainReport, DrainRequest,
            ErrorKind, EventsRequest, ExplainRequest, Explanation, HandoverReport, HandoverRequest,
            NodeAdmin, NodeReport, Occurrence, Plan, ReloadReport, Remaining, Revisions, Status,
            TakeBackRequest, UpgradeReport, WatchRequest, Watched,
        },
        server,
    },
    config::model::NodeState,
    metrics::Facts,
};

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes that the socket's buffer takes, and more than the server reads of one request.
const SENT_AT_MOST: usize = 100 << 10;

/// Some request made the server's side panic.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Sends bytes as they are, says that there will be no more, and looks at all that comes back.
pub fn one(data: &[u8]) {
    let mut stream = UnixStream::connect_addr(socket()).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit can be set");
    // The server may close before it has read everything.
    let _ = stream.write_all(&data[..data.len().min(SENT_AT_MOST)]);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    assert!(!PANICKED.load(Ordering::SeqCst), "the server panicked");
    if let Err(error) = ended {
        let reset = error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(reset, "the server neither answers nor hangs up: {error}");
        return;
    }
    check(&answer);
}

/// Answers that follow each other, each a head and as many bytes as that says; to HEAD there is no body.
fn check(mut answer: &[u8]) {
    while !answer.is_empty() {
        let text = || String::from_utf8_lossy(answer);
        assert!(answer.starts_with(b"HTTP/1."), "no HTTP: {:?}", text());
        let head_len = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| {
            panic!("half a head: {:?}", text());
        });
        let head = std::str::from_utf8(&answer[..head_len]).expect("a head is text").to_lowercase();
        let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        assert!(matches!(status, 100 | 200 | 400..=431 | 503), "unexpected status {status}: {head}");
        answer = &answer[head_len + 4..];
        if answer.is_empty() || answer.starts_with(b"HTTP/1.") {
            continue;
        }
        let header = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        if header("content-type") == Some("text/event-stream") {
            match header("transfer-encoding") {
                Some("chunked") => answer = behind_chunks(answer),
                // To a client of HTTP/1.0 the end of the connection is the end of the stream.
                _ => return,
            }
            continue;
        }
        assert_eq!(header("content-type"), Some("application/json"), "{head}");
        let len: usize = header("content-length").and_then(|len| len.parse().ok()).expect("a length");
        assert!(len <= answer.len(), "half a body: {head}");
        let body: serde_json::Value = serde_json::from_slice(&answer[..len]).expect("a body is JSON");
        if status != 200 {
            assert!(body["error"].is_string() && body["kind"].is_string(), "no reason in {body}");
        }
        answer = &answer[len..];
    }
}

/// What follows a body in chunks (RFC 9112 section 7.1).
fn behind_chunks(mut answer: &[u8]) -> &[u8] {
    loop {
        let end = answer.windows(2).position(|two| two == b"\r\n").expect("a chunk begins with its length");
        let digits = std::str::from_utf8(&answer[..end]).expect("a length is text");
        let len = usize::from_str_radix(digits, 16).expect("a length is hexadecimal");
        let behind = end + 2 + len;
        assert_eq!(answer.get(behind..behind + 2), Some(&b"\r\n"[..]), "half a chunk");
        answer = &answer[behind + 2..];
        if len == 0 {
            return answer;
        }
    }
}

/// The socket of a server that lives as long as the process. Its name is an abstract one, so no file stays behind.
fn socket() -> &'static SocketAddr {
    static SOCKET: OnceLock<SocketAddr> = OnceLock::new();
    SOCKET.get_or_init(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // Those of this thread reach the caller by themselves.
            if thread::current().name() == Some(SERVER) {
                PANICKED.store(true, Ordering::SeqCst);
            }
            before(info);
        }));
        let address = SocketAddr::from_abstract_name(format!("vip-lb-fuzz-{}", std::process::id()))
            .expect("a short name");
        let listener = StdListener::bind_addr(&address).expect("a socket can be bound");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        thread::Builder::new()
            .name(SERVER.to_owned())
            .spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    let listener = UnixListener::from_std(listener).expect("a listener");
                    let served = server::serve(listener, Arc::new(Fake), std::future::pending());
                    served.await.expect("the server serves");
                });
            })
            .expect("a thread can be started");
        address
    })
}

const SERVER: &str = "control-server";

/// A daemon with one backend, `web/b1`, that is otherwise starting.
struct Fake;

impl Fake {
    fn changed(backend: &BackendSelector, now: &str) -> Result<DrainReport, ApiError> {
        if !backend.matches("web", "b1", std::net::Ipv4Addr::LOCALHOST.into()) {
            return Err(ApiError::new(ErrorKind::NotFound, format!("no backend matches `{backend}`")));
        }
        let (service, name) = ("web".to_owned(), "b1".to_owned());
        let (now, order, remaining) = (now.to_owned(), None, Remaining::default());
        let change = BackendChange { service, backend: name, changed: true, now, order, remaining };
        Ok(DrainReport { host: None, backends: vec![change], warnings: Vec::new() })
    }
}

impl Control for Fake {
    async fn status(&self) -> Result<Status, ApiError> {
        Err(ApiError::new(ErrorKind::Unavailable, "the daemon is starting"))
    }

    async fn counters(&self) -> Result<Counters, ApiError> {
        Ok(Counters { verdicts: Vec::new() })
    }

    async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ApiError> {
        Err(ApiError::new(ErrorKind::NotFound, format!("nothing is known of {request:?}")))
    }

    /// A stream that ends at once, as that of a daemon that stops.
    async fn events(&self, request: EventsRequest) -> Result<Subscription, ApiError> {
        let events = Events::new();
        events.tell(0, Occurrence::DaemonStopping { pid: 4711 });
        events.close();
        Ok(events.subscribe(request.after))
    }

    async fn metrics(&self) -> Result<Facts, ApiError> {
        Err(ApiError::new(ErrorKind::Unavailable, "the daemon is starting"))
    }

    async fn watch(&self, _: WatchRequest) -> Result<mpsc::Receiver<Watched>, ApiError> {
        Ok(mpsc::channel(1).1)
    }

    async fn drain(&self, request: DrainRequest) -> Result<DrainReport, ApiError> {
        Self::changed(&request.backend, "draining")
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

    async fn hand_over(
        &self,
        HandoverRequest { vip, yes, .. }: HandoverRequest,
    ) -> Result<HandoverReport, ApiError> {
        Ok(HandoverReport {
            vips: vec![vip],
            changed: yes,
            handed_over: yes,
            translated: 1,
            heirs: Vec::new(),
            differences: Vec::new(),
            warnings: Vec::new(),
        })
    }

    async fn take_back(&self, request: TakeBackRequest) -> Result<HandoverReport, ApiError> {
        Err(ApiError::new(ErrorKind::Conflict, request.vip.to_string()))
    }

    async fn remaining(&self, backend: BackendSelector) -> Result<DrainReport, ApiError> {
        Self::changed(&backend, "draining")
    }

    async fn undrain(&self, backend: BackendSelector) -> Result<DrainReport, ApiError> {
        Self::changed(&backend, "in ring")
    }

    async fn upgrade(&self) -> Result<UpgradeReport, ApiError> {
        Ok(UpgradeReport { pid: 4712, former_pid: 4711, version: "0.1.0".to_owned() })
    }

    async fn plan(&self, request: ConfigRequest) -> Result<Plan, ApiError> {
        let known = request.revision.is_none_or(|revision| revision == 1);
        let unknown = ApiError::new(ErrorKind::NotFound, "there is no such revision");
        if known { Ok(Plan::nothing()) } else { Err(unknown) }
    }

    async fn revisions(&self) -> Result<Revisions, ApiError> {
        Ok(Revisions { revisions: Vec::new(), folder: "/var/lib/vip-lb".into() })
    }

    async fn reload(&self, _: ConfigRequest) -> Result<ReloadReport, ApiError> {
        let lines = vec!["c.yaml:1:1: found nothing, expected something".to_owned()];
        Err(ApiError::invalid_config("c.yaml is not valid", lines))
    }
}
