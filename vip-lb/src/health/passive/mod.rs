//! Failures noticed from the traffic itself: from what the packet path notes of sampled flows to suspicions.
//!
//! A suspicion removes nobody. It says where to look at once, and the probes decide. `judge` and `chance` weigh the
//! evidence, `ledger` keeps what is known of each backend, [`sampling`] decides how many flows are looked at.

mod chance;
mod judge;
mod ledger;
pub mod sampling;

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vip_lb_common::abi::{Address, BackendRef, Sample, SampleState};

use self::{
    judge::{Asked, Finding},
    ledger::Hold,
};

pub use ledger::{Account, Histogram};

/// The names of a service and one of its backends.
pub type Names = (String, String);

/// Who is who in the samples of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The service's name.
    pub name: String,
    /// Its backends.
    pub backends: Vec<(BackendRef, String)>,
}

/// What is asked of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// A SYN, which the first acknowledgement after it shows to be answered.
    Handshake,
    /// Data, which an acknowledgement of something new shows to be answered.
    Data,
}

impl Question {
    /// How long a probe that looks after it is given at least. Kernels answer SYNs, and at once; data waits for a process, which may pause without being
    /// dead.
    #[must_use]
    pub const fn least_timeout(self) -> Duration {
        match self {
            Self::Handshake => Duration::from_millis(50),
            Self::Data => Duration::from_millis(500),
        }
    }
}

/// A backend that seems not to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// The service and the backend.
    pub names: Names,
    /// What it does not answer.
    pub question: Question,
    /// How many of these in a row, among the sampled ones.
    pub unanswered: u32,
    /// Client networks (/24 of IPv4, /48 of IPv6) that these came from.
    pub networks: u32,
    /// How many of them came again.
    pub again: u32,
    /// Since when it does not answer.
    pub oldest: Duration,
    /// The same question to other backends of the service in that time.
    pub others: u32,
    /// How many of those were answered.
    pub others_answered: u32,
}

/// Questions are given this many nanoseconds at least: a SYN, and data.
const PATIENCE: (u64, u64) = (20_000_000, 100_000_000);

/// And this many times as long as the backend usually takes longer than the others of its service.
const SLOWER: u64 = 3;

/// Data that nothing has followed for this long, in nanoseconds, is counted as met with silence.
const SILENCE: u64 = 1_000_000_000;

/// What is known of the backends that are watched.
#[derive(Debug, Default)]
pub struct Passive {
    /// Services by their numbers here.
    services: Vec<Vec<usize>>,
    parties: Vec<Party>,
    /// Generation and party of the backends of the packet path, by index.
    by_index: Vec<Option<(u16, usize)>>,
    before: Vec<Sample>,
    last_look: u64,
    last_change: u64,
}

#[derive(Debug)]
struct Party {
    names: Names,
    service: usize,
    account: Account,
    holds: [Hold; 2],
}

impl Passive {
    /// Sets who is watched. What is known of a backend stays as long as its name does.
    pub fn set(&mut self, watched: &[Watched]) {
        let mut known: BTreeMap<Names, Party> =
            std::mem::take(&mut self.parties).into_iter().map(|party| (party.names.clone(), party)).collect();
        self.services = vec![Vec::new(); watched.len()];
        self.by_index.clear();
        for (service, Watched { name, backends, .. }) in watched.iter().enumerate() {
            for (reference, backend) in backends {
                let names = (name.clone(), backend.clone());
                let party = match known.remove(&names) {
                    Some(party) => Party { service, ..party },
                    None => {
                        Party { names, service, account: Account::default(), holds: [Hold::default(); 2] }
                    }
                };
                let (number, index) = (self.parties.len(), usize::from(reference.index));
                if self.by_index.len() <= index {
                    self.by_index.resize(index + 1, None);
                }
                self.by_index[index] = Some((reference.generation, number));
                self.services[service].push(number);
                self.parties.push(party);
            }
        }
    }

