//! The client against a server, and against what is none.

use std::error::Error;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

use super::*;
use crate::api::samples::TempFolder;

#[tokio::test]
async fn without_a_daemon_the_error_says_what_to_do() {
    let folder = TempFolder::new();
    let path = folder.join("control.sock");
    for stale in [false, true] {
        if stale {
            drop(UnixListener::bind(&path).unwrap());
        }
        let error = Client::new(&path).status().await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, ClientError::NotRunning { .. }), "stale: {stale}: {text}");
        for phrase in [path.to_str().unwrap(), "vip-lb run --config FILE", "--socket", "VIP_LB_SOCKET"] {
            assert!(text.contains(phrase), "stale: {stale}: {text:?} has no {phrase:?}");
        }
        assert!(error.source().is_some());
    }
}

/// Root is never denied, so the system's answer is given by hand.
#[test]
fn without_permission_the_error_says_who_may() {
    let client = Client::new(Path::new("/run/vip-lb/control.sock"));
    let error = client.not_connected(io::ErrorKind::PermissionDenied.into());
    assert_eq!(
        error.to_string(),
        "not allowed to use /run/vip-lb/control.sock: run as root, or as a member of the group that owns it"
    );
}

/// Accepts one connection, reads a request, answers with these bytes and closes.
async fn answered_with(answer: &'static [u8]) -> ClientError {
    let folder = TempFolder::new();
    let path = folder.join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let read = stream.read(&mut request).await.unwrap();
        assert!(request[..read].starts_with(b"GET /v1/status HTTP/1.1\r\n"));
        stream.write_all(answer).await.unwrap();
    };
    let client = Client::new(&path);
    tokio::join!(client.status(), server).0.unwrap_err()
}

#[tokio::test]
async fn an_answer_of_something_else_is_told_from_one_of_the_daemon() {
    let error = answered_with(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"node\": \"a\"}").await;
    assert!(matches!(error, ClientError::NotUnderstood { status: StatusCode::OK, .. }), "{error}");
    let error = answered_with(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>").await;
    assert!(error.to_string().contains("status 502"), "{error}");
}

#[tokio::test]
async fn a_request_that_was_too_late_for_a_daemon_is_made_again_for_its_successor() {
    let folder = TempFolder::new();
    let path = folder.join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let server = async {
        for answer in [
            "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 26\r\n\r\n{\"version\":\"2\",\"pid\":4712}",
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let client = Client::new(&path);
    let (liveness, ()) = tokio::join!(client.health(), server);
    assert_eq!(liveness.unwrap().pid, 4712);
}

#[tokio::test]
async fn an_answer_cut_short_is_an_error() {
    for answer in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{", b"SSH-2.0-OpenSSH_9.2\r\n"] {
        let error = answered_with(answer).await;
        assert!(matches!(error, ClientError::BrokenOff { .. }), "{answer:?}: {error}");
    }
}
