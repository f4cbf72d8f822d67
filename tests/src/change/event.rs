//! The events, as data: each has a name, something that comes before it, happens, and is undone.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{
    garbage,
    mischief::{self, Trouble},
    stage::Stage,
};
use crate::lab::patience;

/// How long nobody controls the balancer when its daemon is killed.
const WITHOUT_DAEMON: Duration = Duration::from_secs(10);
/// Reloads of [`Event::Reloads100`].
const MANY: usize = 100;
/// Who is cut where something is.
const CUT: &str = "backend-2";

/// Something that an operator does, or that befalls the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A reload adds a backend.
    ReloadAdd,
    /// A reload removes a backend from the file.
    ReloadRemove,
    /// A reload gives all backends other weights.
    ReloadReweight,
    /// A reload disables a backend, whose connections are cut, as its plan says.
    ReloadDisable,
    /// A hundred reloads, one right after the other.
    Reloads100,
    /// Reloads of files with mistakes.
    ReloadInvalid,
    /// The daemon is killed, and is gone for ten seconds.
    Killed,
    /// The daemon is stopped and started.
    Restart,
    /// The binary is replaced, and the daemon hands over to a process of the new one.
    HandOver,
    /// The daemon is to hand over, to a process that fails: before it has touched anything, and amidst of it.
    HandOverFailed,
    /// The daemon of the commit before is stopped, and this one started.
    Upgrade,
    /// The other way round.
    Downgrade,
    /// The pinned maps have a layout that the daemon does not know.
    LayoutMismatch,
    /// No pin can be made.
    FullPinTable,
    /// The disk on which the state is kept is full.
    DiskFull,
    /// It is read-only.
    DiskReadOnly,
    /// Strangers talk nonsense to the control socket, and hold connections to it.
    SocketGarbage,
    /// The cable of the edge node is pulled for a moment: none of the events that are promised to lose nothing, but one that shows that losses are seen.
    Sabotage,
}

/// What an event is to do to connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// The backend whose connections are cut; nobody else's are, and all of these.
    pub(super) cut: Option<String>,
}

impl Event {
    /// All that are to lose nothing, in the order in which they are played.
    pub const ALL: [Self; 17] = [
        Self::ReloadAdd,
        Self::ReloadRemove,
        Self::ReloadReweight,
        Self::ReloadDisable,
        Self::Reloads100,
        Self::ReloadInvalid,
        Self::Killed,
        Self::Restart,
        Self::HandOver,
        Self::HandOverFailed,
        Self::Downgrade,
        Self::Upgrade,
        Self::LayoutMismatch,
        Self::FullPinTable,
        Self::DiskFull,
        Self::DiskReadOnly,
        Self::SocketGarbage,
    ];

    /// As in the names of figures.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReloadAdd => "reload_add",
            Self::ReloadRemove => "reload_remove",
            Self::ReloadReweight => "reload_reweight",
            Self::ReloadDisable => "reload_disable",
            Self::Reloads100 => "reloads_100",
            Self::ReloadInvalid => "reload_invalid",
            Self::Killed => "killed",
            Self::Restart => "restart",
            Self::HandOver => "hand_over",
            Self::HandOverFailed => "hand_over_failed",
            Self::Upgrade => "upgrade",
            Self::Downgrade => "downgrade",
            Self::LayoutMismatch => "layout_mismatch",
            Self::FullPinTable => "full_pin_table",
            Self::DiskFull => "disk_full",
            Self::DiskReadOnly => "disk_read_only",
            Self::SocketGarbage => "socket_garbage",
            Self::Sabotage => "sabotage",
        }
    }

    /// For people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::ReloadAdd => "a reload adds a backend",
            Self::ReloadRemove => "a reload removes a backend",
            Self::ReloadReweight => "a reload changes all weights",
            Self::ReloadDisable => "a reload disables a backend",
            Self::Reloads100 => "100 reloads in a row",
            Self::ReloadInvalid => "reloads of invalid files",
            Self::Killed => "the daemon is killed, gone for 10 s",
            Self::Restart => "the daemon is restarted",
            Self::HandOver => "the daemon hands over to a new binary",
            Self::HandOverFailed => "the daemon hands over, and that fails",
            Self::Upgrade => "upgrade from the commit before",
            Self::Downgrade => "back to the commit before",
            Self::LayoutMismatch => "pins of an unknown layout",
            Self::FullPinTable => "no pin can be made",
            Self::DiskFull => "the disk of the state is full",
            Self::DiskReadOnly => "the disk of the state is read-only",
            Self::SocketGarbage => "garbage on the control socket",
            Self::Sabotage => "a cable is pulled",
        }
    }

    /// Whether connections are to break.
    #[must_use]
    pub fn cuts(self) -> bool {
        self == Self::ReloadDisable
    }

    /// Whether it needs the daemon of the commit before.
    #[must_use]
    pub fn needs_previous(self) -> bool {
        matches!(self, Self::Upgrade | Self::Downgrade)
    }

    /// What comes before, while nothing is counted.
    pub(super) fn prepare(self, stage: &mut Stage) -> Result<()> {
        match self {
            Self::Upgrade => stage.begin_with_previous(),
            Self::HandOver => stage.begin_with_a_copy(),
            _ => Ok(()),
        }
    }

    /// Makes it happen, there and back, and says what it was to break.
    pub(super) fn happen(self, stage: &mut Stage) -> Result<Plan> {
        let base = stage.base();
        match self {
            Self::ReloadAdd => stage.there_and_back(&stage.config(&[100, 100, 200, 200]))?,
            Self::ReloadRemove => stage.there_and_back(&stage.config(&[100, 100]))?,
            Self::ReloadReweight => stage.there_and_back(&stage.config(&[300, 100, 50]))?,
            Self::ReloadDisable => {
                let mut without = base;
                for backend in without.services_mut().flat_map(|service| &mut service.backends) {
                    if backend.name == CUT {
                        backend.state = Some("disabled".to_owned());
                    }
                }
                stage.there_and_back(&without)?;
                return Ok(Plan { cut: Some(CUT.to_owned()) });
            }
            Self::Reloads100 => {
                let all = [&[100, 100, 200, 200][..], &[100, 100], &[300, 100, 50], &[100, 100, 200]];
                for weights in all.iter().cycle().take(MANY) {
                    stage.site.daemon().reload(&stage.config(weights))?;
                }
                stage.put_in_force(&base)?;
            }
            Self::ReloadInvalid => mischief::invalid_files(&stage.site)?,
            Self::Killed => {
                stage.site.daemon_mut().kill()?;
                stage.run_for(WITHOUT_DAEMON * patience())?;
                stage.site.daemon_mut().launch()?;
                stage.wait_until_complete(&base)?;
            }
            Self::Restart => {
                stage.site.daemon_mut().stop()?;
                stage.site.daemon_mut().launch()?;
                stage.wait_until_complete(&base)?;
            }
            Self::HandOver => {
                stage.install_copy()?;
                stage.site.daemon_mut().hand_over()?;
                stage.wait_until_complete(&base)?;
            }
            Self::HandOverFailed => mischief::successors_that_fail(stage)?,
            Self::Upgrade => {
                let current = stage.current.clone();
                stage.site.daemon_mut().stop()?;
                stage.site.daemon_mut().set_binary(&current);
                stage.site.daemon_mut().launch().context("take over from the daemon of the commit before")?;
                stage.wait_until_complete(&base)?;
            }
            Self::Downgrade => stage.go_back_to_previous()?,
            Self::LayoutMismatch => mischief::unknown_layout(&mut stage.site)?,
            Self::FullPinTable => mischief::no_pin_can_be_made(stage)?,
            Self::DiskFull => mischief::nothing_can_be_kept(stage, Trouble::Full)?,
            Self::DiskReadOnly => mischief::nothing_can_be_kept(stage, Trouble::ReadOnly)?,
            Self::SocketGarbage => {
                let pid = stage.site.daemon().pid();
                garbage::attack(stage.site.daemon().socket())?;
                ensure!(stage.site.daemon().pid() == pid, "the attack ended the daemon");
                stage.wait_until_complete(&base)?;
            }
            Self::Sabotage => {
                let edge = &stage.site.lab.edges[0];
                stage.site.lab.set_cable(edge, false)?;
                std::thread::sleep(Duration::from_millis(100));
                stage.site.lab.set_cable(edge, true)?;
                stage.wait_until_complete(&base)?;
            }
        }
        Ok(Plan::default())
    }

    /// Goes back to where it began, while nothing is counted.
    pub(super) fn restore(self, stage: &mut Stage) -> Result<()> {
        match self {
            Self::Downgrade | Self::HandOver => stage.return_to_current(),
            _ => Ok(()),
        }
    }
}

