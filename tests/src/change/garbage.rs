//! Strangers at the control socket.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

/// Connections that are opened and held, half a request said on each.
const HELD: usize = 300;
/// Connections that nonsense is said on.
const TALKERS: u64 = 200;

/// Says nonsense, half sentences and far too much, on many connections at a time, and hangs up.
///
/// # Errors
///
/// The socket is not there any more.
pub(super) fn attack(socket: &Path) -> Result<()> {
    let connect = || -> Result<UnixStream> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        stream.set_write_timeout(Some(Duration::from_millis(200)))?;
        Ok(stream)
    };
    let mut held = Vec::new();
    for number in 0..HELD {
        let mut stream = connect()?;
        let half: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /v1/status HT",
            _ => b"POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n{",
        };
        // It may have hung up already, which is its right.
        let _ = stream.write_all(half);
        held.push(stream);
    }
    thread::scope(|scope| {
        for talker in 0..8 {
            scope.spawn(move || {
                for number in 0..TALKERS / 8 {
                    let Ok(mut stream) = connect() else { continue };
                    let _ = stream.write_all(&nonsense(talker * TALKERS + number));
                    let _ = stream.read(&mut [0; 512]);
                }
            });
        }
    });
    // One that is served meanwhile shows that the others did not keep the daemon from it.
    let mut stream = connect()?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read an answer in the midst of garbage")?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "in the midst of garbage it says: {answer}");
    Ok(())
}

/// Bytes that differ from number to number: no HTTP, nearly HTTP, and HTTP that asks for nonsense.
fn nonsense(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = |length: usize| -> Vec<u8> {
        let byte = |_| {
            // xorshift: only as random as needed to differ.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..length).map(byte).collect()
    };
    match number % 5 {
        0 => noise(4096),
        1 => [b"GET /".as_slice(), &noise(3000), b" HTTP/1.1\r\n\r\n"].concat(),
        2 => [b"GET /v1/status HTTP/1.1\r\n".as_slice(), &b"X: y\r\n".repeat(20_000)].concat(),
        3 => {
            let body = noise(2000);
            let head = format!(
                "POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
                body.len()
            );
            [head.into_bytes(), body].concat()
        }
        _ => {
            let body = noise(500);
            let head = format!(
                "POST /v1/drain HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            [head.into_bytes(), body].concat()
        }
    }
}
