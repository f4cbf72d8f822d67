//! QEMU as a child process: started, listened to, ended in time.

use std::{
    io::{self, Read, Write as _},
    process::{Child, Command},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::QEMU;

/// How often it is asked whether the guest is to be switched off.
const LOOK: Duration = Duration::from_millis(100);

/// Runs QEMU until it ends or its time is up, and returns what it wrote.
pub(super) fn watch(mut command: Command, limit: Duration, off: &AtomicBool, echo: bool) -> Result<String> {
    let deadline = now() + limit;
    let child = command.spawn().with_context(|| format!("start {QEMU} (package qemu-system-x86)"))?;
    let mut child = KillOnDrop(child);
    let (sender, chunks) = mpsc::channel();
    let stdout = child.0.stdout.take().context("QEMU has no standard output")?;
    let stderr = child.0.stderr.take().context("QEMU has no standard error")?;
    thread::spawn(move || forward_chunks(stdout, &sender));
    let complaints = thread::spawn(move || io::read_to_string(stderr).unwrap_or_default());

    let mut text = Vec::new();
    loop {
        match chunks.recv_timeout(LOOK.min(deadline.saturating_duration_since(now()))) {
            Ok(chunk) => {
                if echo {
                    let mut stdout = io::stdout().lock();
                    // Nobody reading the echo is no reason to end the guest.
                    stdout.write_all(&chunk).and_then(|()| stdout.flush()).ok();
                }
                text.extend_from_slice(&chunk);
            }
            Err(RecvTimeoutError::Timeout) if off.load(Ordering::Relaxed) => {
                bail!("the guest was switched off")
            }
            Err(RecvTimeoutError::Timeout) if now() >= deadline => {
                bail!("the guest was killed after {} s", limit.as_secs())
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.0.wait().context("wait for QEMU")?;
    if !status.success() {
        let complaints = complaints.join().unwrap_or_default();
        bail!("{QEMU} failed: {status}: {}", complaints.trim());
    }
    Ok(String::from_utf8_lossy(&text).replace('\r', ""))
}

fn forward_chunks(mut pipe: impl Read, sender: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut buffer) {
        if sender.send(buffer[..length].to_vec()).is_err() {
            return;
        }
    }
}

/// QEMU ends with the guest, whatever happens here.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "the time limit of a guest is real time")]
fn now() -> Instant {
    Instant::now()
}
