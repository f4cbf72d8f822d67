//! HTTP/2 with prior knowledge, and what of a request and its body can be said in the configuration.

use hyper::{Request, Response, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;
use crate::config::model::HttpMethod;

/// Serves one connection of HTTP/2: says in the body what was asked.
async fn serve() -> SocketAddr {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(|request: Request<Incoming>| async move {
            let probe = request.headers().get("x-probe").map_or("", |value| value.to_str().unwrap());
            let said = format!("{:?} {} {} {probe}", request.version(), request.method(), request.uri());
            Ok::<_, hyper::Error>(Response::new(said))
        });
        // The probe closes.
        let _ =
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    });
    address
}

#[tokio::test]
async fn a_request_over_http2_is_what_the_check_says() {
    let check = HttpCheck {
        http2: true,
        method: HttpMethod::Post,
        headers: vec![("x-probe".to_owned(), "1".to_owned())],
        ..HttpCheck::get("/health?deep=1", "www.example.net")
    };
    let said = "HTTP/2.0 POST http://www.example.net/health?deep=1 1";
    for (body, pattern, reason) in [
        (Some(said), None, None),
        (Some("health"), Some("POST .*deep=[0-9]"), None),
        (
            Some("ready"),
            None,
            Some("the body is \"HTTP/2.0 POST http://www.example.net/hea\"..., expected \"ready\" in it"),
        ),
        (
            None,
            Some("^ready$"),
            Some(
                "the body is \"HTTP/2.0 POST http://www.example.net/hea\"..., expected it to match /^ready$/",
            ),
        ),
    ] {
        let check = HttpCheck {
            expected_body: body.map(str::to_owned),
            expected_pattern: pattern.map(|pattern| pattern.parse().unwrap()),
            ..check.clone()
        };
        let outcome = probed(&target(serve().await, CheckKind::Http(check), LONG)).await;
        match reason {
            None => assert_healthy(&outcome, "HTTP/2"),
            Some(reason) => assert_eq!(outcome, unhealthy(reason)),
        }
    }
}

#[tokio::test]
async fn headers_of_the_check_are_sent_over_http1_too() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(answer_once(listener, b"HTTP/1.1 200 OK\r\n\r\n".to_vec()));
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let check = HttpCheck {
        method: HttpMethod::Head,
        headers: vec![header("x-probe", "1"), header("user-agent", "mine")],
        ..HttpCheck::get("/", "a")
    };
    assert_healthy(&probed(&target(address, CheckKind::Http(check), LONG)).await, "HEAD");
    let expected =
        "HEAD / HTTP/1.1\r\nhost: a\r\nx-probe: 1\r\nuser-agent: mine\r\nconnection: close\r\n\r\n";
    assert_eq!(server.await.unwrap(), expected);
}

#[tokio::test]
async fn a_server_of_http1_is_unhealthy_over_http2() {
    let check = HttpCheck { http2: true, ..HttpCheck::get("/", "a") };
    let answer = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _closed = stream.read_to_end(&mut Vec::new()).await;
    });
    let outcome = probed(&target(address, CheckKind::Http(check), LONG)).await;
    assert!(
        matches!(&outcome, Outcome::Unhealthy { reason } if reason.starts_with("not an HTTP answer")),
        "{outcome:?}"
    );
    server.await.unwrap();
}
