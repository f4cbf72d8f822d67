//! The request of an HTTP probe and the judgement of its answer.

use std::{
    collections::HashMap,
    error::Error,
    fmt::Write,
    io,
    net::Ipv6Addr,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Body, Incoming},
    client::conn::{http1, http2},
    header::{CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use regex::bytes::Regex;
use tokio::time::timeout_at;

use super::{Limit, Stream, contains, io_reason, shown, tcp::linger};
use crate::{
    config::model::{HttpCheck, HttpMethod, Pattern},
    health::Outcome,
};

/// About what is held of an answer whose head does not end; more is malformed.
const MAX_HEAD: usize = 64 * 1024;

/// What of an answer's body is read at most; that much is proof enough.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// What probes call themselves.
pub(super) const AGENT: &str = concat!("vip-lb-health/", env!("CARGO_PKG_VERSION"));

/// The patterns that were looked for, compiled.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    compiled: Mutex<HashMap<Pattern, Regex>>,
}

impl Patterns {
    /// Whether a pattern is found in a text.
    fn find(&self, pattern: &Pattern, text: &[u8]) -> bool {
        /// Patterns that are kept, so that those of former configurations do not add up.
        const MOST: usize = 1024;
        // Entries are only added and removed, so a panic elsewhere leaves them sound.
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if compiled.len() >= MOST && !compiled.contains_key(pattern) {
            compiled.clear();
        }
        let regex = compiled.entry(pattern.clone()).or_insert_with(|| pattern.compiled()).clone();
        drop(compiled);
        regex.is_match(text)
    }
}

/// Asks and judges the answer. The connection stands already, so whatever goes wrong is [`Outcome::Unhealthy`].
/// Returns how long the probe took.
pub(super) async fn ask(
    stream: Box<dyn Stream>,
    check: &HttpCheck,
    patterns: &Patterns,
    limit: Limit,
) -> Result<Duration, Outcome> {
    let request = request(check).map_err(|error| Outcome::NotProbed {
        reason: format!("cannot ask {} for {}: {error}", check.host, check.path),
    })?;
    let mut answer = Answer::default();
    let exchanged = if check.http2 {
        timeout_at(limit.deadline, http2_exchange(stream, request, &mut answer, limit)).await
    } else {
        timeout_at(limit.deadline, http1_exchange(stream, request, &mut answer, limit)).await
    };
    // A wrong status is wrong whatever becomes of the body.
    if let Some(status) = answer.status
        && !is_expected(status, &check.expected_status)
    {
        return Err(Outcome::Unhealthy { reason: wrong_status(status, &check.expected_status) });
    }
    let reason = match (exchanged, answer.latency) {
        // The end of the connection is no part of the answer.
        (_, Some(latency)) => match wrong_body(check, &answer.body, patterns) {
            None => return Ok(latency),
            Some(reason) => reason,
        },
        (Ok(Ok(())), None) => "closed before the answer was complete".to_owned(),
        (Ok(Err(error)), None) => hyper_reason(&error),
        (Err(_), None) if answer.status.is_some() => {
            format!("no complete answer within {:?}", limit.timeout)
        }
        (Err(_), None) => return Err(limit.no_answer()),
    };
    Err(Outcome::Unhealthy { reason })
}

/// What came back so far.
#[derive(Default)]
struct Answer {
    status: Option<StatusCode>,
    body: Vec<u8>,
    /// How long it took to be complete; `None` before.
    latency: Option<Duration>,
}

impl Answer {
    async fn read(&mut self, answer: Response<Incoming>, limit: Limit) -> hyper::Result<()> {
        self.status = Some(answer.status());
        let mut body = answer.into_body();
        while self.body.len() < MAX_BODY
            && let Some(frame) = body.frame().await
        {
            if let Some(data) = frame?.data_ref() {
                self.body.extend_from_slice(data);
            }
        }
        self.latency = Some(limit.spent());
        Ok(())
    }
}

async fn http1_exchange(
    stream: Box<dyn Stream>,
    request: Request<Empty<Bytes>>,
    answer: &mut Answer,
    limit: Limit,
) -> hyper::Result<()> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
    let asked = async move { answer.read(sender.send_request(request).await?, limit).await };
    drive(connection, asked, limit).await
}