impl Stage {
    /// Puts another configuration in force, lets traffic see it, and goes back.
    pub(super) fn there_and_back(&self, config: &crate::lab::config::ConfigFile) -> Result<()> {
        self.put_in_force(config)?;
        self.run_for(Duration::from_millis(500))?;
        self.put_in_force(&self.base())
    }

    /// Runs the daemon from a file of its own, which can be replaced.
    fn begin_with_a_copy(&mut self) -> Result<()> {
        let copy = self.install_copy()?;
        self.site.daemon_mut().stop()?;
        self.site.daemon_mut().set_binary(&copy);
        self.site.daemon_mut().launch()?;
        self.wait_until_complete(&self.base())
    }

    /// Puts a copy of the program in place, as `install` does: what was there is another file then, which the daemon goes on to run.
    fn install_copy(&self) -> Result<PathBuf> {
        let path = self.site.lab.scratch.path().join("vip-lb");
        let _ = fs::remove_file(&path);
        fs::copy(&self.current, &path).with_context(|| format!("install {}", path.display()))?;
        Ok(path)
    }

    /// Has the pins be those that the daemon of the commit before makes, and it run.
    fn begin_with_previous(&mut self) -> Result<()> {
        let previous = self.previous.clone().context(super::NO_PREVIOUS)?;
        self.site.daemon_mut().stop()?;
        // Made anew by that one: where it has another layout, this is what there is to migrate.
        self.site.daemon().unload()?;
        self.site.daemon_mut().set_binary(&previous);
        self.site.daemon_mut().launch().context("start the daemon of the commit before")?;
        self.wait_until_complete(&self.base())?;
        self.renew()
    }

    /// Stops the daemon and starts that of the commit before. One that knows an older layout only must refuse, and change nothing.
    fn go_back_to_previous(&mut self) -> Result<()> {
        let previous = self.previous.clone().context(super::NO_PREVIOUS)?;
        self.site.daemon_mut().stop()?;
        self.site.daemon_mut().set_binary(&previous);
        match self.site.daemon_mut().launch() {
            Ok(()) => self.wait_until_complete(&self.base()),
            Err(error) => {
                let refusal = format!("{error:#}");
                ensure!(
                    refusal.contains("layout") || refusal.contains("made by another version"),
                    "the daemon of the commit before does not start: {refusal}"
                );
                self.run_for(Duration::from_secs(1))
            }
        }
    }

    fn return_to_current(&mut self) -> Result<()> {
        let current = self.current.clone();
        if self.site.daemon().pid().is_some() {
            self.site.daemon_mut().stop()?;
        }
        self.site.daemon_mut().set_binary(&current);
        self.site.daemon_mut().launch()?;
        self.wait_until_complete(&self.base())?;
        Ok(())
    }
}
