//! Rings: one inner map each, published by an update of the outer map.

use std::{
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    panic::resume_unwind,
    thread,
};

use anyhow::{Context as _, ensure};
use aya::{
    Ebpf,
    maps::{Map, MapData, MapInfo},
};
use vip_lb_common::abi::{MAX_SERVICES, RingClass, Slot};

use super::{loader::LoadError, raw, refusal, write::Publication};

/// How many inner maps are looked up at a time. Before Linux 6.8 the kernel waits at each until all programs that run have ended (`maybe_wait_bpf_programs`);
/// whoever waits at the same time waits for the same.
const AT_A_TIME: usize = 128;

/// The RINGS maps of all classes, in the order of [`RingClass::ALL`].
pub(super) struct Rings {
    outer: [MapData; RingClass::ALL.len()],
}

impl Rings {
    pub(super) fn take(bpf: &mut Ebpf) -> Result<Self, LoadError> {
        let mut take = |name: &str| match bpf.take_map(name) {
            Some(Map::ArrayOfMaps(map)) => Ok(map),
            _ => Err(LoadError::Object { what: format!("map {name} of the expected type") }),
        };
        Ok(Self { outer: [take("RINGS_16381")?, take("RINGS_65537")?, take("RINGS_131071")?] })
    }

    /// Publishes rings and returns the ones they replaced, read after the swap: with all that packets wrote into them.
    pub(super) fn publish(&mut self, rings: &[Publication]) -> Vec<anyhow::Result<Option<Vec<Slot>>>> {
        let mut swaps: Vec<_> = rings.iter().map(|ring| self.prepare(ring)).collect();
        for class in RingClass::ALL {
            let of_class = swaps.iter().zip(rings).filter(|(_, ring)| ring.class == class);
            let ready = of_class
                .filter_map(|(swap, ring)| Some((u32::from(ring.service), swap.as_ref().ok()?.new.as_fd())));
            let (services, new): (Vec<_>, Vec<_>) = ready.unzip();
            if services.is_empty() || raw::update_inner_maps(self.outer(class).fd(), &services, &new).is_ok()
            {
                continue;
            }
            // One by one, to be told which it is, or because the kernel knows no other way.
            for (swap, ring) in swaps.iter_mut().zip(rings).filter(|(_, ring)| ring.class == class) {
                if let Ok(Swap { new, .. }) = swap
                    && let Err(error) =
                        raw::update_from(self.outer(class).fd(), u32::from(ring.service), &[new.as_raw_fd()])
                {
                    *swap = Err(error).context("cannot swap the ring in");
                }
            }
        }
        let finished = swaps.into_iter().zip(rings).map(|(swap, ring)| {
            let read = |swap: Swap| swap.old.map(|old| contents(&old, ring.class)).transpose();
            swap.and_then(read)
                .with_context(|| format!("cannot publish the ring of service {}", ring.service))
        });
        finished.collect()
    }

    fn prepare(&self, ring: &Publication) -> anyhow::Result<Swap> {
        let Publication { service, class, ref slots } = *ring;
        ensure!(slots.len() == class.slots(), "a ring of {} slots is not of class {class:?}", slots.len());
        let new = raw::create_array(size_of_val(&slots[..])).context("cannot create a map of one ring")?;
        raw::update_from(&new, 0, slots).context("cannot fill the ring")?;
        Ok(Swap { old: self.inner(service, class)?, new })
    }

    /// The ring as it is now, if one is published.
    pub(super) fn read(&self, service: u16, class: RingClass) -> anyhow::Result<Option<Vec<Slot>>> {
        let read = || self.inner(service, class)?.map(|ring| contents(&ring, class)).transpose();
        read().with_context(|| format!("cannot read the ring of service {service}"))
    }

    /// Services that have a ring, with its class.
    pub(super) fn published(&self) -> anyhow::Result<Vec<(u16, RingClass)>> {
        let of_class = |class| (0..MAX_SERVICES as u16).map(move |service| (service, class));
        let all: Vec<_> = RingClass::ALL.into_iter().flat_map(of_class).collect();
        let look_up = |some: &[(u16, RingClass)]| -> anyhow::Result<Vec<_>> {
            let found =
                some.iter().map(|&(service, class)| Ok(self.id(service, class)?.map(|_| (service, class))));
            found.filter_map(Result::transpose).collect()
        };
        thread::scope(|scope| {
            let some = all.chunks(all.len().div_ceil(AT_A_TIME));
            let begin = |some| thread::Builder::new().spawn_scoped(scope, move || look_up(some));
            let threads =
                some.map(begin).collect::<Result<Vec<_>, _>>().context("cannot look up inner maps")?;
            let found =
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            Ok(found.collect::<anyhow::Result<Vec<_>>>()?.concat())
        })
    }

    pub(super) fn remove(&mut self, service: u16, class: RingClass) -> anyhow::Result<()> {
        raw::delete(self.outer(class).fd(), u32::from(service))
            .with_context(|| format!("cannot remove the ring of service {service}"))
    }

    fn outer(&self, class: RingClass) -> &MapData {
        &self.outer[class as usize]
    }

    /// The kernel's number of the inner map.
    fn id(&self, service: u16, class: RingClass) -> anyhow::Result<Option<u32>> {
        let mut id = [0_u32];
        match raw::lookup_into(self.outer(class).fd(), u32::from(service), &mut id) {
            Ok(()) => Ok(Some(id[0])),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error).context("cannot look up the inner map"),
        }
    }

    fn inner(&self, service: u16, class: RingClass) -> anyhow::Result<Option<OwnedFd>> {
        let Some(id) = self.id(service, class)? else { return Ok(None) };
        let fd = MapInfo::from_id(id).and_then(|info| info.fd()).map_err(|error| {
            // This alone takes CAP_SYS_ADMIN.
            let gates = refusal::gates(&error);
            anyhow::Error::new(error).context(format!("cannot open the inner map{gates}"))
        })?;
        Ok(Some(fd.as_fd().try_clone_to_owned()?))
    }
}

/// A ring that is about to take the place of another.
struct Swap {
    old: Option<OwnedFd>,
    new: OwnedFd,
}

fn contents(ring: &OwnedFd, class: RingClass) -> anyhow::Result<Vec<Slot>> {
    let mut slots = vec![Slot::default(); class.slots()];
    raw::lookup_into(ring, 0, &mut slots).context("cannot read the inner map")?;
    Ok(slots)
}
