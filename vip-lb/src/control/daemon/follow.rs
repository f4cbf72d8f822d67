//! Whether the configuration file has changed, if somebody wants to know.
//!
//! It is looked at twice a second instead of being followed by inotify: that sees a file that is written in place, one that is renamed into
//! its place, the swapped link of a Kubernetes volume and a file on a network alike, and costs one system call.

use std::{os::unix::fs::MetadataExt as _, path::PathBuf, time::Duration};

use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::Daemon;
use crate::{
    api::model::{ApiError, ConfigRequest, Outcome},
    config::model::Watch,
};

/// Time between two looks. A change is told when two of them saw the same: whoever writes has finished by then.
const PACE: Duration = Duration::from_millis(500);

/// Tells of changes of a file until nobody listens any more.
pub(super) fn follow(path: PathBuf) -> mpsc::Receiver<()> {
    // One that waits says as much as many.
    let (changes, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut looks = Looks::default();
        let mut ticks = interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !changes.is_closed() {
            ticks.tick().await;
            // A disk that does not answer holds up this task only.
            let stamp = tokio::fs::metadata(&path).await.ok().map(|found| Stamp {
                file: (found.dev(), found.ino()),
                size: found.size(),
                written: (found.mtime(), found.mtime_nsec()),
                changed: (found.ctime(), found.ctime_nsec()),
            });
            if looks.saw(stamp) {
                // Full: the one that waits is about this change, too.
                let _ = changes.try_send(());
            }
        }
    });
    receiver
}

/// What tells one content of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

#[derive(Debug, Default)]
struct Looks {
    /// What was told last; at the beginning what is there.
    told: Option<Stamp>,
    last: Option<Stamp>,
}

impl Looks {
    /// Takes in what is there now, if anything is. Tells whether it is something new that has come to rest.
    fn saw(&mut self, now: Option<Stamp>) -> bool {
        let rests = now.is_some() && self.last == now;
        self.last = now;
        if self.told.is_none() {
            self.told = now;
        }
        let is_new = rests && self.told != now;
        if is_new {
            self.told = now;
        }
        is_new
    }
}

impl Daemon {
    /// Reads the file again, if it is wanted that its changes do so.
    pub(super) async fn file_changed(&mut self) {
        let watch = self.config.node.watch;
        if watch == Watch::Never {
            return;
        }
        if let Err(error) = self.follow_file(watch).await {
            let mut doubt = format!("{} has changed and is not in force: {error}", self.file.path.display());
            for line in &error.details {
                doubt.push_str(&format!("; {line}"));
            }
            warn!("{doubt}");
            self.tell_reload(Err(&error));
            self.file_doubt = Some(doubt);
        }
    }

    async fn follow_file(&mut self, watch: Watch) -> Result<(), ApiError> {
        let candidate = self.candidate(&ConfigRequest::default()).await?;
        if candidate.file.hash == self.file.hash && self.file.replaced.is_none() {
            self.file_doubt = None;
            return Ok(());
        }
        if watch == Watch::Safe {
            let plan = self.plan_of(&candidate).map_err(super::orders::internal)?;
            if plan.outcome == Outcome::LosesConnections {
                let of: Vec<_> = plan.lost.iter().map(|loss| loss.of.as_str()).collect();
                let error = format!(
                    "it would lose the connections of {}; `vip-lb plan` shows more, `vip-lb reload` brings it in force",
                    of.join(", ")
                );
                return Err(ApiError::new(crate::api::model::ErrorKind::Conflict, error));
            }
        }
        info!(path = %self.file.path.display(), "the configuration file has changed");
        let (report, _) = self.bring_in(candidate).await?;
        self.tell_reload(Ok(&report));
        report.plan.changes.iter().for_each(|change| info!("{change}"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_when_it_rests() {
        let stamp = |size| Some(Stamp { file: (1, 2), size, written: (3, 0), changed: (3, 0) });
        let mut looks = Looks::default();
        for (what, stamp, told) in [
            ("the beginning", stamp(1), false),
            ("the same", stamp(1), false),
            ("a change", stamp(2), false),
            ("that goes on", stamp(3), false),
            ("and rests", stamp(3), true),
            ("is told once", stamp(3), false),
            ("the file is away", None, false),
            ("still", None, false),
            ("and back as it was", stamp(3), false),
            ("and as it was", stamp(3), false),
            ("away again", None, false),
            ("another one", stamp(4), false),
            ("that rests", stamp(4), true),
            ("and back", stamp(3), false),
            ("to the former", stamp(3), true),
        ] {
            assert_eq!(looks.saw(stamp), told, "{what}");
        }
    }
}
