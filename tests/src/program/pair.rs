//! Kernel and host side by side, or the host alone.

use std::collections::HashMap;

use vip_lb_common::{
    abi::{Address, Backend, FlowEntry, FlowKey, Fragment, FragmentKey, Lease, Settings},
    memory::MemoryTables,
};

use super::{Host, Kernel, Outcome, Program, Scenario, Shown, State, XdpAction};
use crate::packet::hexdump_diff;

/// Both instantiations over the same tables. Whatever they do not agree on is a panic.
pub struct Pair {
    kernel: Option<Kernel>,
    host: Host,
}

impl Pair {
    /// Fills the tables of both.
    ///
    /// # Panics
    ///
    /// Where the programs cannot be loaded.
    pub fn new(scenario: &Scenario) -> Self {
        let kernel = Kernel::load(scenario).unwrap_or_else(|error| panic!("{error:#}"));
        Self { kernel: Some(kernel), host: Host::new(scenario) }
    }

    /// The host instantiation alone, which needs no privileges.
    pub fn host_only(scenario: &Scenario) -> Self {
        let mut host = Host::new(scenario);
        // Late enough that something may be older.
        host.tables.seconds = 1000;
        Self { kernel: None, host }
    }

    /// Runs a frame. `taken` bytes of its headroom are in use.
    ///
    /// # Panics
    ///
    /// Where action, verdict or bytes differ.
    #[track_caller]
    pub fn run(&mut self, name: &str, program: Program, frame: &[u8], taken: usize) -> Outcome {
        self.run_where_it_can(name, program, frame, taken)
            .unwrap_or_else(|| panic!("{name}: the kernel has no {taken} bytes of headroom to take"))
    }

    /// As [`Self::run`], but `None` where the kernel takes no so much headroom; then the host does not run the frame either.
    ///
    /// # Panics
    ///
    /// Where action, verdict or bytes differ.
    #[track_caller]
    pub fn run_where_it_can(
        &mut self,
        name: &str,
        program: Program,
        frame: &[u8],
        taken: usize,
    ) -> Option<Outcome> {
        self.compare(program, frame, taken).unwrap_or_else(|difference| panic!("{name}: {difference}"))
    }

    /// Runs a frame. `taken` bytes of its headroom are in use; `None` where the kernel takes no so much.
    ///
    /// # Errors
    ///
    /// In what kernel and host differ: action, verdict or bytes.
    pub fn compare(
        &mut self,
        program: Program,
        frame: &[u8],
        taken: usize,
    ) -> Result<Option<Outcome>, String> {
        self.host.tables.seconds = self.seconds();
        let Some(kernel) = &mut self.kernel else {
            return Ok(Some(self.host.run(program, frame, taken)));
        };
        // Where the kernel may not take it, it goes first. Elsewhere the host does: the kernel's counters are found sooner by its verdict.
        let mut on_host = (taken == 0).then(|| self.host.run(program, frame, taken));
        let expected = on_host.as_ref().map(|outcome| outcome.verdict);
        let outcome = kernel
            .run(program, frame, taken, expected)
            .map_err(|error| format!("{error:#} (the host says {expected:?})"))?;
        let Some(outcome) = outcome else {
            return Ok(None);
        };
        let on_host = on_host.take().unwrap_or_else(|| self.host.run(program, frame, taken));
        if outcome.action == XdpAction::Aborted {
            return Err(format!("the kernel's program aborted (the host says {:?})", on_host.verdict));
        }
        if (outcome.action, outcome.verdict) != (on_host.action, on_host.verdict) {
            return Err(format!(
                "the kernel says {:?} and {:?}, the host {:?} and {:?}",
                outcome.action, outcome.verdict, on_host.action, on_host.verdict
            ));
        }
        match hexdump_diff(&on_host.frame, &outcome.frame) {
            Some(diff) => {
                Err(format!("{:?}: the host's frame (-) and the kernel's (+)\n{diff}", on_host.verdict))
            }
            None => Ok(Some(on_host)),
        }
    }

    /// Takes what was shown since the last time to those who watch.
    ///
    /// # Panics
    ///
    /// Where it cannot be read.
    pub fn shown(&mut self) -> Vec<Shown> {
        let kernel = self.kernel.as_mut().map(Kernel::shown);
        kernel.transpose().unwrap_or_else(|error| panic!("cannot read EVENTS: {error:#}")).unwrap_or_default()
    }

    /// The tables of the host.
    pub fn tables(&self) -> &MemoryTables {
        &self.host.tables
    }

