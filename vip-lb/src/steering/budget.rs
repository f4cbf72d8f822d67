//! How much the packet path may record in a tick.
//!
//! Two promises hang on it: an entry of NEWBORN, which evicts, lives several seconds even in a flood, and whatever is in NEWBORN finds
//! room in FLOWS, which does not evict, when its handshake is answered.

/// Ticks that an entry of NEWBORN or SURVIVORS lives at least, while every CPU spends its whole budget.
const LIFE: u32 = 8;

/// Sizes that the budgets follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries that FLOWS takes.
    pub flows: u32,
    /// Entries that NEWBORN takes.
    pub newborn: u32,
    /// Entries that SURVIVORS takes.
    pub survivors: u32,
    /// CPUs that may run the program: the possible ones, as per-CPU maps count them.
    pub cpus: u32,
}

/// Hands out the room in FLOWS, tick by tick.
///
/// It starts with none, so that a restarted daemon grants nothing before it has looked into the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    limits: Limits,
    /// Nodes that share what they record, this one included: the tables of each have room for what all of them do.
    nodes: u32,
    /// Entries of FLOWS that are neither used nor promised.
    room: u32,
    /// What all CPUs may record in the present tick.
    granted: u32,
    /// What all CPUs may have recorded since the last look began.
    unseen: u32,
}

impl Budget {
    /// No room until the first look.
    pub fn new(limits: Limits) -> Self {
        Self { limits, nodes: 1, room: 0, granted: 0, unseen: 0 }
    }

    /// Sets how many nodes share what they record, this one included.
    pub fn share_with(&mut self, nodes: u32) {
        self.nodes = nodes.max(1);
    }

    /// `Settings::record_budget` of the next tick, to be published together with it. 0 when FLOWS has no room.
    ///
    /// Half of the room at most, so that a daemon that looks seldom runs dry gradually.
    pub fn next_tick(&mut self) -> u32 {
        let cpus = self.limits.cpus.max(1);
        let each = (self.limits.newborn / (LIFE * cpus * self.nodes)).min(self.room / (2 * cpus));
        self.granted = each * cpus;
        self.room -= self.granted;
        self.unseen = self.unseen.saturating_add(self.granted);
        each
    }

    /// To be called before NEWBORN and FLOWS are read.
    pub fn begin_look(&mut self) {
        self.unseen = self.granted;
    }

    /// To be called with what was found: entries that remain in FLOWS, and those of NEWBORN that are not in FLOWS but may
    /// still get there.
    pub fn finish_look(&mut self, occupied: usize) {
        let occupied = u32::try_from(occupied).unwrap_or(u32::MAX);
        self.room = self.limits.flows.saturating_sub(occupied).saturating_sub(self.unseen);
    }

    /// Takes room for records that another node made. Tells for how many of them there is some.
    pub fn take(&mut self, wanted: usize) -> usize {
        let taken = self.room.min(u32::try_from(wanted).unwrap_or(u32::MAX));
        self.room -= taken;
        taken as usize
    }

    /// `Settings::survivor_budget`.
    pub fn survivors(&self) -> u32 {
        self.limits.survivors / (LIFE * self.limits.cpus.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { flows: 1000, newborn: 320, survivors: 640, cpus: 4 };

    fn looked(occupied: usize) -> Budget {
        let mut budget = Budget::new(LIMITS);
        budget.begin_look();
        budget.finish_look(occupied);
        budget
    }

    #[test]
    fn nothing_is_granted_before_the_first_look() {
        assert_eq!(Budget::new(LIMITS).next_tick(), 0);
    }

    #[test]
    fn an_entry_of_newborn_lives_eight_ticks_of_full_spending() {
        let each = looked(0).next_tick();
        assert_eq!(each, 10);
        assert!(each * LIMITS.cpus * LIFE <= LIMITS.newborn);
        assert_eq!(looked(0).survivors(), 20);
    }

    #[test]
    fn grants_never_exceed_the_room_however_many_ticks_pass_without_a_look() {
        for occupied in [0, 500, 900, 980, 992, 993, 1000, 5000] {
            let mut budget = looked(occupied);
            let granted: u32 = (0..1000).map(|_| budget.next_tick() * LIMITS.cpus).sum();
            assert!(occupied as u32 + granted <= 1000.max(occupied as u32), "{occupied} and {granted}");
        }
        assert_eq!(looked(993).next_tick(), 0);
        assert_eq!(looked(992).next_tick(), 1);
    }

    #[test]
    fn what_was_recorded_during_a_look_counts_as_used() {
        let mut budget = looked(0);
        budget.next_tick();
        budget.begin_look();
        budget.next_tick();
        budget.finish_look(900);
        // 40 of each of the two ticks may have come after the tables were read.
        assert_eq!(budget.next_tick(), (1000 - 900 - 80) / 8);
    }

    #[test]
    fn nodes_that_share_leave_room_for_each_other() {
        let mut budget = looked(0);
        budget.share_with(2);
        assert_eq!(budget.next_tick(), 5);
    }

    #[test]
    fn records_of_other_nodes_take_no_room_that_is_promised() {
        let mut budget = looked(900);
        let granted = budget.next_tick() * LIMITS.cpus;
        assert_eq!(budget.take(50), 50);
        assert_eq!(budget.take(70), 50 - granted as usize);
        assert_eq!((budget.take(1), budget.next_tick()), (0, 0));
    }

    #[test]
    fn tiny_tables_and_no_cpus_do_not_panic() {
        let mut budget = Budget::new(Limits { flows: 1, newborn: 1, survivors: 1, cpus: 0 });
        budget.finish_look(0);
        assert_eq!((budget.next_tick(), budget.survivors()), (0, 0));
    }
}
