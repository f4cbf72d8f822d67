//! A connection is accepted; what is sent is answered as expected.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{Dial, Limit, Took, contains, io_reason, shown};
use crate::{config::model::Dialogue, health::Outcome};

/// How long the backend may take to close its side too.
const LINGER: Duration = Duration::from_millis(100);

/// Greetings (SMTP, SSH) are shorter than this, and what is expected comes within it.
const MAX_GREETING: usize = 64 * 1024;

/// Connects, sends, reads until what is expected has come. Returns how long that took.
pub(super) async fn ask(dial: &Dial, dialogue: &Dialogue, limit: Limit) -> Result<Took, Outcome> {
    let mut stream = dial.tcp(limit).await?;
    let connect = Some(limit.spent());
    let talked = timeout_at(limit.deadline, talk(&mut stream, dialogue)).await;
    talked.unwrap_or_else(|_| Err(limit.no_answer()))?;
    let latency = limit.spent();
    close(stream, limit).await;
    Ok(Took { latency, connect })
}

async fn talk(stream: &mut TcpStream, Dialogue { send, expect }: &Dialogue) -> Result<(), Outcome> {
    let failed = |error| Outcome::Unhealthy { reason: io_reason(&error) };
    if !send.is_empty() {
        stream.write_all(send).await.map_err(failed)?;
    }
    let Some(expect) = expect else { return Ok(()) };
    let mut received = Vec::new();
    while !contains(&received, expect) {
        let length = stream.read_buf(&mut received).await.map_err(failed)?;
        if length == 0 || received.len() > MAX_GREETING {
            let reason = format!("answered {}, expected {}", shown(&received), shown(expect));
            return Err(Outcome::Unhealthy { reason });
        }
    }
    Ok(())
}

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
    let _late = timeout_at(linger(limit), until_closed).await;
}

/// Until when the end of a connection that has served its purpose is waited for.
pub(super) fn linger(limit: Limit) -> Instant {
    limit.deadline.min(Instant::now() + LINGER)
}
