//! The end of the thread, which may take a while: frames to a virtual MAC address are still taken.

use std::{sync::mpsc, thread::JoinHandle, time::Duration};

use tracing::warn;

use super::{Command, now};

/// A thread that was ordered to end.
pub struct Ending {
    /// As long as there is this, it may linger.
    lingers: Option<mpsc::Sender<Command>>,
    ended: tokio::task::JoinHandle<()>,
}

impl Ending {
    /// Of the thread that these commands come to.
    pub(super) fn of(thread: Option<JoinHandle<()>>, commands: mpsc::Sender<Command>) -> Self {
        // Whoever waits has other things to do.
        let ended = tokio::task::spawn_blocking(move || thread.into_iter().for_each(join));
        Self { lingers: Some(commands), ended }
    }

    /// Has it take no longer than it must.
    pub fn hurry(&mut self) {
        self.lingers = None;
    }

    /// Waits until the thread has ended. The wait can be given up and begun again.
    pub async fn ended(&mut self) {
        if !self.ended.is_finished() {
            // A panic of the thread was told.
            let _ = (&mut self.ended).await;
        }
    }
}

/// Waits for the end of a thread that speaks VRRP.
pub(super) fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        warn!("the thread that speaks VRRP ended badly");
    }
}

/// Waits in the thread, unless its end is in a hurry.
pub(super) fn linger(commands: &mpsc::Receiver<Command>, wait: Duration) {
    let until = now() + wait;
    // Nothing more is ordered; that nobody could any more ends it.
    while commands.recv_timeout(until.saturating_duration_since(now())).is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The daemon stood still for a whole interval, whoever told it to end at once.
    #[tokio::test]
    async fn an_end_in_a_hurry_does_not_linger() {
        let (commands, waiting) = mpsc::channel();
        let thread = std::thread::spawn(move || linger(&waiting, Duration::from_secs(3600)));
        let mut ending = Ending::of(Some(thread), commands);
        ending.hurry();
        ending.ended().await;
        ending.ended().await;
    }
}
