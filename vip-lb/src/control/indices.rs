//! Numbers for things that live in arrays.

use vip_lb_common::abi::{BackendRef, MAX_BACKENDS, MAX_SERVICES};

/// Indices of BACKENDS with their generations.
///
/// A generation is never used twice for one index (until 65535 are spent), so nothing that was recorded for a former owner can
/// refer to a later one.
#[derive(Clone, Debug)]
pub struct BackendIndices {
    generations: Vec<u16>,
    used: Vec<bool>,
    next: usize,
    /// Freed since [`BackendIndices::return_freed`].
    freed: Vec<u16>,
}

impl Default for BackendIndices {
    fn default() -> Self {
        Self {
            generations: vec![0; MAX_BACKENDS],
            used: vec![false; MAX_BACKENDS],
            next: 1,
            freed: Vec::new(),
        }
    }
}

impl BackendIndices {
    /// Takes note of an index found in the map.
    pub fn adopt(&mut self, index: u16, generation: u16, used: bool) {
        self.generations[usize::from(index)] = generation;
        self.used[usize::from(index)] = used;
    }

    /// A free index with a new generation; none if all are used.
    ///
    /// Indices are given out in turn, so that one that was freed rests as long as possible.
    pub fn allocate(&mut self) -> Option<BackendRef> {
        let count = self.used.len();
        let index =
            (0..count).map(|step| (self.next + step) % count).find(|&at| at != 0 && !self.used[at])?;
        self.next = index + 1;
        self.used[index] = true;
        Some(self.renew(index as u16))
    }

    /// The next generation of an index: all references to it so far are void.
    pub fn renew(&mut self, index: u16) -> BackendRef {
        let generation = &mut self.generations[usize::from(index)];
        // 0 marks an entry that never had an owner.
        *generation = generation.checked_add(1).unwrap_or(1);
        BackendRef { index, generation: *generation }
    }

    /// Gives an index back, after the plan that is being made: in it, whatever frees the entry comes late.
    pub fn free(&mut self, index: u16) {
        self.freed.push(index);
    }

    /// Begins a plan: what was freed in former ones may be given out.
    pub fn return_freed(&mut self) {
        for index in self.freed.drain(..) {
            self.used[usize::from(index)] = false;
        }
    }
}

/// Numbers of services and of VIPs: any that is free.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    used: std::collections::BTreeSet<u16>,
}

impl Numbers {
    /// Takes a certain number. False if it is taken.
    pub fn take(&mut self, number: u16) -> bool {
        self.used.insert(number)
    }

    /// Takes the smallest free number; none if all are used.
    pub fn allocate(&mut self) -> Option<u16> {
        let first_free = self.used.iter().zip(0..).take_while(|&(&used, number)| used == number).count();
        let number = u16::try_from(first_free).ok().filter(|_| first_free < MAX_SERVICES)?;
        self.used.insert(number);
        Some(number)
    }

    /// Gives a number back.
    pub fn free(&mut self, number: u16) {
        self.used.remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_never_returns_with_its_old_generation() {
        let mut indices = BackendIndices::default();
        let first = indices.allocate().unwrap();
        let second = indices.allocate().unwrap();
        assert_ne!((first.index, 0), (second.index, first.index));
        indices.free(first.index);
        indices.return_freed();
        let others: Vec<_> = std::iter::from_fn(|| indices.allocate()).collect();
        assert_eq!(others.len(), MAX_BACKENDS - 2, "all but 0 and the second one");
        let again = others.iter().find(|other| other.index == first.index).unwrap();
        assert!(again.generation > first.generation);
        assert_eq!(others.last().unwrap().index, first.index, "it rests as long as possible");
    }

    #[test]
    fn adopted_indices_are_not_given_away_and_their_generations_go_on() {
        let mut indices = BackendIndices::default();
        indices.adopt(1, 7, true);
        indices.adopt(2, 9, false);
        assert_eq!(indices.allocate(), Some(BackendRef { index: 2, generation: 10 }));
    }

    #[test]
    fn numbers_come_back() {
        let mut numbers = Numbers::default();
        assert!(numbers.take(0));
        assert_eq!((numbers.allocate(), numbers.allocate()), (Some(1), Some(2)));
        numbers.free(1);
        assert_eq!(numbers.allocate(), Some(1));
        assert!(!numbers.take(0));
    }
}
