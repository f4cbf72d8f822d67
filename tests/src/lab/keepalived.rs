//! keepalived on a node, as Debian ships it.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result};

use super::{Node, Scratch, command};

/// keepalived with a configuration of its own. Dropped, it is told to end, and is waited for.
#[derive(Debug)]
pub struct Keepalived {
    child: Child,
    log: PathBuf,
}

impl Keepalived {
    /// Starts it. What it does after that is for the caller to wait for.
    ///
    /// # Errors
    ///
    /// It is not installed, or its configuration cannot be written.
    pub fn start(node: &Node, scratch: &Scratch, config: &str) -> Result<Self> {
        let file = |kind: &str| scratch.path().join(format!("keepalived-{}.{kind}", node.name));
        let path = file("conf");
        fs::write(&path, config).with_context(|| format!("write {}", path.display()))?;
        let log = file("log");
        let output = fs::File::options().create(true).append(true).open(&log)?;
        let mut command = node.namespace.command("keepalived");
        command.args(["--dont-fork", "--log-console", "--log-detail", "--use-file"]).arg(path);
        for part in ["pid", "vrrp_pid", "checkers_pid"] {
            command.arg(format!("--{part}")).arg(file(part));
        }
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().context("start keepalived (Debian package keepalived)")?;
        Ok(Self { child, log })
    }

    /// Its process, the parent of those that do the work.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        // SAFETY: the process is a child of this one and has not been waited for.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let _ = self.child.wait();
    }
}

/// The version that is installed.
///
/// # Errors
///
/// It is not.
pub fn keepalived_version() -> Result<String> {
    // It says it on its standard error.
    let text = command::run("sh", &["-c", "keepalived --version 2>&1"]).context("ask keepalived")?;
    let version = text.split_whitespace().nth(1).context("keepalived says no version")?;
    Ok(version.trim_start_matches('v').to_owned())
}
