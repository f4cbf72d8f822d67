//! Nodes that do not hear each other, or only one the other, and nodes that begin at the same moment: whoever can be heard by the client has the
//! VIP alone, and when all is well again exactly one has it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use xtask::figures::Figure;

use super::{EVERY, Kind, LIMIT, pair::Pair};
use crate::lab::{ArpWatch, Family, LongConnections, patience, vip};

/// All of ten thousand.
const ALL: u32 = 10_000;

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// The active node is alone on its side of a partition.
    Partition,
    /// What the active node sends is lost, and it hears all.
    Mute,
    /// What the backup sends is lost, and it hears all.
    MuteBackup,
    /// Both daemons are killed and started at once.
    BothRestarted,
}

impl Trouble {
    const ALL: [Self; 4] = [Self::Partition, Self::Mute, Self::MuteBackup, Self::BothRestarted];
}

/// `failover.invariants_ok`: in how many of four kinds of trouble nobody answered beside the one who should.
pub(super) fn partition(tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let mut pair = Pair::start_with(Kind::VipLb, Family::V4, 100, [210, 200], |_, _, mut config| {
        config.outlast_cuts();
        Ok(config)
    })?;
    let connections = LongConnections::open(&pair.site.lab.client.namespace, pair.site.echo(), 60)?;
    let mut well = 0;
    for trouble in Trouble::ALL {
        match trouble.play(&mut pair, &connections) {
            Ok(()) => {
                well += 1;
                tell(&format!("{trouble:?}: one node answers, and one alone when it is over"));
            }
            Err(error) => tell(&format!("{trouble:?}: {error:#}")),
        }
    }
    if well == Trouble::ALL.len() {
        pair.site.succeeded();
    }
    let aim = format!("== {}", Trouble::ALL.len());
    Ok(vec![Figure::new("failover.invariants_ok", well as f64, "kinds of trouble").aim(&aim)?])
}

impl Trouble {
    fn play(self, pair: &mut Pair, connections: &LongConnections) -> Result<()> {
        let [first, second] = [pair.site.lab.edges[0].mac()?, pair.site.lab.edges[1].mac()?];
        let watch = ArpWatch::start(&pair.site.lab.client, vip(Family::V4), EVERY * 2 * patience())?;
        match self {
            Self::Partition | Self::Mute => {
                self.begin(pair)?;
                pair.site.wait_router(1, "active")?;
                answers_alone(&watch, second)?;
                // On its side of the partition nobody else is there.
                ensure!(pair.site.router(0)?.state == "active", "{:?}", pair.site.router(0)?);
                self.end(pair)?;
                pair.wait_owner(0)?;
            }
            Self::MuteBackup => {
                self.begin(pair)?;
                let heard = pair.site.router(1)?.adverts_received;
                crate::lab::wait_for("ten adverts", LIMIT, || {
                    Ok((pair.site.router(1)?.adverts_received > heard + 10).then_some(()))
                })?;
                self.end(pair)?;
                pair.wait_owner(0)?;
                ensure!(watch.answers().iter().all(|answer| answer.mac == first), "the backup answers");
            }
            Self::BothRestarted => {
                for daemon in &mut pair.site.daemons {
                    daemon.kill()?;
                }
                std::thread::scope(|scope| {
                    let starting: Vec<_> =
                        pair.site.daemons.iter_mut().map(|daemon| scope.spawn(|| daemon.launch())).collect();
                    starting.into_iter().try_for_each(|thread| {
                        thread.join().ok().context("a thread that starts a daemon")?.context("start a daemon")
                    })
                })?;
                // Whoever is the first to be ready.
                let owner = crate::lab::wait_for("one node to have the VIP", LIMIT, || {
                    let has = [pair.has_vip(0)?, pair.has_vip(1)?];
                    Ok((has[0] != has[1]).then_some(usize::from(has[1])))
                })?;
                answers_alone(&watch, [first, second][owner])?;
                pair.wait_owner(owner)?;
            }
        }
        connections.exchange(3)?;
        let broken = connections.broken();
        ensure!(broken.is_empty(), "{} connections broke, the first {:?}", broken.len(), broken[0]);
        Ok(())
    }

    fn begin(self, pair: &Pair) -> Result<()> {
        self.set(pair, true)
    }

    fn end(self, pair: &Pair) -> Result<()> {
        self.set(pair, false)?;
        // Neighbours believe the last who announced itself.
        pair.wait_owner(0)?;
        pair.found_anew_at(0)
    }

    fn set(self, pair: &Pair, on: bool) -> Result<()> {
        let switch = &pair.site.lab.switch;
        let lost = if on { ALL } else { 0 };
        match self {
            Self::Partition => switch.set_silent("edge-1", on),
            Self::Mute => switch.lose("edge-1", lost),
            Self::MuteBackup => switch.lose("edge-2", lost),
            Self::BothRestarted => Ok(()),
        }
    }
}

/// For a moment nobody but this one answers.
fn answers_alone(watch: &ArpWatch, mac: [u8; 6]) -> Result<()> {
    let since = Instant::now();
    std::thread::sleep(Duration::from_millis(500) * patience());
    let answers = watch.answers();
    let recent = || answers.iter().filter(|answer| answer.at > since);
    ensure!(recent().count() > 10, "only {} answers to ARP", recent().count());
    ensure!(recent().all(|answer| answer.mac == mac), "somebody else answers, too");
    Ok(())
}
