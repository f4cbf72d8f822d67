//! The real daemon in an edge node's namespace.

use std::{
    cell::Cell,
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    bpffs, command,
    config::ConfigFile,
    namespace::Entry,
    notifications::{Message, Notifications},
    scratch::Scratch,
    status::{Counters, Explanation, Service, Status, wait_service},
    topology::Node,
    wait_for,
};

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A daemon under test, with a socket, pins and a configuration file of its own.
#[derive(Debug)]
pub struct Daemon {
    binary: PathBuf,
    entry: Entry,
    process: Option<Process>,
    /// What it tells its service manager arrives here.
    notifications: Option<Notifications>,
    config_path: PathBuf,
    socket: PathBuf,
    pins: PathBuf,
    log: PathBuf,
    notify: PathBuf,
    state: PathBuf,
    kept: bool,
    log_wanted: Cell<bool>,
}

impl Daemon {
    /// Starts the daemon on a node with this configuration, in which socket and pins are replaced by unique ones, and
    /// waits until it says that it is ready.
    ///
    /// # Errors
    ///
    /// It does not start; the error holds the end of its log.
    pub fn start(node: &Node, scratch: &Scratch, binary: &Path, config: &ConfigFile) -> Result<Self> {
        bpffs::ensure_mounted()?;
        let file = |suffix: &str| scratch.path().join(format!("{}.{suffix}", node.name));
        let mut daemon = Self {
            binary: binary.to_owned(),
            entry: node.namespace.entry(),
            process: None,
            notifications: None,
            config_path: file("yaml"),
            socket: file("sock"),
            pins: Path::new(bpffs::MOUNT_POINT).join(format!("{}-{}", scratch.name(), node.name)),
            log: file("log"),
            notify: file("notify"),
            state: file("state"),
            kept: false,
            log_wanted: Cell::new(false),
        };
        daemon.write_config(config)?;
        // An error until here carries the log; from here on it is shown unless all goes well.
        daemon.launch()?;
        daemon.log_wanted.set(true);
        Ok(daemon)
    }

