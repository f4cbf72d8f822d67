//! All processors are busy with something else, and adverts come each 10 ms: nobody may take over from a node that works.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use xtask::figures::Figure;

use super::{Kind, pair::Pair};
use crate::lab::{interrupt, patience};

/// Busy threads for each processor.
const THREADS: usize = 2;

/// `failover.false_takeovers`: how often the VIP moved.
pub(super) fn overload(time: Duration, tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let pair = Pair::start(Kind::VipLb, 10, [210, 200])?;
    let adverts = || Ok::<_, anyhow::Error>(pair.site.router(1)?.adverts_received);
    let before = [pair.site.last_change(0)?, pair.site.last_change(1)?];
    let heard = adverts()?;
    let threads = std::thread::available_parallelism()?.get() * THREADS;
    let busy = Busy::start(threads)?;
    let started = Instant::now();
    while started.elapsed() < time {
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(200).min(time));
    }
    drop(busy);
    let heard = adverts()? - heard;
    let moves = pair.site.changes_since(0, before[0])?.max(pair.site.changes_since(1, before[1])?);
    let due = time.as_millis() as u64 / u64::from(10 * patience());
    tell(&format!(
        "{threads} busy threads for {time:?}, adverts each 10 ms: {heard} of {due} heard, the VIP moved {moves} times"
    ));
    pair.site.succeeded();
    Ok(vec![
        Figure::new("failover.overload_adverts", heard as f64, "adverts"),
        Figure::new("failover.false_takeovers", moves as f64, "moves").aim("== 0")?,
    ])
}

/// Threads that do nothing, as fast as they can.
struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Busy {
    fn start(count: usize) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..count)
            .map(|_| {
                let stop = Arc::clone(&stop);
                let work = move || {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                };
                std::thread::Builder::new().name("busy".to_owned()).spawn(work)
            })
            .collect::<std::io::Result<_>>()?;
        Ok(Self { stop, threads })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
