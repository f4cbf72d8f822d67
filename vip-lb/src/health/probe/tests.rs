//! Probes against real sockets on the loopback.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use super::*;
use crate::config::model::{Dialogue, HealthCheck, HttpCheck};

mod dns;
mod exec;
mod grpc;
mod http2;
mod icmp;
mod tcp;
mod tls;
mod udp;

/// For probes that are to be answered: never reached, however busy the machine.
const LONG: Duration = Duration::from_secs(60);

/// For probes that nobody answers.
const SHORT: Duration = Duration::from_millis(200);

fn target(address: SocketAddr, kind: CheckKind, timeout: Duration) -> Target {
    let check = HealthCheck { interval: timeout, timeout, ..HealthCheck::new(kind, address.port()) };
    Target { address: address.ip(), way: crate::health::Way::Direct, check }
}

async fn probed(target: &Target) -> Outcome {
    Probes::default().probe(target, &Dial::direct(target.socket_address())).await
}

fn plain() -> CheckKind {
    CheckKind::Tcp(Dialogue::default())
}

fn http(expected_status: &[(u16, u16)]) -> CheckKind {
    let check = HttpCheck::get("/health?deep=1", "www.example.net");
    CheckKind::Http(HttpCheck { expected_status: expected_status.to_vec(), ..check })
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Reads until the peer closes or the head of a request is there.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap() == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Serves one connection: reads the request, writes `answer`, closes. Returns the request.
async fn answer_once(listener: TcpListener, answer: Vec<u8>) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let head = read_head(&mut stream).await;
    // The probe may have read enough by now.
    let _ = stream.write_all(&answer).await;
    head
}

/// What a probe by `kind` makes of a server that writes `answer` and closes.
async fn outcome_of(kind: CheckKind, timeout: Duration, answer: impl Into<Vec<u8>>) -> Outcome {
    let (listener, address) = listener().await;
    let server = tokio::spawn(answer_once(listener, answer.into()));
    let outcome = probed(&target(address, kind, timeout)).await;
    server.await.unwrap();
    outcome
}

fn unhealthy(reason: &str) -> Outcome {
    Outcome::Unhealthy { reason: reason.to_owned() }
}

fn unreachable(reason: &str) -> Outcome {
    Outcome::Unreachable { reason: reason.to_owned() }
}

fn assert_healthy(outcome: &Outcome, case: &str) {
    assert!(matches!(outcome, Outcome::Healthy { .. }), "{case}: {outcome:?}");
}

#[tokio::test]
async fn a_server_that_accepts_is_healthy_by_plain() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.map(|_| received)
    });
    let outcome = probed(&target(address, plain(), LONG)).await;
    assert_healthy(&outcome, "accepting server");
    assert_eq!(server.await.unwrap().expect("closed without a reset"), b"", "nothing was sent");
}

#[tokio::test]
async fn a_greeting_does_not_turn_the_close_into_a_reset() {
    let (listener, address) = listener().await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    accepted.write_all(b"220 mail.example.net ESMTP\r\n").await.unwrap();
    stream.readable().await.unwrap();
    let server = tokio::spawn(async move { accepted.read(&mut [0]).await });
    super::tcp::close(stream, Limit::from_now(LONG)).await;
    assert_eq!(server.await.unwrap().expect("closed without a reset"), 0, "nothing was sent");
}

#[tokio::test]
async fn a_server_that_never_accepts_is_healthy_by_tcp_as_long_as_its_kernel_answers() {
    let (_listener, address) = listener().await;
    assert_healthy(&probed(&target(address, plain(), LONG)).await, "backlog");
}

#[tokio::test]
async fn ipv6_is_probed_too() {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(answer_once(listener, b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()));
    assert_healthy(&probed(&target(address, http(&[(204, 204)]), LONG)).await, "IPv6");
    server.await.unwrap();
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    // Bound but not listening: nobody else gets the port, and the kernel refuses.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    for kind in [plain(), http(&[(200, 399)])] {
        let outcome = probed(&target(address, kind.clone(), LONG)).await;
        assert_eq!(outcome, unreachable("connection refused"), "{kind:?}");
    }
}

#[tokio::test]
async fn a_handshake_that_gets_no_answer_is_unreachable() {
    // A full backlog drops further SYNs.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
        held.push(stream.unwrap());
    }
    for kind in [plain(), http(&[(200, 399)])] {
        let outcome = probed(&target(address, kind.clone(), SHORT)).await;
        assert_eq!(outcome, unreachable("no connection within 200ms"), "{kind:?}");
    }
}

