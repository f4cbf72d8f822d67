//! Which backends give no answers while others of their service do: pure.
//!
//! The packet path sees questions: a SYN is one, data is another. What the client acknowledges later shows that it was answered. Of each backend
//! those questions count that came after the last one that it answered, and they are held against the questions that
//! the other backends of the service got in the same time. If answers are spread by chance, how likely is it that it alone got none?
//! So whatever meets all backends alike explains itself: clients that are far away, a network that loses packets, a flood of SYNs that nobody
//! meant.

use std::collections::{HashMap, HashSet};

use super::chance;

/// Questions are looked at for this long, in nanoseconds. Longer than a place in SAMPLES is kept.
pub(super) const WINDOW: u64 = 3_000_000_000;

/// Unanswered questions that are worth a thought.
const FEWEST: u32 = 3;

/// Natural logarithm of one in a hundred thousand. By chance, then, a backend that answers a thousand questions in a second, amid a flood, is
/// suspected about once in two minutes; that costs some probes.
const UNLIKELY: f64 = -11.5;

/// Natural logarithm of what one question more says that was asked again in vain, where nobody asks the other backends twice: of packets that
/// are lost by chance, fewer than one in twenty are.
const AGAIN: f64 = -3.0;

/// One question to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The backend.
    pub(super) party: usize,
    /// When, in nanoseconds.
    pub(super) at: u64,
    /// Whether the client showed that it was answered.
    pub(super) answered: bool,
    /// How often it was asked again.
    pub(super) again: u8,
    /// The network that the client is in.
    pub(super) network: u64,
}

/// A backend that seems not to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) party: usize,
    /// Its questions in a row without an answer.
    pub(super) unanswered: u32,
    /// Networks that these came from.
    pub(super) networks: u32,
    /// How many of them were asked again.
    pub(super) again: u32,
    /// Nanoseconds since the first of them.
    pub(super) oldest: u64,
    /// Questions to the other backends in that time.
    pub(super) others: u32,
    /// How many of those were answered.
    pub(super) others_answered: u32,
}

/// The backends of one service that seem not to answer. `patience` says how many nanoseconds a question to a backend is given, whoever it was put to.
pub(super) fn find(asked: &[Asked], now: u64, patience: impl Fn(usize) -> u64) -> Vec<Finding> {
    let begin = now.saturating_sub(WINDOW);
    let mut answered_at: HashMap<usize, u64> = HashMap::new();
    for asked in asked.iter().filter(|asked| asked.answered) {
        let newest = answered_at.entry(asked.party).or_insert(asked.at);
        *newest = asked.at.max(*newest);
    }
    let mut waiting: HashMap<usize, u32> = HashMap::new();
    let is_since = |asked: &Asked| {
        !asked.answered && asked.at >= begin && answered_at.get(&asked.party).is_none_or(|at| asked.at > *at)
    };
    for asked in asked.iter().filter(|asked| is_since(asked)) {
        *waiting.entry(asked.party).or_default() += 1;
    }
    waiting.retain(|_, count| *count >= FEWEST);
    if waiting.is_empty() {
        return Vec::new();
    }
    // Clients that somebody answers. One that nobody answers may be at fault itself, and counts once however often it asks.
    let served: HashSet<u64> =
        asked.iter().filter(|asked| asked.answered).map(|asked| asked.network).collect();
    let mut parties: Vec<usize> = waiting.into_keys().collect();
    parties.sort_unstable();
    let judge = |party| {
        let until = now.saturating_sub(patience(party));
        let own: Vec<&Asked> = asked
            .iter()
            .filter(|asked| asked.party == party && asked.at <= until && is_since(asked))
            .collect();
        let first = own.iter().map(|asked| asked.at).min()?;
        let networks: HashSet<u64> = own.iter().map(|asked| asked.network).collect();
        let of_served = own.iter().filter(|asked| served.contains(&asked.network)).count();
        let of_unserved = networks.iter().filter(|network| !served.contains(network)).count();
        let weight = u32::try_from(of_served + of_unserved).unwrap_or(u32::MAX);
        if weight < FEWEST {
            return None;
        }
        let others = asked.iter().filter(|asked| asked.party != party && (first..=until).contains(&asked.at));
        let (mut all, mut answered, mut others_again) = (0, 0, false);
        for asked in others {
            all += 1;
            answered += u32::from(asked.answered);
            others_again |= asked.again > 0;
        }
        let again = own.iter().filter(|asked| asked.again > 0).count() as u32;
        let mut chance = chance::of_no_answer(weight, all, answered);
        if answered > 0 && !others_again {
            chance += AGAIN * f64::from(again);
        }
        (chance <= UNLIKELY).then(|| Finding {
            party,
            unanswered: own.len() as u32,
            networks: networks.len() as u32,
            again,
            oldest: now - first,
            others: all,
            others_answered: answered,
        })
    };
    parties.into_iter().filter_map(judge).collect()
}

#[cfg(test)]
mod tests;
