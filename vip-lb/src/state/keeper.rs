//! The thread that reads and writes the state, so that a disk that is slow or gone delays nothing else.
//!
//! What could not be written is tried again until it can be, or until something newer takes its place.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::{Folder, InForce, Revision, orders::Orders};

const ORDERS: &str = "orders.json";
const IN_FORCE: &str = "in-force.json";

/// Jobs that may wait for the disk. Whoever comes later is told that it does not keep up.
const WAITING: usize = 32;
/// Time between two attempts to write what could not be written.
const AGAIN: Duration = Duration::from_secs(5);
/// How long whoever waits for the disk waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Hands the state to its thread, which ends when this is dropped.
#[derive(Debug)]
pub struct Keeper {
    folder: Folder,
    jobs: mpsc::SyncSender<Job>,
    shared: Arc<Mutex<Shared>>,
}

/// An answer that is on its way from the disk.
pub struct Kept<T>(oneshot::Receiver<io::Result<T>>);

#[derive(Debug, Default)]
struct Shared {
    /// What cannot be kept, and why.
    troubles: [Option<String>; 2],
    /// Number of the configuration in force, once it is kept.
    in_force: Option<u64>,
}

enum Job {
    Orders(Orders, oneshot::Sender<io::Result<()>>),
    Config(Box<Config>, oneshot::Sender<io::Result<()>>),
    Revisions(oneshot::Sender<io::Result<Vec<Revision>>>),
    Text(u64, oneshot::Sender<io::Result<Option<Vec<u8>>>>),
    Finish(oneshot::Sender<io::Result<()>>),
}

#[derive(Clone)]
struct Config {
    text: Arc<str>,
    since: u64,
    instead_of: Option<InForce>,
}

/// What a daemon finds that starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The orders that hold.
    pub orders: Orders,
    /// What could not be read.
    pub warnings: Vec<String>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub fn start(folder: Folder) -> io::Result<Self> {
        let (jobs, queue) = mpsc::sync_channel(WAITING);
        let shared = Arc::new(Mutex::new(Shared::default()));
        let worker =
            Worker { folder: folder.clone(), shared: Arc::clone(&shared), orders: None, config: None };
        thread::Builder::new().name("state".to_owned()).spawn(move || worker.run(&queue))?;
        Ok(Self { folder, jobs, shared })
    }

    /// What an earlier daemon left.
    #[must_use]
    pub fn found(&self) -> Found {
        let mut found = Found::default();
        let read = self.folder.read(ORDERS).map_err(|error| error.to_string());
        match read.and_then(|file| file.map_or(Ok(Orders::default()), |text| Orders::from_file(&text))) {
            Ok(orders) => found.orders = orders,
            Err(error) => found.warnings.push(format!(
                "earlier orders of operators are not known: cannot read {}: {error}",
                self.folder.path().join(ORDERS).display()
            )),
        }
        found
    }

    /// Keeps all orders.
    pub fn keep_orders(&self, orders: Orders) -> Kept<()> {
        self.hand_over(|answer| Job::Orders(orders, answer))
    }

    /// Keeps the configuration that came in force at this Unix second, and whether it is another than the file's.
    pub fn keep_config(&self, text: Arc<str>, since: u64, instead_of: Option<InForce>) -> Kept<()> {
        lock(&self.shared).in_force = None;
        self.hand_over(|answer| Job::Config(Box::new(Config { text, since, instead_of }), answer))
    }

    /// The configurations that are kept, the oldest first.
    pub fn revisions(&self) -> Kept<Vec<Revision>> {
        self.hand_over(Job::Revisions)
    }

    /// The text of a configuration; none if it is not kept.
    pub fn text_of(&self, revision: u64) -> Kept<Option<Vec<u8>>> {
        self.hand_over(|answer| Job::Text(revision, answer))
    }

    /// Writes what waits, and then nothing any more: another process is to have the folder for itself.
    pub fn finish(&self) -> Kept<()> {
        self.hand_over(Job::Finish)
    }

    /// Number of the configuration in force; none if it is not kept.
    #[must_use]
    pub fn in_force(&self) -> Option<u64> {
        lock(&self.shared).in_force
    }

    /// What cannot be kept at present, and why.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        lock(&self.shared).troubles.iter().flatten().cloned().collect()
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    fn hand_over<T>(&self, job: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Job) -> Kept<T> {
        let (answer, kept) = oneshot::channel();
        // If it does not fit, the sender goes away with the job, and whoever waits hears of it.
        if self.jobs.try_send(job(answer)).is_err() {
            warn!("the disk does not keep up with what is to be kept on it");
        }
        Kept(kept)
    }
}

