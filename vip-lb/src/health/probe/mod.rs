//! One probe of one backend: from a check to an [`Outcome`], within the check's timeout.

pub mod dial;
mod http;
mod tcp;

use std::{io, time::Duration};

use tokio::time::Instant;

pub use self::dial::Dial;

use crate::{
    config::model::CheckKind,
    health::{Outcome, Target},
};

#[cfg(test)]
mod tests;

/// Probes `target` once, by sockets of `dial`. Takes no longer than the timeout of its check.
pub async fn probe(target: &Target, dial: &Dial) -> Outcome {
    let check = &target.check;
    let started = Instant::now();
    let limit = Limit { deadline: started + check.timeout, timeout: check.timeout };
    let stream = match dial.tcp(limit).await {
        Ok(stream) => stream,
        Err(outcome) => return outcome,
    };
    match &check.kind {
        CheckKind::Tcp => {
            let latency = started.elapsed();
            tcp::close(stream, limit).await;
            Outcome::Healthy { latency }
        }
        CheckKind::Http { path, host, expected_status } => {
            match http::get(stream, path, host, expected_status, limit).await {
                Ok(()) => Outcome::Healthy { latency: started.elapsed() },
                Err(outcome) => outcome,
            }
        }
    }
}

/// The time a probe may take.
#[derive(Clone, Copy, Debug)]
struct Limit {
    /// When it ends.
    deadline: Instant,
    /// Its length, for messages.
    timeout: Duration,
}

/// The system's words for an error, such as `connection refused`.
fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    words.to_lowercase()
}
