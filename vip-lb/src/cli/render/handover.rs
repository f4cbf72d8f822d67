//! What came of handing a VIP over, as lines.

use std::net::IpAddr;

use crate::{
    api::model::HandoverReport,
    cli::handover::{Moved, Outcome},
};

/// One line, then the warnings.
pub(in crate::cli) fn moved(moved: &Moved, vip: IpAddr, to: Option<&str>) -> String {
    let Moved { report, outcome, active } = moved;
    let HandoverReport { vips, changed, translated, differences, warnings, .. } = report;
    let along: Vec<_> = vips.iter().filter(|&&other| other != vip).map(ToString::to_string).collect();
    let along = if along.is_empty() { String::new() } else { format!(" with {}", along.join(", ")) };
    let node = active.map_or_else(|| "another node".to_owned(), |active| active.to_string());
    let unchanged = if *changed { "" } else { " (unchanged)" };
    let mut text = match outcome {
        Outcome::Refused => {
            let ending =
                format!("{translated} translated connections of mode nat live on this node and would end");
            let reasons = (*translated > 0).then_some(ending).into_iter().chain(differences.iter().cloned());
            let reasons: Vec<_> = reasons.collect();
            format!("{vip}: nothing was done: {}: --yes accepts that\n", reasons.join("; "))
        }
        Outcome::Moved => format!("{vip}{along}: handed over, {node} answers{unchanged}\n"),
        Outcome::Elsewhere => {
            let to = to.map_or_else(String::new, |to| format!(" and not {to}"));
            format!("{vip}{along}: handed over, but {node}{to} answers\n")
        }
        Outcome::Kept => {
            format!("{vip}{along}: no other node took over: this node answers as before\n")
        }
        Outcome::Back => format!("{vip}{along}: back, this node answers\n"),
        Outcome::Unknown => format!("{vip}{along}: nobody is seen to answer\n"),
    };
    for warning in warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_words() {
        let [vip, other, node]: [IpAddr; 3] =
            ["192.0.2.10", "192.0.2.11", "192.0.2.12"].map(|text| text.parse().unwrap());
        let line = |outcome, active, to| {
            let report = HandoverReport {
                vips: vec![vip, other],
                changed: true,
                handed_over: true,
                translated: 7,
                heirs: Vec::new(),
                differences: Vec::new(),
                warnings: vec!["so".to_owned()],
            };
            moved(&Moved { report, outcome, active }, vip, to)
        };
        for (outcome, active, to, expected) in [
            (
                Outcome::Refused,
                None,
                None,
                "192.0.2.10: nothing was done: 7 translated connections of mode nat live on this node and would end: --yes accepts that\n",
            ),
            (
                Outcome::Moved,
                Some(node),
                None,
                "192.0.2.10 with 192.0.2.11: handed over, 192.0.2.12 answers\n",
            ),
            (
                Outcome::Elsewhere,
                Some(node),
                Some("lb-3"),
                "192.0.2.10 with 192.0.2.11: handed over, but 192.0.2.12 and not lb-3 answers\n",
            ),
            (
                Outcome::Kept,
                None,
                None,
                "192.0.2.10 with 192.0.2.11: no other node took over: this node answers as before\n",
            ),
            (Outcome::Back, None, None, "192.0.2.10 with 192.0.2.11: back, this node answers\n"),
            (Outcome::Unknown, None, None, "192.0.2.10 with 192.0.2.11: nobody is seen to answer\n"),
        ] {
            assert_eq!(line(outcome, active, to), format!("{expected}warning: so\n"));
        }
    }

    #[test]
    fn what_the_other_node_does_otherwise_is_a_reason() {
        let vip: IpAddr = "192.0.2.10".parse().unwrap();
        let line = |translated| {
            let report = HandoverReport {
                vips: vec![vip],
                changed: false,
                handed_over: false,
                translated,
                heirs: Vec::new(),
                differences: vec!["lb-2: service web: the rings differ".to_owned()],
                warnings: Vec::new(),
            };
            moved(&Moved { report, outcome: Outcome::Refused, active: None }, vip, None)
        };
        assert_eq!(
            line(0),
            "192.0.2.10: nothing was done: lb-2: service web: the rings differ: --yes accepts that\n"
        );
        assert!(line(3).contains("and would end; lb-2: service web: "), "{}", line(3));
    }
}
