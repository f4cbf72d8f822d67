//! Listens on the links of the VIPs that this node answers for, and asks there who else has them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    time::Instant,
};

use anyhow::Context as _;
use socket2::Socket;

use super::{
    announcement,
    claim::{self, Claim},
    others::{Ask, Others, Place},
    tap::{Tap, frame_socket, send_frame},
};

/// Frames of a link that are read at a time. What comes beyond that waits, or is lost: whoever floods does not get all of the daemon's time.
const AT_A_TIME: usize = 200;

/// What listens and asks.
#[derive(Default)]
pub struct Lookout {
    others: Others,
    taps: BTreeMap<Place, Tap>,
    frames: Option<Socket>,
}

impl Lookout {
    /// Who else there is, as far as is known.
    #[must_use]
    pub fn others(&self) -> &Others {
        &self.others
    }

    /// Sets for which VIPs this node answers now, and where. Returns what went wrong.
    pub fn answered(
        &mut self,
        vips: BTreeMap<IpAddr, BTreeSet<Place>>,
        is_configured: impl Fn(IpAddr) -> bool,
        now: Instant,
    ) -> Vec<anyhow::Error> {
        let places: BTreeSet<_> = vips.values().flatten().cloned().collect();
        self.taps.retain(|place, _| places.contains(place));
        let mut errors = Vec::new();
        for place in places {
            let here = vips.iter().filter(|(_, places)| places.contains(&place)).map(|(vip, _)| *vip);
            let filter = claim::filter(here);
            let result = match self.taps.get_mut(&place) {
                Some(tap) => tap.set_filter(&filter),
                None => Tap::open(place.index, &filter).map(|tap| {
                    self.taps.insert(place.clone(), tap);
                }),
            };
            let context = || format!("cannot listen to claims to VIPs on {}", place.interface);
            errors.extend(result.with_context(context).err());
        }
        self.others.answered(vips, now);
        self.others.keep(is_configured);
        errors
    }

    /// Somebody else has an address of this node, as is known from elsewhere.
    pub fn heard(&mut self, address: IpAddr, place: &Place, mac: [u8; 6], now: Instant) {
        self.others.heard(Claim { address, mac }, place, now);
    }

    /// Reads what has come, asks what is due, and says whose addresses are whose. `is_own` tells the hardware addresses of this host, which
    /// come back where links meet.
    pub fn look(&mut self, is_own: impl Fn([u8; 6]) -> bool, now: Instant) -> Vec<anyhow::Error> {
        let mut errors = Vec::new();
        let mut buffer = Tap::buffer();
        for (place, tap) in &self.taps {
            for _ in 0..AT_A_TIME {
                match tap.receive(&mut buffer) {
                    Ok(Some(frame)) => {
                        if let Some(claim) = Claim::of(frame).filter(|claim| !is_own(claim.mac)) {
                            self.others.heard(claim, place, now);
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        errors.push(
                            anyhow::Error::new(error)
                                .context(format!("cannot hear claims on {}", place.interface)),
                        );
                        break;
                    }
                }
            }
        }
        for ask in self.others.advance(now) {
            let (place, frame) = match &ask {
                Ask::Probe(vip, place) => (place, claim::probe(*vip, place.mac)),
                Ask::Announce(vip, place) => (place, announcement::frame(*vip, place.announced)),
            };
            let context = || format!("cannot ask on {} who else has a VIP", place.interface);
            errors.extend(self.send(place.index, &frame).with_context(context).err());
        }
        errors
    }

    fn send(&mut self, index: u32, frame: &[u8]) -> io::Result<()> {
        if self.frames.is_none() {
            self.frames = Some(frame_socket()?);
        }
        let Some(socket) = &self.frames else { return Ok(()) };
        send_frame(socket, index, frame)
    }
}
