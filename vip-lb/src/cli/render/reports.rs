//! What orders changed.

use crate::api::model::{DrainReport, ReloadReport};

/// One line per backend.
pub(in crate::cli) fn drain(report: &DrainReport) -> String {
    report
        .backends
        .iter()
        .map(|change| {
            let unchanged = if change.changed { "" } else { " (unchanged)" };
            format!("{}/{}: {}{unchanged}\n", change.service, change.backend, change.now)
        })
        .collect()
}

/// One line per change, then the warnings.
pub(in crate::cli) fn reload(report: &ReloadReport) -> String {
    let mut text = String::new();
    if report.changed {
        text.push_str("reloaded\n");
    } else {
        text.push_str("reloaded, nothing changed\n");
    }
    for change in &report.changes {
        text.push_str(&format!("  {change}\n"));
    }
    for warning in &report.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::BackendChange;

    #[test]
    fn draining_names_each_backend() {
        let change = |service: &str, changed| BackendChange {
            service: service.into(),
            backend: "b1".into(),
            changed,
            now: "draining, 41 open slots".into(),
        };
        assert_eq!(
            drain(&DrainReport { backends: vec![change("web", true), change("mail", false)] }),
            "web/b1: draining, 41 open slots\nmail/b1: draining, 41 open slots (unchanged)\n"
        );
    }

    #[test]
    fn reloading_lists_changes_and_warnings() {
        let report = ReloadReport {
            changed: true,
            changes: vec!["web: added b4".into()],
            warnings: vec!["vip-lb.yaml:3:5: doubtful".into()],
        };
        assert_eq!(reload(&report), "reloaded\n  web: added b4\nwarning: vip-lb.yaml:3:5: doubtful\n");
        let report = ReloadReport { changed: false, changes: vec![], warnings: vec![] };
        assert_eq!(reload(&report), "reloaded, nothing changed\n");
    }
}
