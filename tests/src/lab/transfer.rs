//! Large files, moved by curl.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, ensure};

use super::{command, namespace::Namespace, patience, scratch::Scratch};

/// Seconds that one transfer may take, times [`patience`].
const LIMIT: u32 = 20;

/// A file of bytes that do not repeat, which a client has and moves to and from web servers.
#[derive(Debug)]
pub struct Transfer {
    bytes: Vec<u8>,
    sent: PathBuf,
    received: PathBuf,
}

impl Transfer {
    /// Makes the file, of so many bytes.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn new(scratch: &Scratch, len: usize) -> Result<Self> {
        let [sent, received] = ["sent", "received"].map(|name| scratch.path().join(name));
        let bytes = noise(len);
        fs::write(&sent, &bytes).with_context(|| format!("write {}", sent.display()))?;
        Ok(Self { bytes, sent, received })
    }

    /// The bytes themselves.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Fetches `/files/NAME`, from a port of curl's choice, and compares what came with the file.
    ///
    /// # Errors
    ///
    /// curl fails or does not get it in time, or other bytes came.
    pub fn download(&self, client: &Namespace, server: SocketAddr, name: &str) -> Result<()> {
        let _ = fs::remove_file(&self.received);
        let received = self.received.to_string_lossy().into_owned();
        curl(client, server, name, LIMIT, &["--output", &received])?;
        let bytes = fs::read(&self.received).context("read what came")?;
        ensure!(bytes == self.bytes, "{} bytes came, and not those of the file", bytes.len());
        Ok(())
    }

    /// Whether `/files/NAME` does not arrive within so many seconds, times [`patience`], although its server answers.
    ///
    /// # Errors
    ///
    /// curl fails in another way.
    pub fn download_stalls(
        &self,
        client: &Namespace,
        server: SocketAddr,
        name: &str,
        seconds: u32,
    ) -> Result<bool> {
        let Err(error) = curl(client, server, name, seconds, &["--output", "/dev/null"]) else {
            return Ok(false);
        };
        let text = format!("{error:#}");
        ensure!(text.contains("timed out"), "{text}");
        Ok(true)
    }

    /// Puts the file to `/files/NAME`; the server's copy is the caller's to compare.
    ///
    /// # Errors
    ///
    /// curl fails, or is not done in time.
    pub fn upload(&self, client: &Namespace, server: SocketAddr, name: &str) -> Result<()> {
        let sent = self.sent.to_string_lossy().into_owned();
        curl(client, server, name, LIMIT, &["--upload-file", &sent]).map(drop)
    }
}

fn curl(
    client: &Namespace,
    server: SocketAddr,
    name: &str,
    seconds: u32,
    options: &[&str],
) -> Result<String> {
    let mut command = client.command("curl");
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*"]);
    command.arg("--max-time").arg((seconds * patience()).to_string());
    command.args(options).arg(format!("http://{server}/files/{name}"));
    command::output_of(&mut command)
}

/// Marsaglia's xorshift64 (2003): a missing, doubled or displaced piece does not go unseen.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(len).collect()
}
