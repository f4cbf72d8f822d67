//! The health service of gRPC.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response, body::Incoming, header::HeaderValue, server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::config::model::GrpcCheck;

/// What a server answers: a message and the status after it, or the status alone.
#[derive(Clone, Copy)]
struct Answer {
    message: &'static [u8],
    status: Option<&'static str>,
}

const SERVING: Answer = Answer { message: &[0, 0, 0, 0, 2, 8, 1], status: Some("0") };

/// Serves one call, and tells what was asked.
async fn serve(answer: Answer) -> (SocketAddr, oneshot::Receiver<(String, Vec<u8>)>) {
    let (listener, address) = listener().await;
    let (asked, was_asked) = oneshot::channel();
    let asked = std::sync::Mutex::new(Some(asked));
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(|request: Request<Incoming>| {
            let asked = asked.lock().unwrap().take().unwrap();
            async move {
                let (head, body) = request.into_parts();
                let text = |name: &str| head.headers[name].to_str().unwrap().to_owned();
                let what = format!("{} {} {} {}", head.method, head.uri, text("content-type"), text("te"));
                asked.send((what, body.collect().await.unwrap().to_bytes().to_vec())).unwrap();
                let mut response = Response::builder().header("content-type", "application/grpc");
                let mut trailers = HeaderMap::new();
                if let Some(status) = answer.status {
                    if answer.message.is_empty() {
                        response = response.header("grpc-status", status).header("grpc-message", "oops");
                    } else {
                        trailers.insert("grpc-status", HeaderValue::from_static(status));
                    }
                }
                let body = Full::new(Bytes::from_static(answer.message));
                Ok::<_, hyper::Error>(
                    response.body(body.with_trailers(async { Some(Ok(trailers)) })).unwrap(),
                )
            }
        });
        // The probe closes.
        let _ =
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    });
    (address, was_asked)
}

fn check(service: &str) -> CheckKind {
    CheckKind::Grpc(GrpcCheck { service: service.to_owned(), host: "198.51.100.10".to_owned(), tls: None })
}

#[tokio::test]
async fn a_service_that_serves_is_healthy() {
    let (address, asked) = serve(SERVING).await;
    assert_healthy(&probed(&target(address, check("shop.Cart"), LONG)).await, "serving");
    let (what, body) = asked.await.unwrap();
    assert_eq!(what, "POST http://198.51.100.10/grpc.health.v1.Health/Check application/grpc trailers");
    assert_eq!(body, b"\0\0\0\0\x0b\x0a\x09shop.Cart");
}

#[tokio::test]
async fn everything_else_is_unhealthy() {
    let answer = |message, status| Answer { message, status };
    for (answer, reason) in [
        (answer(&[0, 0, 0, 0, 2, 8, 2], Some("0")), "gRPC health NOT_SERVING, expected SERVING"),
        (answer(&[0, 0, 0, 0, 0], Some("0")), "gRPC health UNKNOWN, expected SERVING"),
        (answer(&[0, 0, 0, 0, 2, 8, 3], Some("0")), "gRPC health SERVICE_UNKNOWN, expected SERVING"),
        (answer(&[9, 9], Some("0")), "not an answer of the gRPC health service"),
        (answer(&[], Some("5")), "gRPC service \"shop.Cart\" is unknown there"),
        (answer(&[], Some("12")), "the server has no gRPC health service"),
        (answer(&[], Some("14")), "gRPC status 14 oops"),
        (answer(&[0, 0, 0, 0, 2, 8, 1], None), "not a gRPC answer: no grpc-status"),
    ] {
        let (address, _asked) = serve(answer).await;
        assert_eq!(probed(&target(address, check("shop.Cart"), LONG)).await, unhealthy(reason));
    }
}

#[tokio::test]
async fn a_server_that_does_not_speak_it_is_unhealthy() {
    let (_listener, address) = listener().await;
    let outcome = probed(&target(address, check(""), SHORT)).await;
    assert_eq!(outcome, unhealthy("no answer within 200ms"), "it accepts and says nothing");
}
