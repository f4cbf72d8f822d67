//! The health checking protocol of gRPC (grpc.health.v1), one unary call over HTTP/2.
//!
//! Request and answer are one protobuf message each, of one field, so they are written and read here.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, TE, USER_AGENT},
};
use tokio::time::timeout_at;

use super::{
    Limit, Stream,
    http::{AGENT, MAX_BODY, drive, http2_handshake, hyper_reason, uri},
};
use crate::{config::model::GrpcCheck, health::Outcome};

const METHOD: &str = "/grpc.health.v1.Health/Check";

/// Asks for the health of a service. Returns how long the probe took.
pub(super) async fn ask(
    stream: Box<dyn Stream>,
    check: &GrpcCheck,
    limit: Limit,
) -> Result<Duration, Outcome> {
    let request = request(check)
        .map_err(|error| Outcome::NotProbed { reason: format!("cannot ask {}: {error}", check.host) })?;
    let exchange = async {
        let (mut sender, connection) = http2_handshake(stream).await?;
        let asked = async move {
            let answer = read(sender.send_request(request).await?).await?;
            Ok((answer, limit.spent()))
        };
        drive(connection, asked, limit).await
    };
    let unhealthy = |reason| Outcome::Unhealthy { reason };
    let exchanged = timeout_at(limit.deadline, exchange).await.map_err(|_| limit.no_answer())?;
    let (answer, latency) = exchanged.map_err(|error| unhealthy(hyper_reason(&error)))?;
    judge(&answer, &check.service).map_err(unhealthy)?;
    Ok(latency)
}

/// What came back.
#[derive(Debug, Default)]
struct Answer {
    http: StatusCode,
    /// `grpc-status`; it stands in the headers if there is no message, else in the trailers.
    status: Option<String>,
    message: Option<String>,
    body: Vec<u8>,
}

impl Answer {
    fn note(&mut self, headers: &HeaderMap) {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        self.status = text("grpc-status").or(self.status.take());
        self.message = text("grpc-message").or(self.message.take());
    }
}

async fn read(answer: Response<Incoming>) -> hyper::Result<Answer> {
    let mut read = Answer { http: answer.status(), ..Answer::default() };
    read.note(answer.headers());
    let mut body = answer.into_body();
    while read.body.len() < MAX_BODY
        && let Some(frame) = body.frame().await
    {
        let frame = frame?;
        if let Some(trailers) = frame.trailers_ref() {
            read.note(trailers);
        } else if let Some(data) = frame.data_ref() {
            read.body.extend_from_slice(data);
        }
    }
    Ok(read)
}

fn request(check: &GrpcCheck) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    Request::builder()
        .method(Method::POST)
        .uri(uri(&check.host, METHOD, check.tls.is_some())?)
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .body(Full::from(message(&check.service)))
}

/// HealthCheckRequest with its prefix: not compressed, its length; field 1 is the service, absent if empty.
fn message(service: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    if !service.is_empty() {
        fields.push(0x0a);
        // Configured names are at most 255 bytes long: two groups of 7 bits do.
        let length = service.len();
        if length < 0x80 {
            fields.push(length as u8);
        } else {
            fields.extend([length as u8 | 0x80, (length >> 7) as u8]);
        }
        fields.extend(service.as_bytes());
    }
    let mut message = vec![0];
    message.extend((fields.len() as u32).to_be_bytes());
    message.extend(fields);
    message
}

fn judge(answer: &Answer, service: &str) -> Result<(), String> {
    if answer.http != StatusCode::OK {
        return Err(format!("status {}, expected 200", answer.http.as_u16()));
    }
    match answer.status.as_deref() {
        Some("0") => {}
        None => return Err("not a gRPC answer: no grpc-status".to_owned()),
        Some("5") => return Err(format!("gRPC service {service:?} is unknown there")),
        Some("12") => return Err("the server has no gRPC health service".to_owned()),
        Some(code) => {
            let message = answer.message.as_deref().unwrap_or_default();
            return Err(format!("gRPC status {code} {message}").trim_end().to_owned());
        }
    }
    match serving(&answer.body) {
        Some(1) => Ok(()),
        Some(0) => Err("gRPC health UNKNOWN, expected SERVING".to_owned()),
        Some(2) => Err("gRPC health NOT_SERVING, expected SERVING".to_owned()),
        Some(3) => Err("gRPC health SERVICE_UNKNOWN, expected SERVING".to_owned()),
        Some(other) => Err(format!("gRPC health {other}, expected SERVING")),
        None => Err("not an answer of the gRPC health service".to_owned()),
    }
}

/// `status` of a HealthCheckResponse: field 1, a varint, 0 if absent. `None` if it is no such message.
fn serving(body: &[u8]) -> Option<u64> {
    let (&compressed, rest) = body.split_first()?;
    let (length, message) = rest.split_first_chunk::<4>()?;
    if compressed != 0 || u32::from_be_bytes(*length) as usize != message.len() {
        return None;
    }
    let mut rest = message;
    let mut status = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let value = match tag & 7 {
            0 => varint(&mut rest)?,
            1 => skip(&mut rest, 8)?,
            2 => {
                let length = varint(&mut rest)?;
                skip(&mut rest, usize::try_from(length).ok()?)?
            }
            5 => skip(&mut rest, 4)?,
            _ => return None,
        };
        if tag == 8 {
            status = value;
        }
    }
    Some(status)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn skip(rest: &mut &[u8], length: usize) -> Option<u64> {
    *rest = rest.get(length..)?;
    Some(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_message_with_the_name() {
        assert_eq!(message(""), [0, 0, 0, 0, 0]);
        assert_eq!(message("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = message(&"x".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01]);
        assert_eq!(long.len(), 8 + 200);
    }

    #[test]
    fn an_answer_is_read_whatever_else_is_in_it() {
        for (name, body, expected) in [
            ("serving", &[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            ("not serving", &[0, 0, 0, 0, 2, 8, 2], Some(2)),
            ("the default", &[0, 0, 0, 0, 0], Some(0)),
            ("unknown fields", &[0, 0, 0, 0, 9, 0x12, 2, 9, 9, 8, 1, 0x18, 0x96, 1], Some(1)),
            (
                "fixed fields",
                &[0, 0, 0, 0, 16, 0x15, 1, 1, 1, 1, 0x19, 1, 1, 1, 1, 1, 1, 1, 1, 8, 2],
                Some(2),
            ),
            ("compressed", &[1, 0, 0, 0, 2, 8, 1], None),
            ("cut off", &[0, 0, 0, 0, 2, 8], None),
            ("a number without end", &[0, 0, 0, 0, 2, 8, 0x80], None),
            ("a text without end", &[0, 0, 0, 0, 2, 0x12, 5], None),
            ("nothing", &[], None),
        ] {
            assert_eq!(serving(body), expected, "{name}");
        }
    }
}