impl<T> Kept<T> {
    /// The answer.
    ///
    /// # Errors
    ///
    /// What the disk said, or that it says nothing.
    pub async fn wait(self) -> io::Result<T> {
        let silent = || io::Error::new(io::ErrorKind::TimedOut, "the disk does not answer");
        tokio::time::timeout(PATIENCE, self.0).await.map_err(|_| silent())?.map_err(|_| silent())?
    }
}

/// The configuration to go on with instead of a file whose fingerprint this is: what it is called, and its text. None if the file's is the
/// one that was in force.
///
/// # Errors
///
/// It should be another one, and why it is not known.
pub fn in_force_instead_of(folder: &Folder, hash: &str) -> Result<Option<(String, String)>, String> {
    let failed = |error: String| format!("cannot read {}: {error}", folder.path().display());
    let Some(text) = folder.read(IN_FORCE).map_err(|error| failed(error.to_string()))? else {
        return Ok(None);
    };
    let in_force: InForce = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    if in_force.instead_of != hash {
        return Ok(None);
    }
    let revisions = folder.revisions().map_err(|error| failed(error.to_string()))?;
    let Some(revision) = revisions.iter().rev().find(|revision| revision.hash == in_force.hash) else {
        return Err(failed("the configuration that was in force is not there".to_owned()));
    };
    let text =
        folder.text_of(revision.number).map_err(|error| failed(error.to_string()))?.unwrap_or_default();
    let text = String::from_utf8(text).map_err(|error| failed(error.to_string()))?;
    Ok(Some((name_of(revision.number), text)))
}

/// What a configuration that is kept is called.
#[must_use]
pub fn name_of(revision: u64) -> String {
    format!("revision {revision}")
}

struct Worker {
    folder: Folder,
    shared: Arc<Mutex<Shared>>,
    /// What could not be written yet.
    orders: Option<Orders>,
    config: Option<Config>,
}

