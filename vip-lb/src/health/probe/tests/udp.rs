//! Datagrams.

use tokio::net::UdpSocket;

use super::*;

/// An address that no other test's socket gets by itself, so that it stays free when its owner leaves.
async fn bound(last: u8) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 83, 8, last), 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn kind(send: &str, expect: Option<&str>) -> CheckKind {
    let expect = expect.map(|text| text.as_bytes().to_owned());
    CheckKind::Udp(Dialogue { send: send.as_bytes().to_owned(), expect })
}

#[tokio::test]
async fn an_answer_is_judged() {
    let (socket, address) = bound(1).await;
    let server = tokio::spawn(async move {
        let mut datagram = [0; 100];
        loop {
            let (length, from) = socket.recv_from(&mut datagram).await.unwrap();
            socket.send_to(&[b"re: ", &datagram[..length]].concat(), from).await.unwrap();
        }
    });
    assert_healthy(&probed(&target(address, kind("hello", Some("re: hello")), LONG)).await, "an echo");
    assert_healthy(&probed(&target(address, kind("", Some("re: ")), LONG)).await, "an empty datagram");
    assert_healthy(&probed(&target(address, kind("", None), LONG)).await, "any answer");
    let outcome = probed(&target(address, kind("hello", Some("bye")), LONG)).await;
    assert_eq!(outcome, unhealthy("answered \"re: hello\", expected \"bye\""));
    server.abort();
}

#[tokio::test]
async fn silence_is_unreachable_only_where_an_answer_is_expected() {
    let (_socket, address) = bound(2).await;
    let outcome = probed(&target(address, kind("hello", Some("bye")), SHORT)).await;
    assert_eq!(outcome, unreachable("no answer within 200ms"));
    assert_healthy(&probed(&target(address, kind("hello", None), SHORT)).await, "no answer expected");
}

#[tokio::test]
async fn a_refusal_is_unreachable_and_silence_after_it_too() {
    let (socket, address) = bound(3).await;
    drop(socket);
    let probes = Probes::default();
    let (target, dial) = (target(address, kind("hello", None), SHORT), Dial::direct(address));
    assert_eq!(probes.probe(&target, &dial).await, unreachable("connection refused"));

    // Hosts do not refuse every time.
    let socket = UdpSocket::bind(address).await.unwrap();
    let outcome = probes.probe(&target, &dial).await;
    assert_eq!(outcome, unreachable("no answer within 200ms, and refused before"));

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_healthy(&probes.probe(&target, &dial).await, "long after it");
    drop(socket);
}
