//! How many flows of a service are looked at closely: as many as cost little, so all of them where they are few.

/// New connections that are looked at in a second, at most: with more of them nothing is noticed sooner.
const CONNECTIONS: f64 = 2000.0;

/// Packets of flows that are looked at in a second, at most. Each costs about as much as two or three others.
const PACKETS: f64 = 20_000.0;

/// What a daemon begins with that knows nothing of the traffic.
pub const AT_FIRST: u32 = 64;

/// The most sparing.
const SPARSEST: u32 = 4096;

/// One of how many flows is to be looked at, where one of `before` was; powers of four, as packets are asked
/// ([`ServiceRef::sampling`](vip_lb_common::abi::ServiceRef::sampling)).
///
/// Sparser at once where there is more than wanted; denser only where that would leave room for twice as much, so that it does not go
/// back and forth.
#[must_use]
pub fn one_of(before: u32, connections_per_second: f64, packets_per_second: f64) -> u32 {
    let load = (connections_per_second / CONNECTIONS).max(packets_per_second / PACKETS);
    let mut one_of = before.clamp(1, SPARSEST);
    while one_of < SPARSEST && load > f64::from(one_of) {
        one_of *= 4;
    }
    while one_of > 1 && 2.0 * load <= f64::from(one_of / 4) {
        one_of /= 4;
    }
    one_of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_flows_are_looked_at_where_they_are_few() {
        assert_eq!(one_of(AT_FIRST, 0.0, 0.0), 1);
        assert_eq!(one_of(AT_FIRST, 900.0, 9_000.0), 1);
    }

    #[test]
    fn floods_and_bulk_make_it_sparse_at_once() {
        assert_eq!(one_of(1, 100_000.0, 100_000.0), 64);
        assert_eq!(one_of(1, 1.0, 1_000_000.0), 64);
        assert_eq!(one_of(1, 1e9, 1e9), 4096, "sparser than which it never is");
    }

    #[test]
    fn it_does_not_go_back_and_forth() {
        // At the edge, a little more and a little less.
        let sparse = one_of(1, 2050.0, 0.0);
        assert_eq!(sparse, 4);
        assert_eq!(one_of(sparse, 1950.0, 0.0), 4);
        assert_eq!(one_of(sparse, 990.0, 0.0), 1);
    }
}
