//! The end of a TCP probe.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::Limit;

/// How long the backend may take to close its side too.
const LINGER: Duration = Duration::from_millis(100);

/// Greetings (SMTP, SSH) are shorter than this.
const MAX_GREETING: usize = 64 * 1024;

/// Ends the connection by FIN, and reads what the backend says until it does so too: a socket closed with unread data
/// sends RST, which servers log as an error of their client.
///
/// A backend that neither closes within 100 ms nor stops talking is left all the same.
pub(super) async fn close(mut stream: TcpStream, limit: Limit) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut discarded = [0; 4096];
    let until_closed = async {
        let mut total = 0;
        while let Ok(length @ 1..) = stream.read(&mut discarded).await {
            total += length;
            if total > MAX_GREETING {
                break;
            }
        }
    };
    // Late is as good as closed: the verdict is in already.
    let _late = timeout_at(limit.deadline.min(Instant::now() + LINGER), until_closed).await;
}