/// Name, expected status, answer, and the reason if it is unhealthy.
type Row = (&'static str, &'static [(u16, u16)], String, Option<&'static str>);

#[tokio::test]
async fn answers_are_judged_by_the_table() {
    let ok: &[(u16, u16)] = &[(200, 399)];
    let head = "HTTP/1.1 200 OK\r\n";
    let table: [Row; 15] = [
        ("200", ok, format!("{head}Content-Length: 2\r\n\r\nok"), None),
        ("200 until the close", ok, format!("{head}\r\nsome body"), None),
        ("200 in chunks", ok, format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), None),
        ("HTTP/1.0", ok, "HTTP/1.0 200 OK\r\n\r\nok".to_owned(), None),
        ("last of a range", ok, "HTTP/1.1 399 Odd\r\nContent-Length: 0\r\n\r\n".to_owned(), None),
        ("after an interim answer", ok, format!("HTTP/1.1 103 Early Hints\r\n\r\n{head}\r\n"), None),
        (
            "500",
            ok,
            "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_owned(),
            Some("status 500, expected 200-399"),
        ),
        (
            "500 cut off",
            ok,
            "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 9\r\n\r\n".to_owned(),
            Some("status 500, expected 200-399"),
        ),
        (
            "200 where others are expected",
            &[(204, 204), (301, 302)],
            format!("{head}\r\n"),
            Some("status 200, expected 204, 301-302"),
        ),
        ("the second of two ranges", &[(204, 204), (200, 201)], format!("{head}\r\n"), None),
        ("nothing", ok, String::new(), Some("closed before the answer was complete")),
        (
            "half a head",
            ok,
            "HTTP/1.1 200 OK\r\nConte".to_owned(),
            Some("closed before the answer was complete"),
        ),
        (
            "half a body",
            ok,
            format!("{head}Content-Length: 100\r\n\r\nok"),
            Some("closed before the answer was complete"),
        ),
        (
            "another protocol",
            ok,
            "SSH-2.0-OpenSSH_9.2p1\r\n".to_owned(),
            Some("not an HTTP answer: invalid HTTP version parsed"),
        ),
        (
            "an endless head",
            ok,
            format!("{head}X-Long: {}\r\n\r\n", "x".repeat(1_000_000)),
            Some("not an HTTP answer: message head is too large"),
        ),
    ];
    for (name, expected_status, answer, reason) in table {
        let outcome = outcome_of(http(expected_status), LONG, answer).await;
        match reason {
            None => assert_healthy(&outcome, name),
            Some(reason) => assert_eq!(outcome, unhealthy(reason), "{name}"),
        }
    }
}

#[tokio::test]
async fn a_huge_body_is_not_read_to_its_end() {
    let (listener, address) = listener().await;
    // Written for as long as the probe listens.
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b'x'; 16 * 1024]).await.is_ok() {}
    });
    assert_healthy(&probed(&target(address, http(&[(200, 200)]), LONG)).await, "endless body");
    server.await.unwrap();
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_unhealthy() {
    let (_listener, address) = listener().await;
    let outcome = probed(&target(address, http(&[(200, 399)]), SHORT)).await;
    assert_eq!(outcome, unhealthy("no answer within 200ms"));
}

#[tokio::test]
async fn an_answer_that_drips_beyond_the_timeout_is_unhealthy() {
    for (head, reason) in [
        ("HTTP/1.1 200 OK\r\n", "no answer within 200ms"),
        ("HTTP/1.1 200 OK\r\n\r\n", "no complete answer within 200ms"),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "status 503, expected 200-399"),
    ] {
        let (listener, address) = listener().await;
        let (over, mut is_over) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut drip = tokio::time::interval(Duration::from_millis(5));
            while is_over.try_recv().is_err() && stream.write_all(b"x").await.is_ok() {
                drip.tick().await;
            }
        });
        let outcome = probed(&target(address, http(&[(200, 399)]), SHORT)).await;
        assert_eq!(outcome, unhealthy(reason), "after {head:?}");
        drop(over);
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_reset_after_the_handshake_is_unhealthy() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.set_zero_linger().unwrap();
    });
    let outcome = probed(&target(address, http(&[(200, 399)]), LONG)).await;
    assert_eq!(outcome, unhealthy("connection reset by peer"));
    server.await.unwrap();
}

#[tokio::test]
async fn the_request_says_what_it_is() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(answer_once(listener, b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
    assert_healthy(&probed(&target(address, http(&[(200, 200)]), LONG)).await, "request");
    let expected = format!(
        "GET /health?deep=1 HTTP/1.1\r\nhost: www.example.net\r\nuser-agent: vip-lb-health/{}\r\nconnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(server.await.unwrap(), expected);
}

#[tokio::test]
async fn an_ipv6_host_is_bracketed() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await
    });
    let kind = CheckKind::Http(HttpCheck::get("/", "2001:db8::1"));
    let _closed = probed(&target(address, kind, LONG)).await;
    let head = server.await.unwrap();
    assert!(head.contains("host: [2001:db8::1]\r\n"), "{head}");
}

#[tokio::test]
async fn a_request_that_cannot_be_made_counts_neither_way() {
    let (_listener, address) = listener().await;
    let kind = CheckKind::Http(HttpCheck::get("/", "a\nb"));
    let outcome = probed(&target(address, kind, LONG)).await;
    assert!(matches!(outcome, Outcome::NotProbed { .. }), "{outcome:?}");
}
