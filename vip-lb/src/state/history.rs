//! What happened, in files that outlive the daemon: one line of JSON for each event, as `vip-lb events --json` prints it.
//!
//! ```text
//! events.jsonl     the latest
//! events.1.jsonl   those before, until the latest have filled a file of their own
//! ```
//!
//! The events come from the memory that everybody reads ([`Events`](crate::api::events::Events)), so a disk that is slow or gone delays nobody: what it
//! could not keep up with is noted as lost.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use tokio::{sync::oneshot, task::JoinHandle};
use tracing::warn;

use super::keeper::PATIENCE;
use crate::api::{
    events::Subscription,
    model::{Event, Occurrence},
};

const LATEST: &str = "events.jsonl";
const BEFORE: &str = "events.1.jsonl";

/// Bytes of one file; there are two.
const MOST_BYTES: u64 = 4 << 20;

/// What is read of a file's end to find its last event. Events are much shorter.
const TAIL: u64 = 256 << 10;

/// The files of what happened.
#[derive(Clone, Debug)]
pub struct History {
    folder: PathBuf,
    most_bytes: u64,
}

impl History {
    /// In this folder, which need not exist. Touches nothing.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), most_bytes: MOST_BYTES }
    }

    /// Number of the last event that is kept; 0 if there is none.
    #[must_use]
    pub fn last(&self) -> u64 {
        let last_of = |name| {
            let mut file = File::open(self.folder.join(name)).ok()?;
            let length = file.metadata().ok()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
            let mut tail = Vec::new();
            file.read_to_end(&mut tail).ok()?;
            read(&tail).last().map(|event| event.id)
        };
        last_of(LATEST).or_else(|| last_of(BEFORE)).unwrap_or(0)
    }

    /// The events from this moment on, Unix milliseconds, in their order.
    ///
    /// # Errors
    ///
    /// A file is there and cannot be read.
    pub fn since(&self, time_ms: u64) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        for name in [BEFORE, LATEST] {
            match fs::read(self.folder.join(name)) {
                Ok(text) => events.extend(read(&text).filter(|event| event.time_ms >= time_ms)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(events)
    }

    /// Keeps events behind those that are there.
    ///
    /// # Errors
    ///
    /// They cannot be written.
    pub fn append(&self, events: &[Event]) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let path = self.folder.join(LATEST);
        let mut lines = String::new();
        for event in events {
            lines.push_str(&serde_json::to_string(event)?);
            lines.push('\n');
        }
        let length = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if length > 0 && length + lines.len() as u64 > self.most_bytes {
            fs::rename(&path, self.folder.join(BEFORE))?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
        // A loss of power may have left a part of a line.
        let mut end = [b'\n'];
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut end)?;
        }
        if end != *b"\n" {
            lines.insert(0, '\n');
        }
        file.write_all(lines.as_bytes())
    }
}

/// Brings what a reader hears of to the disk, until it is finished.
#[derive(Debug)]
pub struct Keeping {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Keeping {
    /// Begins.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn begin(history: &History, events: Subscription) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(keep(history.clone(), events, stopped)) }
    }

    /// Keeps what was told until now, and nothing more.
    ///
    /// # Errors
    ///
    /// The disk does not answer.
    pub async fn finish(self) -> io::Result<()> {
        let _ = self.stop.send(());
        match tokio::time::timeout(PATIENCE, self.task).await {
            Ok(ended) => ended.map_err(io::Error::other),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer")),
        }
    }
}

async fn keep(history: History, mut events: Subscription, mut stopped: oneshot::Receiver<()>) {
    let mut failed = false;
    let mut goes_on = true;
    while goes_on {
        let first = tokio::select! {
            first = events.next() => {
                goes_on = first.is_some();
                first
            }
            _ = &mut stopped => {
                goes_on = false;
                None
            }
        };
        let mut heard: Vec<Event> = first.into_iter().collect();
        while let Some(more) = events.remembered() {
            heard.push(more);
        }
        if heard.is_empty() {
            continue;
        }
        let history = history.clone();
        let folder = history.folder.clone();
        let written = tokio::task::spawn_blocking(move || history.append(&heard)).await;
        let result = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = &result
            && !failed
        {
            warn!(folder = %folder.display(), %error, "cannot keep events");
        }
        failed = result.is_err();
    }
}

/// The events in a text. Lines that are none (a part of one, after a loss of power) are left out, and so is that events were lost
/// to a reader.
fn read(text: &[u8]) -> impl DoubleEndedIterator<Item = Event> {
    let events =
        text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Event>(line).ok());
    events.filter(|event| !matches!(event.what, Occurrence::Lost { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::events::Events;

    /// A folder of its own, gone with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("vip-lb-history-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn event(id: u64) -> Event {
        Event { id, time_ms: id * 1000, what: Occurrence::Warning { text: format!("number {id}") } }
    }

    fn ids(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.id).collect()
    }

    #[test]
    fn what_is_kept_is_read_again_from_a_moment_on() {
        let scratch = Scratch::new("since");
        let history = History::new(&scratch.0);
        assert_eq!((history.last(), history.since(0).unwrap()), (0, vec![]), "there is nothing yet");
        history.append(&[event(1), event(2)]).unwrap();
        history.append(&[event(3)]).unwrap();
        assert_eq!(history.last(), 3);
        assert_eq!(history.since(0).unwrap(), [event(1), event(2), event(3)]);
        assert_eq!(ids(&history.since(2000).unwrap()), [2, 3]);
        assert_eq!(ids(&history.since(3001).unwrap()), [0; 0]);
    }

    #[test]
    fn two_files_are_kept_at_most() {
        let scratch = Scratch::new("bounded");
        let line = serde_json::to_string(&event(10)).unwrap().len() as u64 + 1;
        let history = History { most_bytes: 10 * line, ..History::new(&scratch.0) };
        for id in 10..=99 {
            history.append(&[event(id)]).unwrap();
        }
        assert_eq!(ids(&history.since(0).unwrap()), (80..=99).collect::<Vec<_>>());
        let bytes: u64 =
            fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert_eq!(bytes, 20 * line);
        history.append(&[]).unwrap();
        fs::remove_file(scratch.0.join(LATEST)).unwrap();
        assert_eq!(history.last(), 89, "the latest file may be gone");
    }

    #[test]
    fn half_a_line_costs_itself_alone() {
        let scratch = Scratch::new("half");
        let history = History::new(&scratch.0);
        history.append(&[event(1)]).unwrap();
        let mut file = OpenOptions::new().append(true).open(scratch.0.join(LATEST)).unwrap();
        file.write_all(b"{\"id\":2,\"time_").unwrap();
        history.append(&[event(3)]).unwrap();
        assert_eq!(ids(&history.since(0).unwrap()), [1, 3]);
    }

    #[tokio::test]
    async fn a_reader_keeps_what_it_hears_to_the_end() {
        let scratch = Scratch::new("keep");
        let history = History::new(&scratch.0);
        let events = Events::new();
        let keeping = Keeping::begin(&history, events.subscribe(None));
        for id in 1..=3 {
            let Event { time_ms, what, .. } = event(id);
            events.tell(time_ms, what);
        }
        keeping.finish().await.unwrap();
        events.tell(4000, event(4).what);
        assert_eq!(history.since(0).unwrap(), [event(1), event(2), event(3)], "and nothing after it");

        let continued = Events::after(history.last());
        continued.tell(9000, event(9).what);
        assert_eq!(continued.subscribe(Some(3)).remembered().map(|event| event.id), Some(4), "numbers go on");
    }
}
