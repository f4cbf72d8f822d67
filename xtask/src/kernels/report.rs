//! How it went: per kernel and part, as a table and as figures.

use std::collections::BTreeMap;

use xtask::figures::Figure;

use super::Tried;

/// How a part ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With code 0, after so many seconds.
    Passed(u64),
    /// With this code, after so many seconds. 124 and 143 are a `timeout` that ran out.
    Failed(i32, u64),
    /// The guest did not come that far.
    NotRun,
}

impl Ended {
    /// By exit code and seconds.
    pub(super) fn after(code: i32, seconds: u64) -> Self {
        if code == 0 { Self::Passed(seconds) } else { Self::Failed(code, seconds) }
    }
}

/// Reads `part NAME ended with CODE after SECONDS s` out of what a guest wrote.
pub(super) fn ended_parts(text: &str) -> BTreeMap<&str, Ended> {
    let read = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["part", _, "ended", "with", code, "after", seconds, "s"] => {
                Some(Ended::after(code.parse().ok()?, seconds.parse().ok()?))
            }
            _ => None,
        }
    };
    text.lines().filter_map(|line| Some((line.split(' ').nth(1)?, read(line)?))).collect()
}

/// All kernels that were tried.
#[derive(Default)]
pub(super) struct Kernels(Vec<(String, Tried)>);

impl Kernels {
    /// Adds one, by its series.
    pub(super) fn add(&mut self, series: &str, tried: Tried) {
        self.0.push((series.to_owned(), tried));
    }

    /// Whether every part passed on every kernel, and no budget is exceeded.
    pub(super) fn all_well(&self) -> bool {
        self.figures().iter().all(|figure| figure.ok)
    }

    /// `kernels.SERIES.ok`, and what the verifiers looked at.
    pub(super) fn figures(&self) -> Vec<Figure> {
        let mut figures = Vec::new();
        for (series, tried) in &self.0 {
            let ok = tried.parts.iter().all(|(_, ended)| matches!(ended, Ended::Passed(_)));
            let figure = Figure::new(&format!("kernels.{series}.ok"), f64::from(u8::from(ok)), "");
            figures.push(figure.aim("== 1").expect("a well-formed aim"));
            figures.extend(tried.figures.iter().cloned());
        }
        figures
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let mut table = String::new();
        for (series, tried) in &self.0 {
            table.push_str(&format!("kernel {} ({series})\n", tried.release));
            for (name, ended) in &tried.parts {
                let ended = match ended {
                    Ended::Passed(seconds) => format!("passed  {seconds:>4} s"),
                    Ended::Failed(124 | 143, seconds) => format!("FAILED  {seconds:>4} s, out of time"),
                    Ended::Failed(code, seconds) => format!("FAILED  {seconds:>4} s, exit code {code}"),
                    Ended::NotRun => "not run".to_owned(),
                };
                table.push_str(&format!("  {name:24}  {ended}\n"));
            }
            for figure in &tried.figures {
                let program = figure.name.trim_end_matches(".insns").rsplit('.').next().unwrap_or_default();
                let verdict = match &figure.aim {
                    Some(aim) if figure.ok => format!("within {aim}"),
                    Some(aim) => format!("OVER BUDGET {aim}"),
                    None => "no budget".to_owned(),
                };
                let count = figure.value;
                table.push_str(&format!("  {program:24}  {count:>8} instructions verified, {verdict}\n"));
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::parts::PARTS;

    fn kernels(last: Ended, count: f64) -> Kernels {
        let insns = Figure::new("kernels.6.12.vip_lb.insns", count, "instructions").aim("<= 1100").unwrap();
        let mut parts: Vec<_> = PARTS.iter().map(|part| (part.name, Ended::Passed(7))).collect();
        parts.last_mut().unwrap().1 = last;
        let mut kernels = Kernels::default();
        kernels.add("6.12", Tried { release: "6.12.1-cloud".to_owned(), parts, figures: vec![insns] });
        kernels
    }

    #[test]
    fn what_a_guest_wrote_is_read() {
        let text = "noise\npart load ended with 0 after 3 s\npart l2 ended with 101 after 12 s\npart x ended with y after 1 s\n";
        let expected = BTreeMap::from([("load", Ended::Passed(3)), ("l2", Ended::Failed(101, 12))]);
        assert_eq!(ended_parts(text), expected);
    }

    #[test]
    fn one_part_or_budget_fails_the_kernel() {
        for (ended, count, ok, well) in [
            (Ended::Passed(1), 1000.0, 1.0, true),
            (Ended::Failed(1, 1), 1000.0, 0.0, false),
            (Ended::NotRun, 1000.0, 0.0, false),
            (Ended::Passed(1), 1101.0, 1.0, false),
        ] {
            let kernels = kernels(ended, count);
            let figures = kernels.figures();
            assert_eq!((figures[0].name.as_str(), figures[0].value), ("kernels.6.12.ok", ok), "{ended:?}");
            assert_eq!(kernels.all_well(), well, "{ended:?}, {count}");
        }
    }

    #[test]
    fn the_table_says_what_failed_and_why() {
        let table = kernels(Ended::Failed(124, 300), 1200.0).table();
        assert!(table.starts_with("kernel 6.12.1-cloud (6.12)\n"), "{table}");
        assert!(table.contains("FAILED   300 s, out of time"), "{table}");
        assert!(
            table.contains("vip_lb                        1200 instructions verified, OVER BUDGET <= 1100"),
            "{table}"
        );
    }
}
