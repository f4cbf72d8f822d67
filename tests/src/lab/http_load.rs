//! Short HTTP requests, each on a connection of its own.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    namespace::{NamedThread, Namespace},
    patience,
};

/// What to ask, and how hard.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// The server.
    pub target: SocketAddr,
    /// Requests under way at the same time.
    pub workers: usize,
    /// End after so many requests; until [`HttpLoad::finish`] if `None`.
    pub requests: Option<usize>,
    /// Pause of each worker between two requests.
    pub pause: Duration,
    /// A request that takes longer has failed. Below one second, a handshake whose SYN was lost counts as failed;
    /// above, TCP's repetition may save it.
    pub timeout: Duration,
}

impl LoadOptions {
    /// As many requests as asked for, from 16 workers without a pause.
    #[must_use]
    pub fn count(target: SocketAddr, requests: usize) -> Self {
        Self { requests: Some(requests), pause: Duration::ZERO, ..Self::steady(target) }
    }

    /// 16 workers, each some 100 requests a second at most, fewer by the factor of [`patience`], until finished.
    #[must_use]
    pub fn steady(target: SocketAddr) -> Self {
        Self {
            target,
            workers: 16,
            requests: None,
            pause: Duration::from_millis(10) * patience(),
            timeout: Duration::from_secs(2) * patience(),
        }
    }
}

/// One request and what came of it.
#[derive(Clone, Debug)]
pub struct Request {
    /// When the connection was begun.
    pub started: Instant,
    /// From then to the end of the answer or the failure.
    pub took: Duration,
    /// The name the backend gave, or why there is none.
    pub outcome: Result<String, String>,
}

/// Load that is being sent by a thread in a namespace.
#[derive(Debug)]
pub struct HttpLoad {
    thread: NamedThread,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    begun: AtomicUsize,
    stop: AtomicBool,
}

impl HttpLoad {
    /// Begins sending.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered.
    pub fn start(from: &Namespace, options: LoadOptions) -> Result<Self> {
        let shared = Arc::new(Shared {
            requests: Mutex::new(Vec::new()),
            begun: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let state = Arc::clone(&shared);
        let thread = from.spawn("http load", move || async move {
            let mut workers = JoinSet::new();
            for _ in 0..options.workers {
                workers.spawn(work(options, Arc::clone(&state)));
            }
            while workers.join_next().await.is_some() {}
        })?;
        Ok(Self { thread, shared })
    }

    /// Sends a number of requests and waits for all of them.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered.
    pub fn run(from: &Namespace, options: LoadOptions) -> Result<HttpReport> {
        anyhow::ensure!(options.requests.is_some(), "a load to wait for needs a number of requests");
        let load = Self::start(from, options)?;
        load.thread.join();
        Ok(HttpReport { requests: load.shared.take() })
    }

    /// What came back until now.
    #[must_use]
    pub fn so_far(&self) -> HttpReport {
        HttpReport { requests: self.shared.requests.lock().expect("no panic while locked").clone() }
    }

    /// Ends the load after the requests that are under way.
    #[must_use]
    pub fn finish(self) -> HttpReport {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join();
        HttpReport { requests: self.shared.take() }
    }
}

impl Shared {
    fn take(&self) -> Vec<Request> {
        std::mem::take(&mut *self.requests.lock().expect("no panic while locked"))
    }
}

/// All requests of a load.
#[derive(Clone, Debug, Default)]
pub struct HttpReport {
    /// In the order in which they ended.
    pub requests: Vec<Request>,
}

impl HttpReport {
    /// Requests answered by each backend.
    #[must_use]
    pub fn by_backend(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for name in self.requests.iter().filter_map(|request| request.outcome.as_deref().ok()) {
            *counts.entry(name).or_default() += 1;
        }
        counts
    }

    /// The requests without an answer.
    pub fn failed(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(|request| request.outcome.is_err())
    }

    /// The requests that began at or after a moment.
    #[must_use]
    pub fn since(&self, moment: Instant) -> Self {
        Self { requests: self.requests.iter().filter(|request| request.started >= moment).cloned().collect() }
    }

    /// Why requests failed, and how often.
    #[must_use]
    pub fn errors(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for error in self.requests.iter().filter_map(|request| request.outcome.as_ref().err()) {
            *counts.entry(error.as_str()).or_default() += 1;
        }
        counts
    }

    /// The largest deviation of a backend's share of the answers from its weight's share, relative to the latter:
    /// 0.1 is a tenth more or less than its due. A backend outside `weights` that answered counts as infinite.
    #[must_use]
    pub fn share_error(&self, weights: &[(&str, u16)]) -> f64 {
        let counts = self.by_backend();
        if counts.keys().any(|name| !weights.iter().any(|(known, _)| known == name)) {
            return f64::INFINITY;
        }
        let answered = as_f64(counts.values().sum::<usize>()).max(1.0);
        let whole: f64 = weights.iter().map(|(_, weight)| f64::from(*weight)).sum();
        weights
            .iter()
            .map(|(name, weight)| {
                let due = f64::from(*weight) / whole;
                let share = as_f64(counts.get(name).copied().unwrap_or(0)) / answered;
                (share - due).abs() / due
            })
            .fold(0.0, f64::max)
    }
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// One GET from a namespace: the status and the body, trimmed.
///
/// # Errors
///
/// No connection, or no HTTP answer within two seconds times [`patience`].
pub fn fetch(from: &Namespace, target: SocketAddr, path: &str) -> Result<(u16, String)> {
    from.enter(|| -> Result<(u16, String)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(async {
            timeout(Duration::from_secs(2) * patience(), get(target, path))
                .await
                .map_err(|_| anyhow!("timed out"))
        })?;
        Ok(answer?)
    })?
    .with_context(|| format!("get {path} from {target}"))
}

async fn work(options: LoadOptions, shared: Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let number = shared.begun.fetch_add(1, Ordering::Relaxed);
        if options.requests.is_some_and(|limit| number >= limit) {
            break;
        }
        let started = Instant::now();
        let outcome = match timeout(options.timeout, get(options.target, "/")).await {
            Ok(Ok((200, body))) => Ok(body),
            Ok(Ok((status, _))) => Err(format!("status {status}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("timed out".to_owned()),
        };
        let request = Request { started, took: started.elapsed(), outcome };
        shared.requests.lock().expect("no panic while locked").push(request);
        if !options.pause.is_zero() {
            sleep(options.pause).await;
        }
    }
}

async fn get(target: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(target).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    match (status, answer.split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Ok((status, body.trim().to_owned())),
        _ => Err(io::Error::other("no HTTP answer")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{HttpReport, Request};

    #[test]
    fn the_share_error_is_relative_to_what_is_due() {
        let answer = |name: &str| Request {
            started: Instant::now(),
            took: Duration::ZERO,
            outcome: Ok(name.to_owned()),
        };
        let report = HttpReport { requests: ["a", "b", "b", "b"].map(answer).into() };
        for (weights, error) in [
            (&[("a", 1), ("b", 3)][..], 0.0),
            (&[("a", 1), ("b", 1)], 0.5),
            (&[("a", 1), ("b", 2), ("c", 1)], 1.0),
            (&[("a", 1)], f64::INFINITY),
        ] {
            assert_eq!(report.share_error(weights), error, "{weights:?}");
        }
    }
}
