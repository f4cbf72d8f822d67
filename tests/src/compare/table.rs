//! What came of it, for people and for scripts.

use anyhow::Result;
use xtask::figures::Figure;

use super::{Damage, Event};
use crate::lab::Mode;

/// The names of the columns in figures: vip-lb, IPVS as a synchronised pair, IPVS with Maglev.
const COLUMNS: [&str; 3] = ["vip_lb", "ipvs", "ipvs_mh"];

/// All events in one mode.
#[derive(Clone, Debug)]
pub struct Comparison {
    mode: Mode,
    titles: [&'static str; 3],
    rows: Vec<(Event, [Option<Damage>; 3])>,
}

impl Comparison {
    /// Of columns with the damage of each event, in the order of [`Event::ALL`]; `None` is an event that a balancer does not know.
    #[must_use]
    pub fn new(mode: Mode, columns: &[(&'static str, Vec<Option<Damage>>); 3]) -> Self {
        let titles = columns.each_ref().map(|(title, _)| *title);
        let damage = |row: usize| columns.each_ref().map(|(_, damage)| damage.get(row).cloned().flatten());
        let rows = Event::ALL.into_iter().enumerate().map(|(row, event)| (event, damage(row))).collect();
        Self { mode, titles, rows }
    }

    /// `compare.MODE_EVENT.COLUMN_broken` and `_failed`. What vip-lb promises is an aim.
    ///
    /// # Errors
    ///
    /// Never: the aims are well formed.
    pub fn figures(&self) -> Result<Vec<Figure>> {
        let mut figures = Vec::new();
        for (event, damages) in &self.rows {
            for (column, damage) in COLUMNS.iter().zip(damages) {
                let Some(damage) = damage else { continue };
                let name = |what| format!("compare.{}_{}.{column}_{what}", self.mode.name(), event.name());
                let promised = *column == COLUMNS[0] && event.is_promised(self.mode);
                let counts =
                    [(damage.broken, "broken", "connections"), (damage.failed, "failed", "requests")];
                for (count, what, unit) in counts {
                    let figure = Figure::new(&name(what), count as f64, unit);
                    figures.push(if promised { figure.aim("== 0")? } else { figure });
                }
            }
        }
        Ok(figures)
    }

    /// Rows and columns in text.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text =
            format!("{:46}", format!("mode {}: broken connections, failed requests", self.mode.name()));
        text.extend(self.titles.iter().map(|title| format!("{title:>26}")));
        text.push('\n');
        for (event, damages) in &self.rows {
            text.push_str(&format!("{:46}", event.describe()));
            for damage in damages {
                let cell = damage.as_ref().map_or("n/a".to_owned(), |damage| {
                    let Damage { broken, connections, failed, requests, .. } = damage;
                    format!("{broken} of {connections}, {failed} of {requests}")
                });
                text.push_str(&format!("{cell:>26}"));
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every event breaks one connection more than the one before it.
    fn comparison(mode: Mode) -> Comparison {
        let damage =
            |broken| Some(Damage { connections: 40, broken, requests: 60, failed: 2, ..Damage::default() });
        let damages: Vec<_> = (0..Event::ALL.len()).map(damage).collect();
        let nothing = vec![None; Event::ALL.len()];
        Comparison::new(mode, &[("vip-lb", damages.clone()), ("one", nothing), ("two", damages)])
    }

    #[test]
    fn what_is_promised_is_an_aim_and_what_is_not_there_is_no_figure() {
        let figures = comparison(Mode::Ipip).figures().unwrap();
        let shown = |event: &str| -> Vec<_> {
            let of_event = figures.iter().filter(|figure| figure.name.split('.').nth(1) == Some(event));
            of_event.map(|figure| (figure.name.as_str(), figure.value, figure.ok)).collect()
        };
        assert_eq!(
            shown("ipip_failover"),
            [
                ("compare.ipip_failover.vip_lb_broken", 1.0, false),
                ("compare.ipip_failover.vip_lb_failed", 2.0, false),
                ("compare.ipip_failover.ipvs_mh_broken", 1.0, true),
                ("compare.ipip_failover.ipvs_mh_failed", 2.0, true),
            ]
        );
        assert!(shown("ipip_failover_after_add").iter().all(|(_, _, ok)| *ok), "not promised");
    }

    #[test]
    fn a_node_that_translates_does_not_promise_to_be_followed() {
        let figures = comparison(Mode::Nat).figures().unwrap();
        let missed = |event: &str| {
            let name = format!("compare.nat_{event}.vip_lb_failed");
            figures.iter().any(|figure| figure.name == name && !figure.ok)
        };
        assert!(!missed("failover") && missed("add"));
    }

    #[test]
    fn the_table_has_a_cell_for_each_column() {
        let text = comparison(Mode::Nat).table();
        let line = text.lines().find(|line| line.starts_with("nothing happens")).unwrap();
        let cells: Vec<&str> = line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect();
        assert_eq!(cells, ["nothing happens", "0 of 40, 2 of 60", "n/a", "0 of 40, 2 of 60"]);
    }
}
