//! The request of an HTTP probe and the judgement of its answer.

use std::{error::Error, fmt::Write, io, net::Ipv6Addr, pin::pin};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, StatusCode,
    client::conn::http1,
    header::{CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout_at};

use super::{Limit, io_reason};
use crate::health::Outcome;

/// About what is held of an answer whose head does not end; more is malformed.
const MAX_HEAD: usize = 64 * 1024;

/// What of an answer's body is read at most; that much is proof enough.
const MAX_BODY: usize = 64 * 1024;

const AGENT: &str = concat!("vip-lb-health/", env!("CARGO_PKG_VERSION"));

/// Asks for `path` and judges the answer. The connection stands already, so whatever goes wrong is
/// [`Outcome::Unhealthy`].
pub(super) async fn get(
    stream: TcpStream,
    path: &str,
    host: &str,
    expected_status: &[(u16, u16)],
    limit: Limit,
) -> Result<(), Outcome> {
    let request = Request::get(path)
        .header(HOST, host_header(host))
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Outcome::NotProbed { reason: format!("cannot ask {host} for {path}: {error}") })?;

    let mut status = None;
    let judged = timeout_at(limit.deadline, exchange(stream, request, &mut status)).await;
    // A wrong status is wrong whatever becomes of the body.
    if let Some(status) = status
        && !is_expected(status, expected_status)
    {
        return Err(Outcome::Unhealthy { reason: wrong_status(status, expected_status) });
    }
    let reason = match judged {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => hyper_reason(&error),
        Err(_) if status.is_some() => format!("no complete answer within {:?}", limit.timeout),
        Err(_) => format!("no answer within {:?}", limit.timeout),
    };
    Err(Outcome::Unhealthy { reason })
}

/// Sends the request and reads the answer; `status` is set as soon as its head is there.
async fn exchange(
    stream: TcpStream,
    request: Request<Empty<Bytes>>,
    status: &mut Option<StatusCode>,
) -> hyper::Result<()> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        *status = Some(answer.status());
        let mut body = answer.into_body();
        let mut read = 0;
        while read < MAX_BODY
            && let Some(frame) = body.frame().await
        {
            read += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(())
    };
    let mut answer = pin!(answer);
    tokio::select! {
        biased;
        result = &mut answer => result,
        // What the connection had to say is on its way to the answer, its errors too.
        _ = connection => answer.await,
    }
}

/// IPv6 addresses are bracketed in a Host header (RFC 3986, section 3.2.2).
fn host_header(host: &str) -> String {
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

fn hyper_reason(error: &hyper::Error) -> String {
    let source = error.source();
    if let Some(error) = source.and_then(|source| source.downcast_ref::<io::Error>())
        && error.kind() != io::ErrorKind::UnexpectedEof
    {
        return io_reason(error);
    }
    if error.is_parse() {
        return format!("not an HTTP answer: {error}");
    }
    "closed before the answer was complete".to_owned()
}