async fn http2_exchange(
    stream: Box<dyn Stream>,
    request: Request<Empty<Bytes>>,
    answer: &mut Answer,
    limit: Limit,
) -> hyper::Result<()> {
    let (mut sender, connection) = http2_handshake(stream).await?;
    let asked = async move { answer.read(sender.send_request(request).await?, limit).await };
    drive(connection, asked, limit).await
}

/// The client's side of HTTP/2 over a stream.
pub(super) async fn http2_handshake<B>(
    stream: Box<dyn Stream>,
) -> hyper::Result<(http2::SendRequest<B>, http2::Connection<TokioIo<Box<dyn Stream>>, B, TokioExecutor>)>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(MAX_HEAD as u32)
        .handshake(TokioIo::new(stream))
        .await
}

/// Drives a connection until `asked` is done, and to its end if that comes soon.
pub(super) async fn drive<T>(
    connection: impl Future<Output = hyper::Result<()>>,
    asked: impl Future<Output = hyper::Result<T>>,
    limit: Limit,
) -> hyper::Result<T> {
    let mut asked = pin!(asked);
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        result = &mut asked => {
            if result.is_ok() {
                // A connection dropped with unread data is reset, which servers log as an error of their client.
                let _late = timeout_at(linger(limit), connection).await;
            }
            result
        }
        // What the connection had to say is on its way to the answer, its errors too.
        _ = &mut connection => asked.await,
    }
}

fn request(check: &HttpCheck) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let method = match check.method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Head => Method::HEAD,
        HttpMethod::Options => Method::OPTIONS,
        HttpMethod::Post => Method::POST,
    };
    let mut request = Request::builder().method(method);
    request = if check.http2 {
        request.uri(uri(&check.host, &check.path, check.tls.is_some())?)
    } else {
        request.uri(&check.path).header(HOST, authority(&check.host))
    };
    if !check.headers.iter().any(|(name, _)| name == USER_AGENT.as_str()) {
        request = request.header(USER_AGENT, AGENT);
    }
    for (name, value) in &check.headers {
        request = request.header(name, value);
    }
    if !check.http2 {
        request = request.header(CONNECTION, "close");
    }
    request.body(Empty::new())
}

/// What HTTP/2 sends as `:scheme`, `:authority` and `:path` (RFC 9113 section 8.3.1).
pub(super) fn uri(host: &str, path: &str, is_tls: bool) -> Result<Uri, hyper::http::Error> {
    let scheme = if is_tls { "https" } else { "http" };
    Uri::builder().scheme(scheme).authority(authority(host)).path_and_query(path).build()
}

/// IPv6 addresses are bracketed in a Host header (RFC 3986, section 3.2.2).
fn authority(host: &str) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

fn is_expected(status: StatusCode, expected: &[(u16, u16)]) -> bool {
    expected.iter().any(|&(first, last)| (first..=last).contains(&status.as_u16()))
}

fn wrong_status(status: StatusCode, expected: &[(u16, u16)]) -> String {
    let mut text = format!("status {}, expected ", status.as_u16());
    for (index, (first, last)) in expected.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        // Writing to a string cannot fail.
        let _ = if first == last { write!(text, "{first}") } else { write!(text, "{first}-{last}") };
    }
    text
}

/// What is wrong with a body, if something is.
fn wrong_body(check: &HttpCheck, body: &[u8], patterns: &Patterns) -> Option<String> {
    let expected = check.expected_body.as_ref();
    if let Some(expected) = expected.filter(|expected| !contains(body, expected.as_bytes())) {
        return Some(format!("the body is {}, expected {} in it", shown(body), shown(expected.as_bytes())));
    }
    let pattern = check.expected_pattern.as_ref().filter(|pattern| !patterns.find(pattern, body))?;
    Some(format!("the body is {}, expected it to match /{}/", shown(body), pattern.as_str()))
}

/// What went wrong with an exchange, in words.
pub(super) fn hyper_reason(error: &hyper::Error) -> String {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<io::Error>()
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            return io_reason(error);
        }
        source = cause.source();
    }
    if error.is_parse() {
        return format!("not an HTTP answer: {error}");
    }
    match error.source() {
        Some(cause) if !error.is_incomplete_message() && cause.downcast_ref::<io::Error>().is_none() => {
            format!("not an HTTP answer: {cause}")
        }
        _ => "closed before the answer was complete".to_owned(),
    }
}