    /// Whether anybody is watched.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.parties.is_empty()
    }

    /// How many nanoseconds ago a look found something new.
    #[must_use]
    pub fn quiet_for(&self) -> u64 {
        self.last_look.saturating_sub(self.last_change)
    }

    /// Looks at all places of SAMPLES at `now`, in nanoseconds of the clock that they are stamped with.
    pub fn look(&mut self, samples: &[Sample], now: u64) -> Vec<Suspicion> {
        self.before.resize(samples.len(), Sample::default());
        let begin = now.saturating_sub(judge::WINDOW);
        let silent_since = self.last_look.saturating_sub(SILENCE)..now.saturating_sub(SILENCE);
        let mut handshakes: Vec<Vec<Asked>> = vec![Vec::new(); self.services.len()];
        let mut data = handshakes.clone();
        for (place, sample) in samples.iter().enumerate() {
            let Some(party) = self.party(sample.backend) else { continue };
            let before = std::mem::replace(&mut self.before[place], *sample);
            if before != *sample {
                self.last_change = now;
                self.parties[party].account.note(&before, sample);
            }
            let state = SampleState::from_u8(sample.state);
            if state == SampleState::Asked && silent_since.contains(&sample.asked) {
                self.parties[party].account.silent += 1;
            }
            let service = self.parties[party].service;
            let asked =
                |at, answered, again| Asked { party, at, answered, again, network: network(&sample.source) };
            if sample.begun >= begin && (state == SampleState::Handshake || sample.shaken_after != 0) {
                handshakes[service].push(asked(sample.begun, sample.shaken_after != 0, sample.syn_again));
            }
            if sample.asked >= begin && (state == SampleState::Asked || sample.answered_after != 0) {
                data[service].push(asked(sample.asked, sample.answered_after != 0, sample.data_again));
            }
        }
        self.last_look = now;
        let mut suspicions = Vec::new();
        for (question, asked) in [(Question::Handshake, handshakes), (Question::Data, data)] {
            for asked in asked {
                let found = judge::find(&asked, now, |party| self.patience(party, question));
                suspicions.extend(found.into_iter().filter_map(|found| self.suspect(question, &found, now)));
            }
        }
        suspicions
    }

    /// What is known of each backend.
    pub fn accounts(&self) -> impl Iterator<Item = (&Names, &Account)> {
        self.parties.iter().map(|party| (&party.names, &party.account))
    }

    fn party(&self, reference: BackendRef) -> Option<usize> {
        let (generation, party) = (*self.by_index.get(usize::from(reference.index))?)?;
        (generation == reference.generation).then_some(party)
    }

    /// How long a question to this backend is given.
    fn patience(&self, party: usize, question: Question) -> u64 {
        let usual = |account: &Account| match question {
            Question::Handshake => account.recent_handshakes.median(),
            Question::Data => account.recent_answers.median(),
        };
        let least = match question {
            Question::Handshake => PATIENCE.0,
            Question::Data => PATIENCE.1,
        };
        let others = self.services[self.parties[party].service].iter().filter(|other| **other != party);
        let mut others: Vec<u64> = others.filter_map(|other| usual(&self.parties[*other].account)).collect();
        others.sort_unstable();
        let middle = others.get(others.len() / 2).copied().unwrap_or(0);
        let own = usual(&self.parties[party].account).unwrap_or(0);
        least + SLOWER * 1000 * own.saturating_sub(middle)
    }

    /// The suspicion, unless there was one of this backend not long ago.
    fn suspect(&mut self, question: Question, found: &Finding, now: u64) -> Option<Suspicion> {
        let party = &mut self.parties[found.party];
        if !party.holds[question as usize].admits(now, found.unanswered) {
            return None;
        }
        party.account.suspicions += 1;
        Some(Suspicion {
            names: party.names.clone(),
            question,
            unanswered: found.unanswered,
            networks: found.networks,
            again: found.again,
            oldest: Duration::from_nanos(found.oldest),
            others: found.others,
            others_answered: found.others_answered,
        })
    }
}

/// The network that a client is in: /24 of IPv4, /48 of IPv6.
fn network(client: &Address) -> u64 {
    const V4: u64 = 1 << 63;
    let [first, second, _, last] = client.words().map(u32::from_be);
    if client.is_v4() { V4 | u64::from(last >> 8) } else { u64::from(first) << 16 | u64::from(second >> 16) }
}

#[cfg(test)]
mod tests;
