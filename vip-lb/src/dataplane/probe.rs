//! The programs of probes through the VIP: on the pair of devices that probes leave by, and on the interfaces that answers come in by.
//!
//! Nothing of this is pinned: probes are the daemon's, and their programs go when it does.

use std::collections::{BTreeMap, btree_map::Entry};

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{
        ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
        tc::{self, SchedClassifierLinkId},
    },
};
use thiserror::Error;
use vip_lb_common::abi::ProbeDevice;

use super::{
    Dataplane,
    loader::{LoadError, load_program, take},
    raw::Raw,
    refusal,
};
use crate::network::{PROBE_INNER, PROBE_OUTER, ProbePair};

/// Names of the programs.
const SENDS: &str = "vip_lb_probe";
const ADMITS: &str = "vip_lb_probe_back";
const MARKS: &str = "vip_lb_probe_out";
const RETURNS: &str = "vip_lb_probe_in";

/// Why probes cannot go through the VIP.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The kernel does not take a program.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A program cannot be attached.
    #[error("cannot attach {program} to {interface}: {reason}")]
    Attach {
        /// The program.
        program: &'static str,
        /// The interface.
        interface: String,
        /// What the kernel says, and what can be done about it.
        reason: String,
    },
    /// Another daemon's programs are there: those of a process that is about to end.
    #[error("another daemon's program is on {interface}")]
    Busy {
        /// The interface.
        interface: String,
    },
    /// The map that tells the programs where answers go cannot be written.
    #[error("cannot write PROBE_DEVICE")]
    Device(#[source] aya::maps::MapError),
}

/// What is attached for probes.
#[derive(Default)]
pub(super) struct Probes {
    pair: Option<ProbePair>,
    returns: BTreeMap<u32, SchedClassifierLinkId>,
    device: Option<Array<MapData, Raw<ProbeDevice>>>,
    loaded: bool,
}

impl Dataplane {
    /// Has probes that leave by `pair` sent on, and their answers taken from `interfaces`, by index. What is so already stays.
    pub fn steer_probes(
        &mut self,
        pair: &ProbePair,
        interfaces: &BTreeMap<u32, String>,
    ) -> Result<(), ProbeError> {
        self.probes.load(&mut self.bpf)?;
        self.probes.attach_pair(&mut self.bpf, pair)?;
        self.probes.attach_returns(&mut self.bpf, interfaces)
    }

    /// Leaves the devices to another daemon's programs.
    pub fn release_probes(&mut self) {
        self.probes.release(&mut self.bpf);
    }
}

impl Probes {
    fn load(&mut self, bpf: &mut Ebpf) -> Result<(), ProbeError> {
        if self.loaded {
            return Ok(());
        }
        if self.device.is_none() {
            self.device = Some(take(bpf, "PROBE_DEVICE")?);
        }
        for name in [SENDS, ADMITS] {
            load_program(bpf, name)?;
        }
        for name in [MARKS, RETURNS] {
            let program = classifier(bpf, name)?;
            program.load().map_err(|source| LoadError::of_program(name, source))?;
        }
        self.loaded = true;
        Ok(())
    }

    /// What is unloaded is nowhere attached. What cannot be was not loaded.
    fn release(&mut self, bpf: &mut Ebpf) {
        for name in [MARKS, RETURNS] {
            let _ = classifier(bpf, name).map(SchedClassifier::unload);
        }
        for name in [SENDS, ADMITS] {
            let _ = xdp(bpf, name).map(Xdp::unload);
        }
        self.pair = None;
        self.returns.clear();
        self.loaded = false;
    }

    fn attach_pair(&mut self, bpf: &mut Ebpf, pair: &ProbePair) -> Result<(), ProbeError> {
        if self.pair.as_ref() == Some(pair) {
            return Ok(());
        }
        // The links of devices that are gone went with them.
        self.pair = None;
        let device = ProbeDevice { inner: pair.inner, mac: pair.mac, reserved: 0 };
        if let Some(map) = &mut self.device {
            map.set(0, Raw(device), 0).map_err(ProbeError::Device)?;
        }
        // From the last to the first: none sends what the next does not take yet.
        attach_xdp(bpf, SENDS, PROBE_INNER, pair.inner, XdpMode::Skb)?;
        attach_xdp(bpf, ADMITS, PROBE_OUTER, pair.outer, XdpMode::Driver)?;
        attach_classifier(bpf, MARKS, PROBE_OUTER, TcAttachType::Egress)?;
        self.pair = Some(pair.clone());
        Ok(())
    }

    fn attach_returns(
        &mut self,
        bpf: &mut Ebpf,
        interfaces: &BTreeMap<u32, String>,
    ) -> Result<(), ProbeError> {
        let gone: Vec<u32> =
            self.returns.keys().filter(|index| !interfaces.contains_key(index)).copied().collect();
        for index in gone {
            if let Some(link) = self.returns.remove(&index) {
                // An interface that is gone took its link along.
                let _ = classifier(bpf, RETURNS)?.detach(link);
            }
        }
        for (&index, name) in interfaces {
            if let Entry::Vacant(missing) = self.returns.entry(index) {
                missing.insert(attach_classifier(bpf, RETURNS, name, TcAttachType::Ingress)?);
            }
        }
        Ok(())
    }
}

fn attach_xdp(
    bpf: &mut Ebpf,
    name: &'static str,
    interface: &str,
    index: u32,
    mode: XdpMode,
) -> Result<(), ProbeError> {
    // The program keeps its links, here and below.
    xdp(bpf, name)?
        .attach_to_if_index(index, mode)
        .map(drop)
        .map_err(|error| refused(name, interface, &error))
}

fn attach_classifier(
    bpf: &mut Ebpf,
    name: &'static str,
    interface: &str,
    at: TcAttachType,
) -> Result<SchedClassifierLinkId, ProbeError> {
    // Kernels before 6.6 have a filter on a queueing discipline instead of a link, which a daemon that was killed leaves behind.
    let _ = tc::qdisc_detach_program(interface, at, name);
    let program = classifier(bpf, name)?;
    match program.attach(interface, at) {
        Err(ProgramError::TcError(_)) => {
            // It may be there already.
            let _ = tc::qdisc_add_clsact(interface);
            program.attach(interface, at)
        }
        result => result,
    }
    .map_err(|error| refused(name, interface, &error))
}

fn xdp<'b>(bpf: &'b mut Ebpf, name: &'static str) -> Result<&'b mut Xdp, LoadError> {
    bpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| LoadError::missing_program(name))
}

fn classifier<'b>(bpf: &'b mut Ebpf, name: &'static str) -> Result<&'b mut SchedClassifier, LoadError> {
    bpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| LoadError::missing_program(name))
}

fn refused(program: &'static str, interface: &str, error: &ProgramError) -> ProbeError {
    if matches!(refusal::os_error(error), Some(libc::EBUSY | libc::EEXIST)) {
        return ProbeError::Busy { interface: interface.to_owned() };
    }
    let mut reason = refusal::words(error);
    reason.push_str(&refusal::gates(error));
    ProbeError::Attach { program, interface: interface.to_owned(), reason }
}