    /// Writes another configuration to the file, without telling the daemon.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_config(&self, config: &ConfigFile) -> Result<()> {
        let mut config = config.clone();
        config.node.socket = Some(self.socket.display().to_string());
        config.node.pins = Some(self.pins.display().to_string());
        self.write_config_text(&config.to_yaml()?)
    }

    /// Writes any text to the configuration file, without telling the daemon.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write_config_text(&self, text: &str) -> Result<()> {
        fs::write(&self.config_path, text).with_context(|| format!("write {}", self.config_path.display()))
    }

    /// The text of the configuration file.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn config_text(&self) -> Result<String> {
        fs::read_to_string(&self.config_path).with_context(|| format!("read {}", self.config_path.display()))
    }

    /// Starts it again after [`Self::stop`] or [`Self::kill`], with the same file, socket and pins.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn launch(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the daemon runs already");
        let notifications = Notifications::listen(&self.notify)?;
        let log =
            File::options().create(true).append(true).open(&self.log).context("open the daemon's log")?;
        let child = self
            .entry
            .command(&self.binary)
            .arg("run")
            .arg("--config")
            .arg(&self.config_path)
            .env("NOTIFY_SOCKET", &self.notify)
            // As systemd does: a state of its own, also for binaries that know of none.
            .env("STATE_DIRECTORY", &self.state)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.binary.display()))?;
        self.process = Some(Process::Child(child));
        self.notifications = Some(notifications);
        let outcome = self.pid().map_or(Ok(()), |pid| self.wait_for_word(pid, "READY=1"));
        if outcome.is_err()
            && let Some(Process::Child(mut child)) = self.process.take()
        {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        outcome.with_context(|| format!("start the daemon; its log:\n{}", self.log_tail()))
    }

    /// Has it hand over to a process that it starts itself from the same path, and waits until it has ended.
    ///
    /// # Errors
    ///
    /// The new process cannot take over, or does not tell the service manager so. The old one runs on then.
    pub fn hand_over(&mut self) -> Result<()> {
        let former = self.pid().context("the daemon does not run")?;
        let UpgradeReport { pid, former_pid, .. } = self.ask_json(&["upgrade"])?;
        ensure!(former_pid == former, "pid {former_pid} handed over, not {former}");
        let mut process = self.process.replace(Process::Successor(pid)).context("the daemon does not run")?;
        let status = process.wait(STOP_LIMIT)?;
        ensure!(status.is_none_or(|status| status.success()), "the former daemon ended with {status:?}");
        // The service manager takes a word of the main process alone: of the new one none before the old one has named it.
        self.wait_for_word(former, &format!("MAINPID={pid}"))?;
        self.wait_for_word(pid, "READY=1")?;
        ensure!(self.status()?.pid == pid, "another process than {pid} answers");
        Ok(())
    }

    /// The next [`Self::launch`] starts this program.
    pub fn set_binary(&mut self, binary: &Path) {
        binary.clone_into(&mut self.binary);
    }

    /// Removes all pins, after [`Self::stop`] or [`Self::kill`].
    ///
    /// # Errors
    ///
    /// They cannot be removed.
    pub fn unload(&self) -> Result<()> {
        let mut unload = self.entry.command(&self.binary);
        command::output_of(unload.arg("unload").arg("--pins").arg(&self.pins)).map(drop)
    }

    /// Ends it with SIGTERM and waits. The exit status is `None` for one that another daemon handed over to: it is not this process's child.
    ///
    /// # Errors
    ///
    /// It does not end.
    pub fn stop(&mut self) -> Result<Option<ExitStatus>> {
        self.signal(libc::SIGTERM)?;
        let process = self.process.as_mut().context("the daemon does not run")?;
        let status = process.wait(STOP_LIMIT)?;
        self.process = None;
        Ok(status)
    }

    /// Ends it with SIGKILL: no farewell of any kind.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(libc::SIGKILL)?;
        let mut process = self.process.take().context("the daemon does not run")?;
        process.wait(STOP_LIMIT).map(drop)
    }

    /// Sends SIGHUP; what comes of it shows in status and log.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn hang_up(&self) -> Result<()> {
        self.signal(libc::SIGHUP)
    }

    /// Writes a configuration, has it reloaded and waits until that is done.
    ///
    /// # Errors
    ///
    /// The daemon refuses it.
    pub fn reload(&self, config: &ConfigFile) -> Result<()> {
        self.write_config(config)?;
        self.ask(&["reload"]).map(drop)
    }

    /// Runs `vip-lb --socket ...` with these arguments and returns what it prints.
    ///
    /// # Errors
    ///
    /// It exits with anything but 0.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        command::output_of(&mut self.command(arguments))
    }

    /// As [`Self::ask`], whatever the exit code: that, and what is printed on standard output and on standard error.
    ///
    /// # Errors
    ///
    /// It cannot be run, or is killed.
    pub fn ask_code(&self, arguments: &[&str]) -> Result<(i32, String, String)> {
        let output = self.command(arguments).output().context("run the command")?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let code =
            output.status.code().with_context(|| format!("{arguments:?} ended with {}", output.status))?;
        Ok((code, text(&output.stdout), text(&output.stderr)))
    }

    /// `vip-lb --socket ...` with these arguments, to be run.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--socket").arg(&self.socket).args(arguments);
        command
    }

    /// As [`Self::ask`], with `--json`, read into a type.
    ///
    /// # Errors
    ///
    /// The command fails, or prints something else.
    pub fn ask_json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        let text = self.ask(&arguments)?;
        serde_json::from_str(&text).with_context(|| format!("read the answer to {arguments:?}: {text}"))
    }

    /// What the API answers to GET at this path, as text.
    ///
    /// # Errors
    ///
    /// curl failed, or the answer is an error.
    pub fn get(&self, path: &str) -> Result<String> {
        let socket = self.socket().display().to_string();
        let url = format!("http://localhost{path}");
        command::run("curl", &["-sS", "--fail", "--unix-socket", &socket, &url])
    }

    /// `vip-lb status`.
    ///
    /// # Errors
    ///
    /// As [`Self::ask_json`].
    pub fn status(&self) -> Result<Status> {
        self.ask_json(&["status"])
    }

    /// `vip-lb counters`: packets that ended with this verdict.
    ///
    /// # Errors
    ///
    /// As [`Self::ask_json`], or there is no such verdict.
    pub fn counter(&self, verdict: &str) -> Result<u64> {
        let counters: Counters = self.ask_json(&["counters"])?;
        counters
            .verdicts
            .iter()
            .find(|counter| counter.name == verdict)
            .map(|counter| counter.packets)
            .ok_or_else(|| anyhow!("no counter of the name `{verdict}` in {counters:?}"))
    }

    /// `vip-lb explain`.
    ///
    /// # Errors
    ///
    /// As [`Self::ask_json`].
    pub fn explain(&self, from: SocketAddr, to: SocketAddr, protocol: &str) -> Result<Explanation> {
        self.ask_json(&["explain", &from.to_string(), &to.to_string(), "--protocol", protocol])
    }

    /// [`status::wait_service`](super::status::wait_service) of this daemon.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn wait_service(
        &self,
        service: &str,
        what: &str,
        limit: Duration,
        holds: impl FnMut(&Service) -> bool,
    ) -> Result<Service> {
        wait_service(|| self.status(), service, what, limit, holds)
    }

    /// The entries of a pinned map, as `bpftool map dump -j` shows them.
    ///
    /// # Errors
    ///
    /// There is no such pin, or bpftool fails.
    pub fn map_entries(&self, map: &str) -> Result<Vec<serde_json::Value>> {
        let path =
            find(&self.pins, map).with_context(|| format!("no pin {map} in {}", self.pins.display()))?;
        let path = path.to_str().context("a path in UTF-8")?;
        let text = command::run("bpftool", &["-j", "map", "dump", "pinned", path])?;
        serde_json::from_str(&text).with_context(|| format!("read bpftool's dump of {path}: {text}"))
    }

    /// Folder of what outlives the daemon, unless the configuration says otherwise.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The configuration file.
    #[must_use]
    pub fn config_path(&self) -> &Path {
        &self.config_path
    }

    /// Folder of the pins.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The program under test.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Says that what it was started for went well, so that its log need not be shown when it is dropped.
    pub fn succeeded(&self) {
        self.log_wanted.set(false);
    }

    /// Leaves it running.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// It does not run.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let pid = self.pid().context("the daemon does not run")?;
        let pid = i32::try_from(pid).context("a process id")?;
        // SAFETY: kill takes two numbers; the process has not been waited for, so the id is its own.
        let outcome = unsafe { libc::kill(pid, signal) };
        ensure!(outcome == 0, "send signal {signal} to the daemon");
        Ok(())
    }

    /// Waits until this process has told the service manager a word, which is a line of a message. What was said before it is passed over.
    fn wait_for_word(&mut self, from: u32, word: &str) -> Result<()> {
        let (Some(process), Some(notifications)) = (&mut self.process, &self.notifications) else {
            bail!("the daemon does not run");
        };
        wait_for(word, START_LIMIT, || {
            if let Some(status) = process.ended()? {
                match status {
                    Some(status) => bail!("it ended with {status}"),
                    None => bail!("it ended"),
                }
            }
            let said =
                |message: Message| message.pid == from && message.text.lines().any(|line| line == word);
            Ok(notifications.next()?.is_some_and(said).then_some(()))
        })
    }
}

