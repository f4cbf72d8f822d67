//! Installing Debian packages, only when there is something to install, and without starting services.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{ErrorKind, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{process, progress::Step, toolchain};

/// Asked by every package that wants to start its service; 101 forbids it (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str =
    "#!/bin/sh\n# vip-lb set-up: no service starts while packages are installed\nexit 101\n";

/// apt on a Debian-like system.
pub(crate) struct Apt {
    updated: bool,
}

impl Apt {
    /// `None` where there is no apt.
    pub(crate) fn find() -> Option<Self> {
        toolchain::find_command("apt-get").map(|_| Self { updated: false })
    }

    /// Reads the package lists, once.
    pub(crate) fn update(&mut self, step: &mut Step) -> Result<()> {
        if !self.updated {
            step.run("reading package lists", &mut apt_get(&["update"]))?;
            self.updated = true;
        }
        Ok(())
    }

    /// Whether a package can be installed from the lists.
    pub(crate) fn offers(&self, package: &str) -> Result<bool> {
        let policy = process::output(Command::new("apt-cache").args(["policy", package]))?;
        let candidate = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"));
        Ok(candidate.is_some_and(|version| version.trim() != "(none)"))
    }

    /// Installs packages without what they only recommend, and without starting their services.
    pub(crate) fn install(&mut self, step: &mut Step, packages: &[&str], about: &str) -> Result<()> {
        self.update(step)?;
        let _policy = NoServices::enforce(Path::new(POLICY))?;
        let mut command = apt_get(&["install", "--yes", "--no-install-recommends"]);
        step.run(&format!("installing {}, {about}", packages.join(" ")), command.args(packages))
    }
}

/// Keeps a service that was just installed from starting at the next boot as well.
pub(crate) fn disable_service(step: &mut Step, service: &str) -> Result<()> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Ok(());
    }
    let mut command = Command::new("systemctl");
    step.run(&format!("disabling {service}.service"), command.args(["disable", "--quiet", service]))
}

/// Removes the policy that a set-up left behind when it was killed.
pub(crate) fn remove_stale_policy() -> Result<()> {
    if fs::read_to_string(POLICY).is_ok_and(|text| text == POLICY_TEXT) {
        fs::remove_file(POLICY).with_context(|| format!("remove {POLICY}"))?;
    }
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"])
        .args(arguments);
    command
}

/// While this lives, no package starts a service. A policy that is there already stays as it is.
struct NoServices {
    created: Option<PathBuf>,
}

impl NoServices {
    fn enforce(path: &Path) -> Result<Self> {
        let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Self { created: None }),
            Err(error) => bail!("create {}: {error}", path.display()),
        };
        let created = Self { created: Some(path.to_owned()) };
        file.write_all(POLICY_TEXT.as_bytes())
            .and_then(|()| file.set_permissions(Permissions::from_mode(0o755)))
            .with_context(|| format!("write {}", path.display()))?;
        Ok(created)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(path) = self.created.take()
            && let Err(error) = fs::remove_file(&path)
        {
            eprintln!("cannot remove {}: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_lives_as_long_as_the_installation() {
        let folder = std::env::temp_dir().join(format!("vip-lb-policy-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("policy-rc.d");

        let policy = NoServices::enforce(&path).unwrap();
        assert_eq!(Command::new(&path).status().unwrap().code(), Some(101));
        drop(policy);
        assert!(!path.exists());

        fs::write(&path, "the administrator's own").unwrap();
        drop(NoServices::enforce(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "the administrator's own");
        fs::remove_dir_all(&folder).unwrap();
    }
}
