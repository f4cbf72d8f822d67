//! The loaded programs, run by BPF_PROG_TEST_RUN.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use aya::{
    Ebpf, EbpfLoader,
    programs::{ProgramError, TestRun as _, TestRunOptions, Xdp},
};
use vip_lb_common::{
    Verdict,
    abi::{Address, Backend, FlowEntry, FlowKey, Fragment, FragmentKey, Lease, Settings},
};

use super::{
    Outcome, Program, Scenario, State, XdpAction,
    maps::{Maps, Shown},
    object::object,
};

/// Fewest bytes of a frame that BPF_PROG_TEST_RUN takes: an Ethernet header.
pub const SHORTEST_FRAME: usize = 14;
/// More bytes than any frame comes out with.
const LARGEST_OUTPUT: usize = 16_384;

/// Bytes of metadata that every kernel takes.
const ALWAYS_TAKEN: usize = 32;

/// What the verifier said to a program.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// Instructions it walked, over all paths.
    pub verified_instructions: u32,
    /// Bytes of the program as the kernel runs it.
    pub translated_bytes: u32,
}

/// Loads both programs with empty maps.
///
/// # Errors
///
/// Where the object is not to be had or the kernel refuses it, with the verifier's log.
pub fn load() -> anyhow::Result<[(Program, Loaded); 2]> {
    let mut ebpf = make_maps(&mut EbpfLoader::new())?;
    let mut loaded = |program| -> anyhow::Result<_> {
        let info = xdp(&mut ebpf, program)?.info()?;
        Ok((
            program,
            Loaded {
                verified_instructions: info
                    .verified_instruction_count()
                    .context("this kernel does not tell verified instructions, which needs Linux 5.16")?,
                translated_bytes: info.size_translated().unwrap_or_default(),
            },
        ))
    };
    Ok([loaded(Program::Balancer)?, loaded(Program::Decapsulator)?])
}

/// Kernels that no test uses any more, with what their maps were filled with. Loading the programs anew takes the verifier most of a
/// test's time, minutes of all of them on an emulated processor.
static IDLE: Mutex<Vec<(Programs, Scenario)>> = Mutex::new(Vec::new());

/// Both programs over one set of maps.
pub struct Kernel {
    /// Taken when dropped.
    used: Option<(Programs, Scenario)>,
    counted: Vec<u64>,
}

struct Programs {
    ebpf: Ebpf,
    maps: Maps,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).extend(self.used.take());
    }
}

impl Kernel {
    /// Loads the programs, or takes some that were loaded before, and fills their maps. The calling thread keeps to its CPU from here
    /// on, because budgets are per CPU.
    ///
    /// # Errors
    ///
    /// Where the object is not to be had, or the kernel refuses a program or a map.
    pub fn load(scenario: &Scenario) -> anyhow::Result<Self> {
        stay_on_this_cpu()?;
        let mut programs = match idle(scenario) {
            Some((mut programs, before)) => {
                programs.maps.clear(&before).context("cannot empty the maps")?;
                programs
            }
            None => Programs::load(scenario)?,
        };
        programs.maps.fill(scenario).context("cannot fill the maps")?;
        Ok(Self { used: Some((programs, scenario.clone())), counted: vec![0; Verdict::COUNTERS] })
    }

    fn programs(&mut self) -> &mut Programs {
        &mut self.used.as_mut().expect("it is there until it is dropped").0
    }

    fn maps(&self) -> &Maps {
        &self.used.as_ref().expect("it is there until it is dropped").0.maps
    }

    /// Runs a frame of at least [`SHORTEST_FRAME`] bytes. `taken` bytes of its headroom are in use, a multiple of 4 below 256. `None`
    /// if this kernel takes no so much: 6.1 has at most 32 bytes of metadata, by which headroom is taken here.
    /// `expected` is the verdict whose counter is looked at first.
    ///
    /// # Errors
    ///
    /// Where the kernel does not run it, or the program did not count exactly one verdict for it.
    pub fn run(
        &mut self,
        program: Program,
        frame: &[u8],
        taken: usize,
        expected: Option<Verdict>,
    ) -> anyhow::Result<Option<Outcome>> {
        // What is in use of the headroom is metadata, which lies in front of the frame.
        let input = [&vec![0; taken][..], frame].concat();
        let context = xdp_context(taken as u32, input.len() as u32);
        let mut output = vec![0; LARGEST_OUTPUT];
        let result = xdp(&mut self.programs().ebpf, program)?.test_run(TestRunOptions {
            data_in: Some(&input),
            data_out: Some(&mut output),
            ctx_in: (taken != 0).then_some(&context),
            ..TestRunOptions::new()
        });
        let result = match result {
            Err(error) if taken > ALWAYS_TAKEN && is_invalid_argument(&error) => return Ok(None),
            result => result.context("the kernel does not run this frame")?,
        };
        output.truncate(result.data_size_out as usize);
        let verdict = self.counted_verdict(expected)?;
        Ok(Some(Outcome {
            action: XdpAction::from_return_value(result.return_value),
            verdict,
            frame: output.split_off(taken),
        }))
    }

    /// Replaces the settings, as the daemon does to advance the tick.
    ///
    /// # Errors
    ///
    /// Those of bpf(2).
    pub fn set_settings(&mut self, settings: Settings) -> anyhow::Result<()> {
        self.programs().maps.set_settings(settings)
    }

    /// Overwrites entries of FLOWS.
    ///
    /// # Errors
    ///
    /// Those of bpf(2).
    pub fn set_flows(&mut self, flows: &HashMap<FlowKey, FlowEntry>) -> anyhow::Result<()> {
        self.programs().maps.set_flows(flows)
    }

