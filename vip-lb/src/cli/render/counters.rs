//! The counters as a table.

use super::{
    Style,
    table::{Align, Table},
};
use crate::api::model::{Action, Counters};

/// Verdicts with their packets; those that no packet met only with `all`.
pub(in crate::cli) fn counters(counters: &Counters, all: bool) -> String {
    let shown: Vec<_> = counters.verdicts.iter().filter(|count| all || count.packets > 0).collect();
    if shown.is_empty() {
        return "no packet has been seen\n".to_owned();
    }
    let mut table = Table::new([
        ("VERDICT", Align::Left),
        ("PACKETS", Align::Right),
        ("ACTION", Align::Left),
        ("MEANING", Align::Left),
    ]);
    for count in shown {
        table.row([
            count.verdict.name.as_str().into(),
            count.packets.to_string().into(),
            action(count.verdict.action).into(),
            count.verdict.meaning.as_str().into(),
        ]);
    }
    table.render("", Style::Plain)
}

pub(super) fn action(action: Action) -> &'static str {
    match action {
        Action::Pass => "pass",
        Action::Drop => "drop",
        Action::Reply => "reply",
        Action::Forward => "forward",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::samples;

    #[test]
    fn what_never_happened_is_hidden_unless_asked_for() {
        let hidden = "\
VERDICT          PACKETS  ACTION   MEANING
not_vip          9876543  pass     Not for a VIP: other traffic of this host.
forwarded_ipip   2469134  forward  Sent to a backend inside another IP header.
unknown_service       17  drop     For a port of a VIP that no service has.
";
        assert_eq!(counters(&samples::counters(), false), hidden);
        let all = counters(&samples::counters(), true);
        assert_eq!(
            all.lines().last(),
            Some(
                "bad_length             0  drop     A length field says more than the frame holds, or less than its header."
            )
        );
    }

    #[test]
    fn silence_is_said_in_words() {
        let mut silent = samples::counters();
        for count in &mut silent.verdicts {
            count.packets = 0;
        }
        assert_eq!(counters(&silent, false), "no packet has been seen\n");
    }
}
