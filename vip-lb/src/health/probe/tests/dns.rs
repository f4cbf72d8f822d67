//! Queries of DNS.

use tokio::net::UdpSocket;

use super::*;
use crate::config::model::{DnsCheck, DnsCode, DnsRecord, Protocol};

fn check(transport: Protocol, expected_code: DnsCode, expected_address: Option<&str>) -> CheckKind {
    CheckKind::Dns(DnsCheck {
        name: "www.example.net".to_owned(),
        record: DnsRecord::A,
        transport,
        expected_code,
        expected_address: expected_address.map(|text| text.parse().unwrap()),
    })
}

/// The answer to a query: its header with this code, the question, and 10.0.0.7.
fn answer(query: &[u8], code: u8) -> Vec<u8> {
    let records = u8::from(code == 0);
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, records, 0, 0, 0, 0]);
    answer.extend(&query[12..]);
    if code == 0 {
        answer.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x07");
    }
    answer
}

/// Answers one query by UDP or by TCP with this code, after a wrong answer by UDP.
async fn serve(transport: Protocol, code: u8) -> SocketAddr {
    match transport {
        Protocol::Udp => {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = socket.local_addr().unwrap();
            tokio::spawn(async move {
                let mut query = [0; 512];
                let (length, from) = socket.recv_from(&mut query).await.unwrap();
                let query = &mut query[..length];
                query[0] ^= 1;
                socket.send_to(&answer(query, 5), from).await.unwrap();
                query[0] ^= 1;
                socket.send_to(&answer(query, code), from).await.unwrap();
            });
            address
        }
        Protocol::Tcp => {
            let (listener, address) = listener().await;
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let length = stream.read_u16().await.unwrap();
                let mut query = vec![0; length.into()];
                stream.read_exact(&mut query).await.unwrap();
                let answer = answer(&query, code);
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            });
            address
        }
    }
}

#[tokio::test]
async fn answers_are_judged_by_code_and_address() {
    use DnsCode::{NoError, NxDomain};
    for transport in [Protocol::Udp, Protocol::Tcp] {
        for (name, expected_code, address, code, reason) in [
            ("an answer", NoError, None, 0, None),
            ("the address", NoError, Some("10.0.0.7"), 0, None),
            ("another one", NoError, Some("10.0.0.8"), 0, Some("10.0.0.7, expected 10.0.0.8")),
            ("an error", NoError, None, 2, Some("SERVFAIL, expected NOERROR")),
            ("a strange error", NoError, None, 9, Some("code 9, expected NOERROR")),
            ("an error that is expected", NxDomain, None, 3, None),
        ] {
            let server = serve(transport, code).await;
            let kind = check(transport, expected_code, address);
            let outcome = probed(&target(server, kind, LONG)).await;
            match reason {
                None => assert_healthy(&outcome, name),
                Some(reason) => assert_eq!(outcome, unhealthy(reason), "{name} by {transport}"),
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_is_silent_or_gone_is_unreachable_by_udp() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let kind = check(Protocol::Udp, DnsCode::NoError, None);
    let outcome = probed(&target(address, kind.clone(), SHORT)).await;
    assert_eq!(outcome, unreachable("no answer within 200ms"));
    drop(socket);
    let outcome = probed(&target(address, kind, LONG)).await;
    assert_eq!(outcome, unreachable("connection refused"));
}

#[tokio::test]
async fn a_server_that_closes_is_unhealthy_by_tcp() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    let outcome = probed(&target(address, check(Protocol::Tcp, DnsCode::NoError, None), LONG)).await;
    assert!(matches!(outcome, Outcome::Unhealthy { .. }), "{outcome:?}");
    server.await.unwrap();
}
