//! What a daemon that was told to end waits for, while it goes on.

use std::time::Instant;

use tokio::time::sleep_until;

use super::now;
use crate::ownership::Ending;

/// What there is to wait for.
pub(super) struct Leaving {
    /// The last words of virtual routers, and what comes until they were heard.
    routers: Option<Ending>,
    /// Until when routers that have to hear of routes may send packets.
    until: Instant,
}

impl Leaving {
    pub(super) fn new(routers: Option<Ending>, until: Instant) -> Self {
        Self { routers, until }
    }

    /// Whoever says so twice means at once.
    pub(super) fn hurry(&mut self) {
        self.routers.iter_mut().for_each(Ending::hurry);
        self.until = now();
    }

    /// Waits until the daemon may end. Can be given up and begun again.
    pub(super) async fn is_over(&mut self) {
        if let Some(routers) = &mut self.routers {
            routers.ended().await;
        }
        sleep_until(self.until.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// It waited for peers once more.
    #[tokio::test]
    async fn who_is_told_twice_to_end_waits_for_nothing() {
        let mut leaving = Leaving::new(None, now() + Duration::from_secs(3600));
        leaving.hurry();
        leaving.is_over().await;
    }
}
