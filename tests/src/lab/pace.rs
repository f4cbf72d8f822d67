//! How fast clients that go on for long speak, and a gate that holds all of them up for a moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

use super::patience;

/// Between two looks at a closed gate.
const LOOK: Duration = Duration::from_millis(2);

/// While it is closed, whoever keeps to it begins nothing new; what is under way ends.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    closed: Arc<AtomicBool>,
}

impl Gate {
    /// Lets nobody begin anything.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Lets all go on.
    pub fn open(&self) {
        self.closed.store(false, Ordering::Relaxed);
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// A pause between two questions, and a gate.
#[derive(Clone, Debug)]
pub struct Pace {
    pause: Duration,
    gate: Gate,
}

impl Pace {
    /// This pause times [`patience`], and this gate.
    #[must_use]
    pub fn new(pause: Duration, gate: &Gate) -> Self {
        Self { pause: pause * patience(), gate: gate.clone() }
    }

    /// Waits until it is time for the next question.
    pub(super) async fn next(&self) {
        sleep(self.pause).await;
        while self.gate.is_closed() {
            sleep(LOOK).await;
        }
    }
}

impl Default for Pace {
    /// 20 ms times [`patience`], and a gate that nobody closes.
    fn default() -> Self {
        Self::new(Duration::from_millis(20), &Gate::default())
    }
}