    /// Overwrites entries of NEWBORN.
    ///
    /// # Errors
    ///
    /// Those of bpf(2).
    pub fn set_newborn(&mut self, newborn: &HashMap<FlowKey, FlowEntry>) -> anyhow::Result<()> {
        self.programs().maps.set_newborn(newborn)
    }

    /// Overwrites entries of BACKENDS.
    ///
    /// # Errors
    ///
    /// Those of bpf(2).
    pub fn set_backends(&mut self, backends: &HashMap<u16, Backend>) -> anyhow::Result<()> {
        self.programs().maps.set_backends(backends)
    }

    /// Overwrites entries of FRAGMENTS.
    ///
    /// # Errors
    ///
    /// Those of bpf(2).
    pub fn set_fragments(&mut self, fragments: &HashMap<FragmentKey, Fragment>) -> anyhow::Result<()> {
        self.programs().maps.set_fragments(fragments)
    }

    /// Overwrites entries of OWNERS.
    pub fn set_leases(&mut self, leases: &HashMap<Address, Lease>) -> anyhow::Result<()> {
        self.programs().maps.set_leases(leases)
    }

    /// Takes out of EVENTS what was shown since the last time.
    ///
    /// # Errors
    ///
    /// An event that is not as it should be.
    pub fn shown(&mut self) -> anyhow::Result<Vec<Shown>> {
        self.programs().maps.shown()
    }

    /// What was counted for who watches: packets asked for, shown, and missed.
    ///
    /// # Errors
    ///
    /// Those of bpf(2).
    pub fn watch_count(&self, index: u32) -> anyhow::Result<[u64; 3]> {
        self.maps().watch_count(index)
    }

    /// What the programs wrote.
    ///
    /// # Errors
    ///
    /// Those of bpf(2).
    pub fn state(&self) -> anyhow::Result<State> {
        self.maps().state()
    }

    /// The verdict whose counter is one more than it was. Where that is the expected one the others are not read, which would be a system
    /// call each; a program that counted two would be told from the host by the counters of their [`State`]s.
    fn counted_verdict(&mut self, expected: Option<Verdict>) -> anyhow::Result<Verdict> {
        if let Some(verdict) = expected {
            let count = self.maps().verdict(verdict as u32)?;
            let counted = &mut self.counted[verdict as usize];
            if count == *counted + 1 {
                *counted = count;
                return Ok(verdict);
            }
        }
        let mut verdicts = Vec::new();
        for number in 0..Verdict::COUNTERS as u32 {
            let count = self.maps().verdict(number)?;
            let counted = std::mem::replace(&mut self.counted[number as usize], count);
            verdicts.extend((counted..count).map(|_| number));
        }
        let [number] = verdicts[..] else {
            anyhow::bail!("the verdicts {verdicts:?} were counted for one frame");
        };
        Verdict::from_number(number).with_context(|| format!("counter {number} of VERDICTS has no meaning"))
    }
}

impl Programs {
    fn load(scenario: &Scenario) -> anyhow::Result<Self> {
        let mut loader = EbpfLoader::new();
        if let Some(entries) = scenario.flows_capacity {
            loader.map_max_entries("FLOWS", entries);
        }
        if let Some(entries) = scenario.nat_capacity {
            loader.map_max_entries("NAT_FLOWS", entries).map_max_entries("NAT_REPLIES", entries);
        }
        if let Some(entries) = scenario.lru_capacity {
            for name in ["NEWBORN", "SURVIVORS", "FRAGMENTS"] {
                loader.map_max_entries(name, entries);
            }
        }
        let mut ebpf = make_maps(&mut loader)?;
        xdp(&mut ebpf, Program::Balancer)?;
        xdp(&mut ebpf, Program::Decapsulator)?;
        let maps = Maps::of(&mut ebpf)?;
        Ok(Self { ebpf, maps })
    }
}

/// Programs whose maps are as large, and have no ring that these tables have not: none can be taken out.
fn idle(scenario: &Scenario) -> Option<(Programs, Scenario)> {
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let index = idle.iter().position(|(_, before)| {
        before.flows_capacity == scenario.flows_capacity
            && before.nat_capacity == scenario.nat_capacity
            && before.lru_capacity == scenario.lru_capacity
            && before.rings.keys().all(|service| scenario.rings.contains_key(service))
    })?;
    Some(idle.swap_remove(index))
}

fn is_invalid_argument(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EINVAL))
}

/// `struct xdp_md` (linux/bpf.h): data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
fn xdp_context(data: u32, data_end: u32) -> Vec<u8> {
    [data, data_end, 0, 0, 0, 0].map(u32::to_ne_bytes).concat()
}

fn make_maps(loader: &mut EbpfLoader<'_>) -> anyhow::Result<Ebpf> {
    loader
        .load(&object()?)
        .context("cannot make the maps of the programs, which needs root (CAP_BPF and CAP_NET_ADMIN)")
}

fn xdp(ebpf: &mut Ebpf, program: Program) -> anyhow::Result<&mut Xdp> {
    let name = match program {
        Program::Balancer => "vip_lb",
        Program::Decapsulator => "vip_lb_decap",
    };
    let xdp: &mut Xdp =
        ebpf.program_mut(name).with_context(|| format!("the object has no program {name}"))?.try_into()?;
    if xdp.fd().is_err() {
        xdp.load().with_context(|| format!("cannot load {name}"))?;
    }
    Ok(xdp)
}

fn stay_on_this_cpu() -> anyhow::Result<()> {
    // SAFETY: plain system calls on a set that lives here; all zeros is an empty set.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let cpu = libc::sched_getcpu().max(0) as usize;
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("cannot keep to one CPU") }
}