/// The process that is the daemon.
#[derive(Debug)]
enum Process {
    /// Started by us.
    Child(Child),
    /// By the daemon before it: whose child it is now is not ours to say.
    Successor(u32),
}

impl Process {
    fn pid(&self) -> u32 {
        match self {
            Self::Child(child) => child.id(),
            Self::Successor(pid) => *pid,
        }
    }

    /// Whether it has ended, and how, if that can be known.
    fn ended(&mut self) -> Result<Option<Option<ExitStatus>>> {
        match self {
            Self::Child(child) => Ok(child.try_wait()?.map(Some)),
            Self::Successor(pid) => {
                let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return Ok(Some(None)) };
                // `pid (name) state ...`, where the name may hold anything (proc_pid_stat(5)).
                let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
                // Its other threads may have its files open for a moment longer than the first one.
                let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
                Ok((state == Some("Z") && threads <= 1).then_some(None))
            }
        }
    }

    fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        wait_for("the daemon to end", limit, || self.ended())
    }
}

/// What `vip-lb upgrade --json` says, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct UpgradeReport {
    pid: u32,
    former_pid: u32,
}

/// A file of this name anywhere below a folder.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find(&path, name) } else { (entry.file_name() == name).then_some(path) }
    })
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.log_wanted.get() {
            eprintln!("--- the end of {} ---\n{}\n---", self.log.display(), self.log_tail());
        }
        if self.kept {
            return;
        }
        if self.process.is_some() {
            let _ = self.kill();
        }
        if self.pins.exists()
            && let Err(error) = self.unload()
        {
            eprintln!("{error:#}");
        }
        // Whatever the daemon forgot must not stay on the machine.
        let _ = fs::remove_dir_all(&self.pins);
    }
}
