//! The whole way with real servers.

use std::sync::atomic::AtomicU16;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;
use crate::config::model::HttpCheck;

/// An HTTP server on `address` that answers with `status`, until it is aborted.
async fn serve(address: SocketAddr, status: Arc<AtomicU16>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                let status = status.load(Ordering::SeqCst);
                let answer = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n");
                // Probes may be gone by now.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    (address, server)
}

async fn stop(server: JoinHandle<()>) {
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn a_server_that_fails_goes_away_and_comes_back_is_followed() {
    // An address that no other test listens on and no connection starts from, so that the port stays free.
    let anywhere = SocketAddr::from(([127, 83, 7, 1], 0));
    let status = Arc::new(AtomicU16::new(200));
    let (address, server) = serve(anywhere, Arc::clone(&status)).await;
    let check = |kind| HealthCheck {
        interval: Duration::from_millis(20),
        timeout: 60 * SECOND,
        ..HealthCheck::new(kind, address.port())
    };
    let http = CheckKind::Http(HttpCheck::get("/", "www.example.net"));
    let target = Target { address: address.ip(), way: crate::health::Way::Direct, check: check(http) };
    let (monitor, mut events) = Monitor::start(Ways::default());
    monitor.set_targets(vec![target.clone()]);
    assert_eq!(transition(&mut events).await, Transition::CameUp);

    status.store(500, Ordering::SeqCst);
    let down = Down { cause: DownCause::Unhealthy, reason: "status 500, expected 200-399".to_owned() };
    assert_eq!(transition(&mut events).await, Transition::WentDown(down));

    stop(server).await;
    let dead = Down { cause: DownCause::Unreachable, reason: "connection refused".to_owned() };
    assert_eq!(transition(&mut events).await, Transition::CauseChanged(dead.clone()));
    assert_eq!(monitor.state(&target), Some(State::Down(dead.clone())));

    status.store(200, Ordering::SeqCst);
    let (_, server) = serve(address, status).await;
    let event = events.recv().await.unwrap();
    assert_eq!((&*event.target, event.transition), (&target, Transition::CameUp));
    assert_eq!(monitor.state(&target), Some(State::Up));

    // The same by TCP: from up to unreachable in one step.
    let tcp = Target { check: check(CheckKind::Tcp(Dialogue::default())), ..target };
    monitor.set_targets(vec![tcp]);
    stop(server).await;
    assert_eq!(transition(&mut events).await, Transition::WentDown(dead));
}
