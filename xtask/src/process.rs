//! Child processes: started, told about signals, waited for, and none of them left behind.

use std::{
    collections::BTreeMap,
    env, fs, io, iter,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::atomic::{AtomicI32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::progress;

/// The child that signals are forwarded to, 0 for none.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// A signal that came while there was no child to forward it to, 0 for none.
static PENDING: AtomicI32 = AtomicI32::new(0);

/// The last signal that asked this process to end, 0 for none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// The folder of the workspace.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace")
}

/// The cargo that started this program, run in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace());
    command
}

/// Says at once that a command needs root, and how to become it with the same toolchain.
pub(crate) fn require_root(command: &str, why: &str) -> Result<()> {
    // SAFETY: geteuid has no preconditions and cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        return Ok(());
    }
    bail!(
        "`cargo xtask {command}` needs root ({why})\n\
         become root and keep your toolchain: sudo -E env \"PATH=$PATH\" cargo xtask {command}"
    )
}

/// Runs a command whose output is for the reader, and returns how it ended.
pub(crate) fn run(command: &mut Command) -> Result<ExitStatus> {
    if let Some(signal) = interrupted() {
        bail!("interrupted by signal {signal}");
    }
    let mut child = command.spawn().with_context(|| format!("start `{}`", describe(command)))?;
    let _forward = forward_to(&child);
    child.wait().with_context(|| format!("wait for `{}`", describe(command)))
}

/// Runs a command and fails if it does.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = run(command)?;
    if let Some(signal) = interrupted() {
        bail!("interrupted by signal {signal}");
    }
    if !status.success() {
        bail!("`{}` failed: {status}", describe(command));
    }
    Ok(())
}

/// Runs a command and returns what it wrote to standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start `{}`", describe(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` failed: {}: {}",
            describe(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// From now on SIGINT, SIGTERM and SIGHUP no longer end this process: the child gets them, cleans up and ends, and
/// this process ends after it.
pub(crate) fn forward_signals() -> Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: an all-zero sigaction is valid: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = forward as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // SAFETY: `action` is initialised and its handler has the signature that SA_SIGINFO asks for.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error()).context(format!("handle signal {signal}"));
        }
    }
    Ok(())
}

/// The signal that asked this process to end, if one did.
pub(crate) fn interrupted() -> Option<i32> {
    Some(SIGNAL.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
}

/// Forwards signals to a child until the returned value is dropped, also one that came while the child was starting.
pub(crate) fn forward_to(child: &Child) -> Forwarding {
    let child = i32::try_from(child.id()).unwrap_or(0);
    CHILD.store(child, Ordering::SeqCst);
    let signal = PENDING.swap(0, Ordering::SeqCst);
    if child > 0 && signal != 0 {
        // SAFETY: kill has no memory effects; the child has not been waited for yet.
        unsafe { libc::kill(child, signal) };
    }
    Forwarding(())
}

/// While this lives, signals go to one child.
pub(crate) struct Forwarding(());

impl Drop for Forwarding {
    fn drop(&mut self) {
        CHILD.store(0, Ordering::SeqCst);
    }
}

/// Only calls what signal-safety(7) allows.
extern "C" fn forward(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    SIGNAL.store(signal, Ordering::SeqCst);
    // The terminal sends Ctrl-C to every process in the foreground; sent on, it would arrive twice.
    // SAFETY: the kernel passes a valid siginfo to a handler installed with SA_SIGINFO.
    let from_terminal = unsafe { (*info).si_code } == libc::SI_KERNEL;
    if from_terminal {
        return;
    }
    // Left before looking for a child, so that one that is just being stored finds it.
    PENDING.store(signal, Ordering::SeqCst);
    let child = CHILD.load(Ordering::SeqCst);
    if child > 0 && PENDING.swap(0, Ordering::SeqCst) != 0 {
        // SAFETY: kill has no memory effects; the child has not been waited for yet.
        unsafe { libc::kill(child, signal) };
    }
}

/// Makes this process the one that inherits orphans of its descendants, so that none can hide.
pub(crate) fn adopt_orphans() -> Result<()> {
    // SAFETY: this prctl takes plain integers.
    if unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error()).context("become the reaper of orphans");
    }
    Ok(())
}

/// Ends what descendants have left running and returns its command lines. Call it when no own child runs, after
/// [`adopt_orphans`].
pub(crate) fn end_orphans() -> Result<Vec<String>> {
    const GRACE: Duration = Duration::from_secs(3);
    let started = progress::now();
    // A process that was killed a moment ago is not left behind: wait until it is gone.
    while reap()? && started.elapsed() < GRACE {
        thread::sleep(Duration::from_millis(20));
    }
    let mut names = Vec::new();
    // Ending one may orphan its children, which then come here.
    loop {
        let children = children()?;
        if children.is_empty() {
            return Ok(names);
        }
        for (pid, name) in children {
            names.push(format!("process {pid}: {name}"));
            // SAFETY: the process is a child of this one that has not been waited for, so its pid is its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            // SAFETY: a null status is allowed.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        }
    }
}

/// Collects children that have ended; says whether others still run.
fn reap() -> Result<bool> {
    loop {
        // SAFETY: a null status is allowed.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } {
            0 => return Ok(true),
            -1 => {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    Some(libc::ECHILD) => return Ok(false),
                    Some(libc::EINTR) => {}
                    _ => return Err(error).context("wait for children"),
                }
            }
            _ => {}
        }
    }
}

/// The children of this process with their command lines.
fn children() -> Result<BTreeMap<i32, String>> {
    let own = std::process::id().to_string();
    let mut children = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("read /proc")? {
        let path = entry.context("read /proc")?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse::<i32>().ok()) else {
            continue;
        };
        // A process may end between the listing and this.
        let Ok(stat) = fs::read_to_string(path.join("stat")) else {
            continue;
        };
        // `pid (name) state ppid ...`, where the name may hold anything (proc_pid_stat(5)).
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        if parent == Some(&own) {
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            children.insert(pid, line.trim().to_owned());
        }
    }
    Ok(children)
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let metadata = output(&mut cargo(&["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("parse cargo's metadata")?;
    let folder = metadata["target_directory"].as_str().context("cargo's metadata names no target folder")?;
    Ok(PathBuf::from(folder))
}
