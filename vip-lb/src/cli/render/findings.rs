//! What the doctor found.

use super::{Style, Tone, Toned};
use crate::doctor::{Finding, Level};

/// The findings that are no good news, or all of them, the worst first, and how many there are of each kind.
pub(in crate::cli) fn findings(findings: &[Finding], all: bool, style: Style) -> String {
    let mut shown: Vec<&Finding> =
        findings.iter().filter(|finding| all || finding.level != Level::Ok).collect();
    // Equal ones stay in the order of the checks.
    shown.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let width = shown.iter().map(|finding| finding.check.name().len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { check, level, found, why, fix } in shown {
        let (word, tone) = word(*level);
        let padding = " ".repeat(LONGEST_WORD - word.len());
        text.push_str(&format!("{}{padding}  {:width$}  {found}\n", Toned(word, tone, style), check.name()));
        let indent = " ".repeat(LONGEST_WORD + 2);
        for (name, line) in [("why", why), ("fix", fix)] {
            if let Some(line) = line {
                text.push_str(&format!("{indent}{name}: {line}\n"));
            }
        }
    }
    text.push_str(&summary(findings));
    text
}

const LONGEST_WORD: usize = 7;

fn word(level: Level) -> (&'static str, Tone) {
    match level {
        Level::Ok => ("ok", Tone::Good),
        Level::Note => ("note", Tone::Neutral),
        Level::Warning => ("warning", Tone::Doubtful),
        Level::Problem => ("problem", Tone::Bad),
    }
}

fn summary(findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let counted = |level, one: &str| match count(level) {
        1 => format!("1 {one}"),
        number => format!("{number} {one}s"),
    };
    format!(
        "{}, {}, {}; {} found well\n",
        counted(Level::Problem, "problem"),
        counted(Level::Warning, "warning"),
        counted(Level::Note, "note"),
        count(Level::Ok)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Check;

    fn finding(check: Check, level: Level, fix: Option<&str>) -> Finding {
        let why = (level != Level::Ok).then(|| "so it is".to_owned());
        Finding { check, level, found: "this".into(), why, fix: fix.map(str::to_owned) }
    }

    #[test]
    fn the_worst_comes_first_and_good_news_only_when_asked_for() {
        let all = [
            finding(Check::Kernel, Level::Ok, None),
            finding(Check::Jit, Level::Warning, Some("do it")),
            finding(Check::Interface, Level::Problem, None),
        ];
        assert_eq!(
            findings(&all, false, Style::Plain),
            "problem  interface  this\n         why: so it is\n\
             warning  jit        this\n         why: so it is\n         fix: do it\n\
             1 problem, 1 warning, 0 notes; 1 found well\n"
        );
        assert!(findings(&all, true, Style::Plain).contains("\nok       kernel     this\n"));
        assert!(findings(&all, true, Style::Coloured).starts_with("\x1b[31mproblem\x1b[0m  interface"));
        assert_eq!(findings(&[], false, Style::Plain), "0 problems, 0 warnings, 0 notes; 0 found well\n");
    }
}
