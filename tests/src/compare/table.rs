//! What came of it, for people and for scripts.

use anyhow::Result;
use xtask::figures::Figure;

use super::{Damage, Event};

/// An event, and the damage in each column.
#[derive(Clone, Debug)]
pub struct Row {
    /// What happened.
    pub event: Event,
    /// In the order of the columns: vip-lb, IPVS as a synchronised pair, IPVS with Maglev. `None` if there is no such thing.
    pub damage: [Option<Damage>; 3],
}

/// The names of the columns in figures.
const COLUMNS: [&str; 3] = ["vip_lb", "ipvs", "ipvs_mh"];

/// `compare.EVENT.COLUMN_broken` and `_failed`. What vip-lb promises is an aim.
///
/// # Errors
///
/// Never: the aims are well formed.
pub fn figures(rows: &[Row]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for row in rows {
        for (column, damage) in COLUMNS.iter().zip(row.damage) {
            let Some(damage) = damage else { continue };
            let name = |what| format!("compare.{}.{column}_{what}", row.event.name());
            let promised = *column == COLUMNS[0] && row.event.is_promised();
            let counts = [(damage.broken, "broken", "connections"), (damage.failed, "failed", "requests")];
            for (count, what, unit) in counts {
                let figure = Figure::new(&name(what), count as f64, unit);
                figures.push(if promised { figure.aim("== 0")? } else { figure });
            }
        }
    }
    Ok(figures)
}

/// What the table cannot say.
const NOTES: &str = "\
IPVS is told what happens by the lab: it has no checks and no control process of its own.
Its reload is that of Debian's service, flush and load; keepalived applies differences instead.
Connections begun while slots are open are known to one node of vip-lb only; a synchronised pair of IPVS shares all of them.
";

/// Rows and columns in text, and what to know about them.
#[must_use]
pub fn table(columns: &[&str; 3], rows: &[Row]) -> String {
    let mut text = format!("{:44}", "broken connections / failed requests when");
    text.extend(columns.iter().map(|column| format!("{column:>24}")));
    text.push('\n');
    for row in rows {
        text.push_str(&format!("{:44}", row.event.describe()));
        for damage in row.damage {
            let cell =
                damage.map_or("n/a".to_owned(), |damage| format!("{} / {}", damage.broken, damage.failed));
            text.push_str(&format!("{cell:>24}"));
        }
        text.push('\n');
    }
    text.push_str(NOTES);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(event: Event, broken: usize) -> Row {
        let damage = Some(Damage { broken, failed: 2 });
        Row { event, damage: [damage, None, damage] }
    }

    #[test]
    fn what_is_promised_is_an_aim_and_what_is_not_there_is_no_figure() {
        let figures = figures(&[row(Event::Add, 1), row(Event::FailoverAfterAdd, 3)]).unwrap();
        let shown: Vec<_> =
            figures.iter().map(|figure| (figure.name.as_str(), figure.value, figure.ok)).collect();
        assert_eq!(
            shown,
            [
                ("compare.add.vip_lb_broken", 1.0, false),
                ("compare.add.vip_lb_failed", 2.0, false),
                ("compare.add.ipvs_mh_broken", 1.0, true),
                ("compare.add.ipvs_mh_failed", 2.0, true),
                ("compare.failover_after_add.vip_lb_broken", 3.0, true),
                ("compare.failover_after_add.vip_lb_failed", 2.0, true),
                ("compare.failover_after_add.ipvs_mh_broken", 3.0, true),
                ("compare.failover_after_add.ipvs_mh_failed", 2.0, true),
            ]
        );
    }

    #[test]
    fn the_table_has_a_cell_for_each_column() {
        let text = table(&["vip-lb", "one", "two"], &[row(Event::ControlKilled, 0)]);
        let cells: Vec<&str> =
            text.lines().nth(1).unwrap().split("  ").filter(|cell| !cell.is_empty()).collect();
        assert_eq!(
            cells.iter().map(|cell| cell.trim()).collect::<Vec<_>>(),
            ["the control process is killed", "0 / 2", "n/a", "0 / 2"]
        );
    }
}
