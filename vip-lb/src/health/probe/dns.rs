//! One query of DNS, by UDP or TCP.

mod message;

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout_at,
};

use self::message::{Answer, query};
use super::{Dial, Limit, Took, dial::random, io_reason, tcp, udp};
use crate::{
    config::model::{DnsCheck, DnsCode, Protocol},
    health::Outcome,
};

/// Asks and judges the answer. Returns how long the probe took.
pub(super) async fn ask(dial: &Dial, check: &DnsCheck, limit: Limit) -> Result<Took, Outcome> {
    let [high, low, ..] = random().to_be_bytes();
    let id = u16::from_be_bytes([high, low]);
    let query = query(id, &check.name, check.record);
    let (answer, took) = match check.transport {
        Protocol::Udp => {
            let socket = dial.udp()?;
            // Answers to somebody else's query are not ours (RFC 5452 section 9.1).
            let answer =
                udp::exchange(&socket, &query, |answer| message::is_answer(answer, id), limit).await?;
            (answer.ok_or_else(|| udp::silence(limit))?, Took::whole(limit.spent()))
        }
        Protocol::Tcp => {
            let mut stream = dial.tcp(limit).await?;
            let connect = Some(limit.spent());
            let exchange = timeout_at(limit.deadline, over_tcp(&mut stream, &query)).await;
            let answer = exchange
                .map_err(|_| limit.no_answer())?
                .map_err(|error| Outcome::Unhealthy { reason: io_reason(&error) })?;
            let latency = limit.spent();
            tcp::close(stream, limit).await;
            (answer, Took { latency, connect })
        }
    };
    judge(check, &query, &answer).map_err(|reason| Outcome::Unhealthy { reason })?;
    Ok(took)
}

/// A message over TCP has its length before it (RFC 1035 section 4.2.2).
async fn over_tcp(stream: &mut TcpStream, query: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    // In one segment: some servers read no more of it.
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn judge(check: &DnsCheck, query: &[u8], answer: &[u8]) -> Result<(), String> {
    let answer = Answer::read(answer, query).ok_or("not an answer of DNS to this query")?;
    if answer.code != check.expected_code.number() {
        return Err(format!("{}, expected {}", code(answer.code), check.expected_code));
    }
    match check.expected_address {
        Some(expected) if !answer.addresses.contains(&expected) => {
            let cut = if answer.is_truncated { " (cut off; tcp would have all)" } else { "" };
            let found: Vec<String> = answer.addresses.iter().take(4).map(ToString::to_string).collect();
            let found = if found.is_empty() { "no address".to_owned() } else { found.join(", ") };
            Err(format!("{found}{cut}, expected {expected}"))
        }
        _ => Ok(()),
    }
}

fn code(number: u8) -> String {
    let known = DnsCode::ALL.iter().find(|code| code.number() == number);
    known.map_or_else(|| format!("code {number}"), ToString::to_string)
}
