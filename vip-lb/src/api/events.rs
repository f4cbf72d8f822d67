//! The stream of events: a bounded memory that everybody reads at a pace of their own.
//!
//! A reader is a number: the last event it has. What it missed because the memory went on is told as
//! [`Occurrence::Lost`], so a slow reader costs nobody anything and knows what it does not know.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::model::{Event, Occurrence};

/// Events that are remembered.
pub const REMEMBERED: usize = 1024;

/// What happened lately. Clones are the same memory.
#[derive(Clone, Debug)]
pub struct Events {
    memory: Arc<Mutex<Memory>>,
    /// Number of the last event, or that there will be none any more.
    news: watch::Sender<Option<u64>>,
}

#[derive(Debug)]
struct Memory {
    events: VecDeque<Event>,
    capacity: usize,
    last: u64,
}

impl Events {
    /// An empty memory of [`REMEMBERED`] events.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(REMEMBERED)
    }

    /// An empty memory, in which the first event has the number after `last`.
    #[must_use]
    pub fn after(last: u64) -> Self {
        let events = Self::new();
        events.memory().last = last;
        events
    }

    /// An empty memory of this size.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let memory = Memory { events: VecDeque::with_capacity(capacity), capacity, last: 0 };
        Self { memory: Arc::new(Mutex::new(memory)), news: watch::Sender::new(Some(0)) }
    }

    /// Tells everybody of something that was noticed at `time_ms`, Unix milliseconds.
    pub fn tell(&self, time_ms: u64, what: Occurrence) {
        let mut memory = self.memory();
        memory.last += 1;
        if memory.events.len() == memory.capacity {
            memory.events.pop_front();
        }
        let id = memory.last;
        memory.events.push_back(Event { id, time_ms, what });
        self.news.send_modify(|last| *last = last.map(|_| id));
    }

    /// Number of the last event.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.memory().last
    }

    /// Lets the streams end when they have told what there is.
    pub fn close(&self) {
        self.news.send_modify(|last| *last = None);
    }

    /// A reader of what comes behind the event `after`; of what happens from now on without it.
    #[must_use]
    pub fn subscribe(&self, after: Option<u64>) -> Subscription {
        let last = self.memory().last;
        // A number of the future is that of an earlier daemon.
        let last = after.filter(|after| *after <= last).unwrap_or(last);
        Subscription {
            events: self.clone(),
            news: self.news.subscribe(),
            past: VecDeque::new(),
            last,
            until: None,
        }
    }

    /// A reader of what happened since `time_ms`, Unix milliseconds: first the events of `past`, which are kept elsewhere, then
    /// what the memory has behind them.
    #[must_use]
    pub fn since(&self, time_ms: u64, past: Vec<Event>) -> Subscription {
        let before = || {
            let memory = self.memory();
            memory.events.iter().find(|event| event.time_ms >= time_ms).map(|event| event.id - 1)
        };
        let after = past.last().map(|event| event.id).or_else(before);
        Subscription { past: past.into(), ..self.subscribe(after) }
    }

    /// A panic elsewhere leaves the memory as good as it was: it is changed in one step.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

/// One reader.
#[derive(Debug)]
pub struct Subscription {
    events: Events,
    news: watch::Receiver<Option<u64>>,
    /// What is told first.
    past: VecDeque<Event>,
    last: u64,
    /// The last event that is told.
    until: Option<u64>,
}

impl Subscription {
    /// The same up to what has happened until now.
    #[must_use]
    pub fn ending_now(self) -> Self {
        let until = Some(self.events.memory().last);
        Self { until, ..self }
    }

    /// The next event, when there is one; `None` when there will be none any more.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let closed = self.news.borrow_and_update().is_none();
            if let Some(event) = self.remembered() {
                return Some(event);
            }
            let is_over = self.until.is_some_and(|until| self.last >= until);
            if closed || is_over || self.news.changed().await.is_err() {
                return None;
            }
        }
    }

    /// The next event, if there is one already.
    pub fn remembered(&mut self) -> Option<Event> {
        if let Some(event) = self.past.pop_front() {
            return Some(event);
        }
        if self.until.is_some_and(|until| self.last >= until) {
            return None;
        }
        let memory = self.events.memory();
        let oldest = memory.events.front()?;
        let missed = oldest.id.saturating_sub(self.last + 1);
        let event = if missed > 0 {
            let what = Occurrence::Lost { events: missed };
            Event { id: oldest.id - 1, time_ms: oldest.time_ms, what }
        } else {
            memory.events.get((self.last + 1 - oldest.id) as usize)?.clone()
        };
        self.last = event.id;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(events: &Events, from: u64, to: u64) {
        for number in from..=to {
            events.tell(number * 1000, Occurrence::Warning { text: number.to_string() });
        }
    }

    async fn ids(subscription: &mut Subscription) -> Vec<String> {
        let mut ids = Vec::new();
        while let Some(event) = subscription.next().await {
            ids.push(match event.what {
                Occurrence::Lost { events } => format!("lost {events} to {}", event.id),
                _ => event.id.to_string(),
            });
        }
        ids
    }

    #[tokio::test]
    async fn a_reader_begins_where_it_asked_to() {
        let events = Events::with_capacity(4);
        tell(&events, 1, 3);
        let mut now = events.subscribe(None);
        let mut all = events.subscribe(Some(0));
        let mut behind_two = events.subscribe(Some(2));
        let mut of_an_earlier_daemon = events.subscribe(Some(4711));
        tell(&events, 4, 4);
        events.close();
        assert_eq!(ids(&mut now).await, ["4"]);
        assert_eq!(ids(&mut all).await, ["1", "2", "3", "4"]);
        assert_eq!(ids(&mut behind_two).await, ["3", "4"]);
        assert_eq!(ids(&mut of_an_earlier_daemon).await, ["4"]);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_how_much_it_lost() {
        let events = Events::with_capacity(2);
        let mut slow = events.subscribe(None);
        tell(&events, 1, 1);
        assert_eq!(slow.next().await.unwrap().id, 1);
        tell(&events, 2, 6);
        events.close();
        assert_eq!(ids(&mut slow).await, ["lost 3 to 4", "5", "6"]);
    }

    #[tokio::test]
    async fn what_happened_since_a_moment_is_told_from_the_past_and_the_memory() {
        let kept =
            |id: u64| Event { id, time_ms: id * 1000, what: Occurrence::Warning { text: String::new() } };
        let events = Events::after(10);
        tell(&events, 11, 13);
        let all =
            |past: &[u64], since| events.since(since, past.iter().map(|id| kept(*id)).collect()).ending_now();
        assert_eq!(ids(&mut all(&[9, 10, 11], 9000)).await, ["9", "10", "11", "12", "13"]);
        assert_eq!(ids(&mut all(&[], 12_000)).await, ["12", "13"], "nothing is kept");
        assert_eq!(ids(&mut all(&[], 14_000)).await, [""; 0], "nothing happened since");
        let mut followed = events.since(13_000, vec![kept(13)]);
        tell(&events, 14, 14);
        events.close();
        assert_eq!(ids(&mut followed).await, ["13", "14"]);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let events = Events::new();
        let mut waiting = events.subscribe(None);
        let reader = tokio::spawn(async move { (waiting.next().await, waiting.next().await) });
        tokio::task::yield_now().await;
        tell(&events, 1, 1);
        events.close();
        let (first, second) = reader.await.unwrap();
        assert_eq!((first.unwrap().time_ms, second), (1000, None));
    }
}