    /// The settings.
    ///
    /// # Panics
    ///
    /// Where there are none.
    pub fn settings(&self) -> Settings {
        self.host.tables.settings.expect("these tables have no settings")
    }

    /// Replaces the settings.
    pub fn set_settings(&mut self, settings: Settings) {
        self.host.tables.settings = Some(settings);
        self.in_kernel(|kernel| kernel.set_settings(settings));
    }

    /// Advances the clock of records, as the daemon does.
    ///
    /// # Panics
    ///
    /// Where there are no settings.
    pub fn set_tick(&mut self, tick: u32) {
        self.set_settings(Settings { tick, ..self.settings() });
    }

    /// Overwrites entries of FLOWS.
    pub fn set_flows(&mut self, flows: &HashMap<FlowKey, FlowEntry>) {
        self.host.tables.flows.borrow_mut().extend(flows);
        self.in_kernel(|kernel| kernel.set_flows(flows));
    }

    /// Overwrites entries of NEWBORN.
    pub fn set_newborn(&mut self, newborn: &HashMap<FlowKey, FlowEntry>) {
        self.host.tables.newborn.borrow_mut().extend(newborn);
        self.in_kernel(|kernel| kernel.set_newborn(newborn));
    }

    /// Changes entries of BACKENDS.
    pub fn set_backends(&mut self, change: impl FnOnce(&mut HashMap<u16, Backend>)) {
        change(&mut self.host.tables.backends);
        let backends = self.host.tables.backends.clone();
        self.in_kernel(|kernel| kernel.set_backends(&backends));
    }

    /// Whether there is no kernel to compare with: a packet costs next to nothing.
    pub fn is_host_only(&self) -> bool {
        self.kernel.is_none()
    }

    /// Overwrites entries of FRAGMENTS, as if their first fragments had come by `age` seconds ago.
    pub fn set_fragments(&mut self, fragments: &HashMap<FragmentKey, Fragment>, age: u32) {
        let seen = self.seconds().wrapping_sub(age);
        let fragments: HashMap<_, _> =
            fragments.iter().map(|(&key, &fragment)| (key, Fragment { seen, ..fragment })).collect();
        self.host.tables.fragments.borrow_mut().extend(&fragments);
        self.in_kernel(|kernel| kernel.set_fragments(&fragments));
    }

    /// Overwrites entries of OWNERS: leases that end `seconds` from now, or ended so long ago.
    pub fn set_leases(&mut self, vips: &[Address], seconds: i64) {
        let until = (i64::from(self.seconds()) + seconds).max(0) as u64 * 1_000_000_000;
        let leases: HashMap<_, _> = vips.iter().map(|&vip| (vip, Lease { until })).collect();
        self.host.tables.leases.extend(&leases);
        self.in_kernel(|kernel| kernel.set_leases(&leases));
    }

    /// The clock of both: the kernel's, where it has a part.
    pub fn seconds(&self) -> u32 {
        if self.kernel.is_some() { monotonic_seconds() } else { self.host.tables.seconds }
    }

    /// What the programs wrote.
    pub fn state(&self) -> State {
        self.host.state()
    }

    /// Compares what both wrote: counters, flows, marks of slots.
    ///
    /// # Panics
    ///
    /// Where it differs.
    #[track_caller]
    pub fn compare_tables(&self, name: &str) {
        if let Some(state) = self.kernel_state() {
            state.assert_same(&self.state(), name);
        }
    }

    /// The same, SAMPLES excepted: whose a place is depends on the clock where packets come for more than a second.
    ///
    /// # Panics
    ///
    /// Where it differs.
    #[track_caller]
    pub fn compare_timeless_tables(&self, name: &str) {
        if let Some(state) = self.kernel_state() {
            let samples = state.samples.clone();
            state.assert_same(&State { samples, ..self.state() }, name);
        }
    }

    fn kernel_state(&self) -> Option<State> {
        let read = |kernel: &Kernel| {
            kernel.state().unwrap_or_else(|error| panic!("cannot read the maps: {error:#}"))
        };
        self.kernel.as_ref().map(read)
    }

    fn in_kernel(&mut self, write: impl FnOnce(&mut Kernel) -> anyhow::Result<()>) {
        if let Some(kernel) = &mut self.kernel {
            write(kernel).unwrap_or_else(|error| panic!("cannot write a map: {error:#}"));
        }
    }
}

/// The clock of the kernel program.
fn monotonic_seconds() -> u32 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one value that lives here.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    assert_eq!(result, 0, "CLOCK_MONOTONIC is there on every Linux");
    now.tv_sec as u32
}
