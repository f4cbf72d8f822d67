//! Why a router takes no part, or may not be able to: that the kernel does not answer says nothing about what was asked.

use std::time::{Duration, Instant};

/// How long the kernel may say nothing before somebody should know.
const LONG: Duration = Duration::from_secs(30);

/// Why a router takes no part.
#[derive(Debug)]
pub(super) enum Obstacle {
    /// The kernel says so.
    Known(anyhow::Error),
    /// The kernel does not say whether it can.
    Unknown(anyhow::Error),
}

impl Obstacle {
    /// A reason to take no part, where nothing better is known.
    pub(super) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Known(error) | Self::Unknown(error) => error,
        }
    }
}

impl From<anyhow::Error> for Obstacle {
    fn from(error: anyhow::Error) -> Self {
        Self::Known(error)
    }
}

/// What is to be done about something that was looked at again.
#[derive(Debug)]
pub(super) enum Look<T> {
    /// It is as it was.
    Same,
    /// It may be as it was, and is taken for that.
    Doubtful(anyhow::Error),
    /// It is something else, or is no more.
    Changed(anyhow::Result<T>),
}

impl<T: PartialEq> Look<T> {
    /// Of what is known of it, and what was found.
    pub(super) fn at(known: Option<&T>, found: Result<T, Obstacle>) -> Self {
        match (known, found) {
            (Some(known), Ok(found)) if *known == found => Self::Same,
            (Some(_), Err(Obstacle::Unknown(error))) => Self::Doubtful(error),
            (_, found) => Self::Changed(found.map_err(Obstacle::into_error)),
        }
    }
}

/// For how long the kernel has not answered.
#[derive(Default)]
pub(super) struct Doubt {
    since: Option<Instant>,
    /// Whether it has not since the last look.
    is_renewed: bool,
}

impl Doubt {
    /// It does not answer. Tells whether that is news.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let is_news = self.since.is_none();
        self.since.get_or_insert(now);
        self.is_renewed = true;
        is_news
    }

    /// All was asked once more. Tells whether there was an answer to all of it, and that is news.
    pub(super) fn settle(&mut self) -> bool {
        !std::mem::take(&mut self.is_renewed) && self.since.take().is_some()
    }

    /// Whether it has not answered for so long that somebody should know.
    pub(super) fn lasts_long(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now >= since + LONG)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    /// The node resigned.
    #[test]
    fn a_kernel_that_does_not_answer_takes_no_interface_away() {
        let known = Some(&7);
        let unknown = || Obstacle::Unknown(anyhow!("busy"));
        assert!(matches!(Look::at(known, Err(unknown())), Look::Doubtful(_)));
        assert!(matches!(Look::at(known, Err(Obstacle::Known(anyhow!("gone")))), Look::Changed(Err(_))));
        assert!(matches!(Look::at(known, Ok(7)), Look::Same));
        assert!(matches!(Look::at(known, Ok(8)), Look::Changed(Ok(8))));
        assert!(matches!(Look::<i32>::at(None, Err(unknown())), Look::Changed(Err(_))), "nothing is known");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some moment")]
    fn it_is_told_once_and_shown_when_it_lasts() {
        let (mut doubt, now) = (Doubt::default(), Instant::now());
        assert!(!doubt.settle());
        assert!(doubt.begin(now) && !doubt.begin(now) && !doubt.settle());
        assert!(!doubt.begin(now + LONG) && !doubt.settle());
        assert!(!doubt.lasts_long(now) && doubt.lasts_long(now + LONG));
        assert!(doubt.settle() && !doubt.settle() && !doubt.lasts_long(now + LONG));
    }
}
