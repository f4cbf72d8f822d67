//! Network namespaces, made with `ip netns`, and threads and programs inside them.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
    sync::Arc,
    thread::JoinHandle,
};

use anyhow::{Context, Result, anyhow};
use tokio::sync::oneshot;

use super::command;

/// A named network namespace, deleted when it is dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    entry: Entry,
    kept: bool,
}

/// The way into a namespace. It may outlive the name, and then keeps the namespace itself alive.
#[derive(Clone, Debug)]
pub struct Entry {
    handle: Arc<File>,
}

impl Entry {
    /// A command that will run in the namespace. The mounts stay the caller's own (unlike with `ip netns exec`,
    /// which puts a fresh `/sys` over the BPF filesystem), and it has a process group of its own, so that a
    /// terminal's Ctrl-C reaches only the lab, which then ends it in order.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let handle = Arc::clone(&self.handle);
        command.process_group(0);
        // SAFETY: the closure makes one system call on a descriptor that it keeps open.
        unsafe {
            command.pre_exec(move || enter(handle.as_raw_fd()));
        }
        command
    }

    /// As [`Namespace::enter`].
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered.
    ///
    /// # Panics
    ///
    /// With the closure's own panic.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let handle = self.handle.as_raw_fd();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || enter(handle).map(|()| work()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Namespace {
    /// Makes a namespace and brings its loopback up.
    ///
    /// # Errors
    ///
    /// `ip netns add` failed: no root, or the name is taken.
    pub fn new(name: &str) -> Result<Self> {
        command::run("ip", &["netns", "add", name]).context("network namespaces need root")?;
        // From here on a failure has something to remove, so the value exists first.
        let path = format!("/run/netns/{name}");
        let handle = File::open(&path).with_context(|| format!("open {path}"));
        let entry = match handle {
            Ok(handle) => Entry { handle: Arc::new(handle) },
            Err(error) => {
                let _ = command::run("ip", &["netns", "del", name]);
                return Err(error);
            }
        };
        let namespace = Self { name: name.to_owned(), entry, kept: false };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// The name as `ip netns list` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Leaves the namespace behind.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Runs `ip` on this namespace.
    ///
    /// # Errors
    ///
    /// `ip` failed.
    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend_from_slice(arguments);
        command::run("ip", &all)
    }

    /// The way in, for who outlives a borrow of this value.
    #[must_use]
    pub fn entry(&self) -> Entry {
        self.entry.clone()
    }

    /// A command that will run in this namespace; see [`Entry::command`].
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.entry.command(program)
    }

    /// Runs a program in this namespace to its end and returns its standard output.
    ///
    /// # Errors
    ///
    /// It cannot be started, or fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        command::output_of(self.command(program).args(arguments))
            .with_context(|| format!("in namespace {}", self.name))
    }

    /// Sets a sysctl, named as under `/proc/sys`, for instance `net/ipv4/ip_forward`.
    ///
    /// # Errors
    ///
    /// There is no such setting, or the value is refused.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{name}");
        self.enter(|| std::fs::write(&path, value))?
            .with_context(|| format!("set {name} to {value} in {}", self.name))
    }

    /// Runs a closure on a thread inside this namespace and waits for what it returns. Sockets it makes stay there.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered.
    ///
    /// # Panics
    ///
    /// With the closure's own panic.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.entry.enter(work).with_context(|| format!("enter namespace {}", self.name))
    }

    /// Starts a tokio runtime on a thread of its own inside this namespace and drives `work` on it until it returns or the
    /// thread handle is dropped; then all its tasks and sockets are gone.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered or no thread or runtime be made.
    pub fn spawn<F>(&self, name: &str, work: impl FnOnce() -> F + Send + 'static) -> Result<NamedThread>
    where
        F: Future<Output = ()>,
    {
        let handle = Arc::clone(&self.entry.handle);
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, started) = std::sync::mpsc::channel::<io::Result<()>>();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let runtime = enter(handle.as_raw_fd())
                    .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
                match runtime {
                    Ok(runtime) => {
                        let _ = ready.send(Ok(()));
                        runtime.block_on(async move {
                            tokio::select! {
                                () = work() => {}
                                _ = stopped => {}
                            }
                        });
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            })
            .with_context(|| format!("start thread {name}"))?;
        started
            .recv()
            .map_err(|_| anyhow!("thread {name} ended at once"))?
            .with_context(|| format!("enter namespace {} on thread {name}", self.name))?;
        Ok(NamedThread { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.kept {
            let _ = command::run("ip", &["netns", "del", &self.name]);
        }
    }
}

/// A thread with a runtime inside a namespace; stopped and joined when dropped.
#[derive(Debug)]
pub struct NamedThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl NamedThread {
    /// Waits until the thread's work is done by itself.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic over there has been printed already; whoever waits looks at the results.
            let _ = thread.join();
        }
    }
}

impl Drop for NamedThread {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves the calling thread into a network namespace.
fn enter(handle: RawFd) -> io::Result<()> {
    // SAFETY: setns takes a descriptor and a flag, and touches no memory of ours.
    if unsafe { libc::setns(handle, libc::CLONE_NEWNET) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
