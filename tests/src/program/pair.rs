//! Kernel and host side by side, or the host alone.

use std::collections::HashMap;

use vip_lb_common::abi::{FlowEntry, FlowKey, Settings};

use super::{Host, Kernel, Outcome, Program, Scenario, State, XdpAction};
use crate::packet::assert_same_bytes;

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
        Self { kernel: None, host: Host::new(scenario) }
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
        let in_kernel = match &mut self.kernel {
            None => None,
            Some(kernel) => {
                let outcome = kernel.run(program, frame, taken);
                Some(outcome.unwrap_or_else(|error| panic!("{name}: {error:#}"))?)
            }
        };
        let on_host = self.host.run(program, frame, taken);
        if let Some(outcome) = in_kernel {
            assert_ne!(outcome.action, XdpAction::Aborted, "{name}: {frame:02x?}");
            assert_eq!(
                (outcome.action, outcome.verdict),
                (on_host.action, on_host.verdict),
                "{name}: the kernel (left) differs from the host on {frame:02x?}"
            );
            assert_same_bytes(name, &on_host.frame, &outcome.frame);
        }
        Some(on_host)
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
        if let Some(kernel) = &self.kernel {
            let state = kernel.state().unwrap_or_else(|error| panic!("cannot read the maps: {error:#}"));
            state.assert_same(&self.state(), name);
        }
    }

    fn in_kernel(&mut self, write: impl FnOnce(&mut Kernel) -> anyhow::Result<()>) {
        if let Some(kernel) = &mut self.kernel {
            write(kernel).unwrap_or_else(|error| panic!("cannot write a map: {error:#}"));
        }
    }
}
