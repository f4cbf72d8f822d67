//! A command ends with status 0.
//!
//! It runs in a process group of its own, which is killed when it is over or late, so that nothing it started stays.

use std::{
    io,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::process::ExitStatusExt as _,
    },
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, unix::AsyncFd},
    process::{Child, ChildStdout, Command},
    sync::Semaphore,
    time::timeout_at,
};

use super::{Dial, Limit, io_reason};
use crate::health::{Outcome, Target};

/// All that a command finds of programs without their paths.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Commands that run at a time, so that thousands of checks do not fill the machine.
const AT_A_TIME: usize = 32;

/// What is read of a command's output; the first line of it goes into the reason.
const MAX_OUTPUT: usize = 4096;

/// What of that line is shown.
const MAX_REASON: usize = 200;

static RUNNING: Semaphore = Semaphore::const_new(AT_A_TIME);

/// Runs `command` and judges how it ends. Returns how long that took.
pub(super) async fn run(
    command: &[String],
    target: &Target,
    dial: &Dial,
    limit: Limit,
) -> Result<Duration, Outcome> {
    run_with(command, environment(target, dial), limit).await
}

/// Runs a command that is about no backend, and judges how it ends, as checks do. Returns how long that took.
///
/// # Errors
///
/// It does not end with status 0 in time, or cannot be run: [`Outcome::NotProbed`].
pub async fn run_command(
    command: &[String],
    environment: impl IntoIterator<Item = (&'static str, String)>,
    timeout: Duration,
) -> Result<Duration, Outcome> {
    run_with(command, environment, Limit::from_now(timeout)).await
}

/// Runs a command that is told this much.
async fn run_with(
    command: &[String],
    environment: impl IntoIterator<Item = (&'static str, String)>,
    limit: Limit,
) -> Result<Duration, Outcome> {
    // The time that a command has begins when it may run. The semaphore is never closed.
    let Ok(_permit) = RUNNING.acquire().await else {
        return Err(Outcome::NotProbed { reason: "no command may run".to_owned() });
    };
    let limit = Limit::from_now(limit.timeout);
    let Some((program, arguments)) = command.split_first() else {
        return Err(Outcome::NotProbed { reason: "no command".to_owned() });
    };
    let cannot = |error: &io::Error| Outcome::NotProbed {
        reason: format!("cannot run {program}: {}", io_reason(error)),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs([
            ("PATH", PATH.to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("VIP_LB_TIMEOUT_MS", limit.timeout.as_millis().to_string()),
        ])
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| cannot(&error))?;
    let group = Group(child.id());
    let exited = exited(&child).map_err(|error| cannot(&error))?;
    let mut output = child.stdout.take();
    let mut said = Vec::new();
    let ended = timeout_at(limit.deadline, async {
        tokio::select! {
            biased;
            ready = exited.readable() => drop(ready?),
            // What has closed its output is waited for.
            () = listen(output.as_mut(), &mut said) => drop(exited.readable().await?),
        }
        Ok(())
    })
    .await;
    let latency = limit.spent();
    // Before the command is reaped, which would give its number to others.
    drop(group);
    let Ok(ended) = ended else {
        let reason = format!("{program} did not end within {:?}", limit.timeout);
        return Err(Outcome::Unhealthy { reason });
    };
    ended.map_err(|error| cannot(&error))?;
    let status = child.wait().await.map_err(|error| cannot(&error))?;
    if status.success() {
        return Ok(latency);
    }
    // Whoever could still write is dead, so this ends.
    listen(output.as_mut(), &mut said).await;
    Err(Outcome::Unhealthy { reason: reason(status, &said) })
}

/// Readable when the command has exited, which leaves it to be reaped (pidfd_open(2), Linux 5.3).
fn exited(child: &Child) -> io::Result<AsyncFd<OwnedFd>> {
    let id = child.id().ok_or_else(|| io::Error::other("it was reaped already"))?;
    // SAFETY: it takes two numbers and returns a file descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, id, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel just made it, for nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: an owned file descriptor is the same until it is closed, which `AsyncFd` does last.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// What a command is told of the backend that it is to ask.
fn environment(target: &Target, dial: &Dial) -> Vec<(&'static str, String)> {
    let mut environment = vec![("VIP_LB_ADDRESS", target.address.to_string())];
    if target.check.port != 0 {
        environment.push(("VIP_LB_PORT", target.check.port.to_string()));
    }
    if let Some(mark) = dial.mark {
        environment.push(("VIP_LB_MARK", mark.to_string()));
    }
    environment
}

/// Reads to the end of the output, and keeps what is shown of it.
async fn listen(output: Option<&mut ChildStdout>, said: &mut Vec<u8>) {
    let Some(output) = output else { return };
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = output.read(&mut buffer).await {
        let room = MAX_OUTPUT.saturating_sub(said.len());
        said.extend(&buffer[..length.min(room)]);
    }
}

fn reason(status: ExitStatus, said: &[u8]) -> String {
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    let text = String::from_utf8_lossy(said);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    if line.is_empty() { ended } else { format!("{ended}: {line}") }
}

/// The processes of a command. Dropped, they are killed.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // SAFETY: it only sends a signal, to a group that was made for the command, which is not reaped yet, so that
            // nobody else has its number.
            let _gone = unsafe { libc::kill(-id, libc::SIGKILL) };
        }
    }
}
