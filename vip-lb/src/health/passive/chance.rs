//! How likely it is by chance that one backend alone gives no answers.

/// Natural logarithm of the probability that, of `own + others` questions of which `answered` were answered, none of those falls on the `own`
/// ones, if chance decides which are answered (Fisher's exact test, one-sided).
///
/// Nothing is assumed of how many are answered at all, or how quickly: whatever clients, networks and floods do to all questions alike
/// cancels out. `answered` is at most `others`.
#[must_use]
pub(super) fn of_no_answer(own: u32, others: u32, answered: u32) -> f64 {
    let all = own + others;
    (0..answered.min(others)).map(|taken| (f64::from(others - taken) / f64::from(all - taken)).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_share_of_ways_to_answer_that_leave_these_out() {
        let close = |found: f64, expected: f64| assert!((found.exp() - expected).abs() < 1e-12, "{found}");
        // One answer among three questions, one of them its own.
        close(of_no_answer(1, 2, 1), 2.0 / 3.0);
        // Three of nine unanswered, all of them its own: one way in 84.
        close(of_no_answer(3, 6, 6), 1.0 / 84.0);
        close(of_no_answer(5, 0, 0), 1.0);
        close(of_no_answer(5, 100, 0), 1.0);
        close(of_no_answer(0, 100, 100), 1.0);
    }

    #[test]
    fn a_flood_that_nobody_answers_adds_nothing() {
        // A third of all is the backend's: each answer elsewhere counts as with that share, however many are not answered.
        let quiet = of_no_answer(50_000, 100_000, 10);
        assert!((quiet - 10.0 * (2.0_f64 / 3.0).ln()).abs() < 0.01, "{quiet}");
    }
}