impl Worker {
    fn run(mut self, queue: &mpsc::Receiver<Job>) {
        loop {
            // An asker that waits no more does not want the answer.
            match queue.recv_timeout(AGAIN) {
                Ok(Job::Orders(orders, answer)) => drop(answer.send(self.write_orders(orders))),
                Ok(Job::Config(config, answer)) => drop(answer.send(self.write_config(*config))),
                Ok(Job::Revisions(answer)) => drop(answer.send(self.folder.revisions())),
                Ok(Job::Text(revision, answer)) => drop(answer.send(self.folder.text_of(revision))),
                Ok(Job::Finish(answer)) => {
                    // What failed before has been said.
                    self.try_again();
                    return drop(answer.send(Ok(())));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => self.try_again(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn try_again(&mut self) {
        let (orders, config) = (self.orders.take(), self.config.take());
        let outcomes = [orders.map(|of| self.write_orders(of)), config.map(|of| self.write_config(of))];
        for error in outcomes.into_iter().flatten().filter_map(Result::err) {
            debug!(%error, "the state cannot be kept yet");
        }
    }

    fn write_orders(&mut self, orders: Orders) -> io::Result<()> {
        let outcome = self.folder.write(ORDERS, &orders.to_file());
        self.orders = outcome.is_err().then_some(orders);
        self.report(0, "orders of operators will not outlive the daemon", &outcome);
        outcome
    }

    fn write_config(&mut self, config: Config) -> io::Result<()> {
        let outcome = self.keep(&config);
        lock(&self.shared).in_force = outcome.as_ref().ok().copied();
        let outcome = outcome.map(drop);
        self.config = outcome.is_err().then_some(config);
        self.report(1, "the configuration in force is not kept, so nothing can return to it", &outcome);
        outcome
    }

    fn keep(&self, config: &Config) -> io::Result<u64> {
        let number = self.folder.keep(config.text.as_bytes(), config.since)?;
        match &config.instead_of {
            None => self.folder.remove(IN_FORCE)?,
            Some(in_force) => {
                let text = serde_json::to_vec(in_force).expect("two texts are plain data");
                self.folder.write(IN_FORCE, &text)?;
            }
        }
        Ok(number)
    }

    fn report(&self, about: usize, consequence: &str, outcome: &io::Result<()>) {
        let trouble = outcome
            .as_ref()
            .err()
            .map(|error| format!("{consequence}: cannot write to {}: {error}", self.folder.path().display()));
        let mut shared = lock(&self.shared);
        if let Some(trouble) = &trouble
            && shared.troubles[about].as_ref() != Some(trouble)
        {
            warn!("{trouble}");
        }
        shared.troubles[about] = trouble;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::api::samples::TempFolder;

    fn in_force(hash: &str, instead_of: &str) -> InForce {
        InForce { hash: hash.to_owned(), instead_of: instead_of.to_owned() }
    }

    #[tokio::test]
    async fn what_is_in_force_instead_of_a_file_holds_until_the_file_changes() {
        let place = TempFolder::new();
        let keeper = Keeper::start(Folder::new(place.path())).unwrap();
        keeper.keep_config("old".into(), 1, None).wait().await.unwrap();
        keeper.keep_config("new".into(), 2, None).wait().await.unwrap();
        assert_eq!(keeper.in_force(), Some(2));
        let folder = Folder::new(place.path());
        assert_eq!(in_force_instead_of(&folder, &super::super::fingerprint(b"new")), Ok(None));
        let (old, new) = (super::super::fingerprint(b"old"), super::super::fingerprint(b"new"));
        keeper.keep_config("old".into(), 3, Some(in_force(&old, &new))).wait().await.unwrap();
        assert_eq!(
            in_force_instead_of(&folder, &new),
            Ok(Some(("revision 3".to_owned(), "old".to_owned()))),
            "the file is still the one that was left"
        );
        assert_eq!(in_force_instead_of(&folder, "of another text"), Ok(None));
        keeper.keep_config("new".into(), 4, None).wait().await.unwrap();
        assert_eq!(in_force_instead_of(&folder, &new), Ok(None), "the file was read again");
        fs::write(place.path().join(IN_FORCE), "{").unwrap();
        assert!(in_force_instead_of(&folder, &new).is_err());
    }

    #[tokio::test]
    async fn what_cannot_be_kept_is_said_and_tried_again() {
        let place = TempFolder::new();
        let path = place.path().join("state");
        fs::write(&path, "a file in the way").unwrap();
        let keeper = Keeper::start(Folder::new(&path)).unwrap();
        assert!(keeper.keep_orders(Orders::default()).wait().await.is_err());
        assert!(keeper.keep_config("text".into(), 1, None).wait().await.is_err());
        let troubles = keeper.troubles();
        assert_eq!(troubles.len(), 2, "{troubles:?}");
        assert!(troubles[0].starts_with("orders of operators will not outlive"), "{troubles:?}");
        assert_eq!(keeper.in_force(), None);
        fs::remove_file(&path).unwrap();
        while !keeper.troubles().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(keeper.in_force(), Some(1));
        assert_eq!(keeper.text_of(1).wait().await.unwrap().as_deref(), Some(&b"text"[..]));
        assert_eq!(keeper.revisions().wait().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn after_its_end_nothing_is_written() {
        let place = TempFolder::new();
        let keeper = Keeper::start(Folder::new(place.path())).unwrap();
        drop(keeper.keep_config("in time".into(), 1, None));
        keeper.finish().wait().await.unwrap();
        assert_eq!(keeper.in_force(), Some(1), "what waited is written first");
        assert!(keeper.keep_config("too late".into(), 2, None).wait().await.is_err());
        assert_eq!(Folder::new(place.path()).revisions().unwrap().len(), 1);
        assert!(keeper.finish().wait().await.is_err());
    }

    #[tokio::test]
    async fn orders_are_found_again_and_damage_is_told() {
        let place = TempFolder::new();
        let keeper = Keeper::start(Folder::new(place.path())).unwrap();
        assert_eq!(keeper.found(), Found::default());
        keeper.keep_orders(Orders::default()).wait().await.unwrap();
        assert_eq!(keeper.found(), Found::default());
        fs::write(place.path().join(ORDERS), "{").unwrap();
        assert!(keeper.found().warnings[0].starts_with("earlier orders of operators are not known"));
    }
}
