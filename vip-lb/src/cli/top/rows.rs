//! The tables of the view as data: columns, rows, what they are sorted by.

use super::history::{History, Series};
use crate::{
    api::model::{
        Action, BackendStatus, FloorState, ForwardingState, HealthState, ServiceStatus, Traffic, VipStatus,
    },
    cli::render::{Tone, quantity, weight},
    config::model::Ports,
};

/// What a table is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Page {
    Vips,
    Services,
    Backends,
    Verdicts,
}

impl Page {
    pub(super) const ALL: [Self; 4] = [Self::Vips, Self::Services, Self::Backends, Self::Verdicts];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Vips => "VIPs",
            Self::Services => "Services",
            Self::Backends => "Backends",
            Self::Verdicts => "Verdicts",
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Vips => VIPS,
            Self::Services => SERVICES,
            Self::Backends => BACKENDS,
            Self::Verdicts => VERDICTS,
        }
    }
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) side: Side,
    /// Where the terminal is too narrow, columns of the highest number go first.
    pub(super) rank: u8,
}

/// On which side of its column a text stands; numbers stand right, and are sorted from the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

const fn text(name: &'static str, rank: u8) -> Column {
    Column { name, side: Side::Left, rank }
}

const fn number(name: &'static str, rank: u8) -> Column {
    Column { name, side: Side::Right, rank }
}

const VIPS: &[Column] = &[
    text("VIP", 0),
    text("ANSWERING", 1),
    number("SERVICES", 2),
    number("UP", 1),
    number("PKT/S", 0),
    number("BIT/S", 0),
    number("CONN/S", 0),
];
const SERVICES: &[Column] = &[
    text("SERVICE", 0),
    text("VIP", 1),
    text("PORT", 1),
    number("UP", 0),
    number("OPEN", 3),
    number("PKT/S", 0),
    number("BIT/S", 0),
    number("CONN/S", 0),
    number("FLOWS", 4),
];
const BACKENDS: &[Column] = &[
    text("BACKEND", 0),
    text("SERVICE", 1),
    text("ADDRESS", 3),
    text("HEALTH", 0),
    text("STATE", 0),
    number("SHARE", 2),
    number("PKT/S", 0),
    number("BIT/S", 0),
    number("CONN/S", 1),
    text("MODE", 4),
    number("WEIGHT", 5),
];
const VERDICTS: &[Column] =
    &[text("VERDICT", 0), text("ACTION", 0), number("PKT/S", 0), number("PACKETS", 0), text("MEANING", 1)];

/// A field: what is shown, and what is sorted by.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) text: String,
    pub(super) tone: Tone,
    key: Key,
}

#[derive(Clone, Debug)]
enum Key {
    Number(f64),
    Text(String),
}

impl Field {
    fn word(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { key: Key::Text(text.to_lowercase()), text, tone: Tone::Neutral }
    }

    fn rate(value: f64) -> Self {
        Self { text: quantity::scaled(value), tone: Tone::Neutral, key: Key::Number(value) }
    }

    fn count(value: u64) -> Self {
        Self { text: quantity::count(value), tone: Tone::Neutral, key: Key::Number(value as f64) }
    }

    fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }

    fn by(self, key: f64) -> Self {
        Self { key: Key::Number(key), ..self }
    }

    fn order(&self, other: &Self) -> std::cmp::Ordering {
        match (&self.key, &other.key) {
            (Key::Number(a), Key::Number(b)) => a.total_cmp(b),
            (Key::Text(a), Key::Text(b)) => a.cmp(b),
            // A column has keys of one kind.
            (Key::Number(_), Key::Text(_)) => std::cmp::Ordering::Less,
            (Key::Text(_), Key::Number(_)) => std::cmp::Ordering::Greater,
        }
    }
}

/// A row.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What it is of, and whose rates its curve shows.
    pub(super) series: Series,
    pub(super) fields: Vec<Field>,
}

/// What rows are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// Only what belongs to this VIP.
    pub(super) vip: Option<String>,
    /// Only what belongs to this service.
    pub(super) service: Option<String>,
}

/// In which order rows stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sort {
    /// The column; as in the configuration without one.
    pub(super) column: Option<usize>,
    /// The other way round.
    pub(super) reversed: bool,
}

/// The rows of a page that contain the filter, in order.
pub(super) fn rows(page: Page, history: &History, scope: &Scope, sort: Sort, filter: &str) -> Vec<Row> {
    let mut rows = match page {
        Page::Vips => vips(history),
        Page::Services => services(history, scope),
        Page::Backends => backends(history, scope),
        Page::Verdicts => verdicts(history),
    };
    let filter = filter.to_lowercase();
    let matches = |row: &Row| row.fields.iter().any(|field| field.text.to_lowercase().contains(&filter));
    rows.retain(matches);
    if let Some(column) = sort.column {
        let largest_first = page.columns()[column].side == Side::Right;
        // Stable, so equal ones stay as in the configuration.
        rows.sort_by(|a, b| {
            let order = a.fields[column].order(&b.fields[column]);
            if largest_first != sort.reversed { order.reverse() } else { order }
        });
    } else if sort.reversed {
        rows.reverse();
    }
    rows
}

fn vips(history: &History) -> Vec<Row> {
    let row = |vip: &VipStatus| {
        let backends = || vip.services.iter().flat_map(|service| &service.backends);
        let sum = |of: fn(&Traffic) -> f64| vip.services.iter().map(|service| of(&service.traffic)).sum();
        let answering = if vip.answering {
            Field::word("yes").toned(Tone::Good)
        } else {
            Field::word("no").toned(Tone::Bad)
        };
        Row {
            series: Series::Vip(vip.address.to_string()),
            fields: vec![
                Field::word(vip.address.to_string()),
                answering,
                Field::count(vip.services.len() as u64),
                up(backends()),
                Field::rate(sum(|traffic| traffic.packets_per_second)),
                Field::rate(sum(|traffic| traffic.bits_per_second)),
                Field::rate(sum(|traffic| traffic.new_connections_per_second)),
            ],
        }
    };
    history.last().status.vips.iter().map(row).collect()
}

fn services(history: &History, scope: &Scope) -> Vec<Row> {
    let row = |(vip, service): (&VipStatus, &ServiceStatus)| {
        let port = match service.port {
            Ports::Every => "every".to_owned(),
            ports => ports.to_string(),
        };
        let open = Field::count(service.open_slots.into());
        Row {
            series: Series::Service(service.name.clone()),
            fields: vec![
                Field::word(&service.name),
                Field::word(vip.address.to_string()),
                Field::word(format!("{port}/{}", service.protocol)),
                enough(service),
                if service.open_slots > 0 { open.toned(Tone::Doubtful) } else { open },
                Field::rate(service.traffic.packets_per_second),
                Field::rate(service.traffic.bits_per_second),
                Field::rate(service.traffic.new_connections_per_second),
                Field::count(service.recorded_flows),
            ],
        }
    };
    scoped(history, scope).map(row).collect()
}

fn backends(history: &History, scope: &Scope) -> Vec<Row> {
    let now = history.last().now;
    let of_service = |(_, service): (_, &ServiceStatus)| {
        let row = |backend: &BackendStatus| Row {
            series: Series::Backend(service.name.clone(), backend.name.clone()),
            fields: vec![
                Field::word(&backend.name),
                Field::word(&service.name),
                Field::word(backend.address.to_string()),
                health(backend, now),
                state(backend),
                Field::rate(0.0).by(backend.ring_share).spelled(quantity::percent(backend.ring_share)),
                Field::rate(backend.traffic.packets_per_second),
                Field::rate(backend.traffic.bits_per_second),
                Field::rate(backend.traffic.new_connections_per_second),
                Field::word(backend.mode.as_str()),
                Field::count(backend.weight.into()).spelled(weight(backend)),
            ],
        };
        service.backends.iter().map(row).collect::<Vec<_>>()
    };
    scoped(history, scope).flat_map(of_service).collect()
}

fn verdicts(history: &History) -> Vec<Row> {
    let counted = history.last().counters.verdicts.iter().filter(|count| count.packets > 0);
    let row = |count: &crate::api::model::VerdictCount| {
        let series = Series::Verdict(count.verdict.name.clone());
        let rate = history.rate(&series);
        let (action, tone) = match count.verdict.action {
            Action::Pass => ("pass", Tone::Neutral),
            Action::Drop => ("drop", Tone::Bad),
            Action::Reply => ("reply", Tone::Neutral),
            Action::Forward => ("forward", Tone::Good),
        };
        Row {
            fields: vec![
                Field::word(&count.verdict.name),
                Field::word(action).toned(tone),
                Field::rate(rate),
                Field::count(count.packets),
                Field::word(&count.verdict.meaning),
            ],
            series,
        }
    };
    counted.map(row).collect()
}

fn scoped<'h>(
    history: &'h History,
    scope: &'h Scope,
) -> impl Iterator<Item = (&'h VipStatus, &'h ServiceStatus)> {
    let within = |scope: &Option<String>, name: &str| scope.as_deref().is_none_or(|wanted| wanted == name);
    let vips = history.last().status.vips.iter();
    let vips = vips.filter(move |vip| within(&scope.vip, &vip.address.to_string()));
    let services = vips.flat_map(|vip| vip.services.iter().map(move |service| (vip, service)));
    services.filter(move |(_, service)| within(&scope.service, &service.name))
}

/// `2/3`: of three backends two are up. Sorted by those that are not.
fn up<'b>(backends: impl Iterator<Item = &'b BackendStatus>) -> Field {
    let (mut all, mut up) = (0_u32, 0_u32);
    for backend in backends {
        all += 1;
        up += u32::from(matches!(backend.health.state, HealthState::Up | HealthState::Unchecked));
    }
    let tone = match (up, all) {
        (up, all) if up == all => Tone::Good,
        (0, _) => Tone::Bad,
        _ => Tone::Doubtful,
    };
    Field::word(format!("{up}/{all}")).toned(tone).by(f64::from(all - up))
}

/// The same of a service, with what is done if these are too few.
fn enough(service: &ServiceStatus) -> Field {
    let up = up(service.backends.iter());
    let word = match service.floor.state {
        FloorState::Met => return up,
        FloorState::Open => "open",
        FloorState::Closed => "closed",
        FloorState::Backup => "backup",
    };
    let text = format!("{} {word}", up.text);
    up.toned(Tone::Bad).spelled(text)
}

/// The verdict of the checks and its age; sorted with the bad ones first, the latest change first among them.
fn health(backend: &BackendStatus, now: f64) -> Field {
    let (word, tone, badness) = match backend.health.state {
        HealthState::Down => ("down", Tone::Bad, 0.0),
        HealthState::Unknown => ("unknown", Tone::Doubtful, 1.0),
        HealthState::Up if backend.health.slower.is_some() => ("slow", Tone::Doubtful, 1.5),
        HealthState::Up => ("up", Tone::Good, 2.0),
        HealthState::Unchecked => return Field::word("unchecked").by(3e12),
    };
    let age = (now as u64).saturating_sub(backend.health.since);
    Field::word(format!("{word} {}", quantity::duration(age))).toned(tone).by(badness * 1e12 + age as f64)
}

fn state(backend: &BackendStatus) -> Field {
    match backend.forwarding.state {
        ForwardingState::InRing if backend.forwarding.reason.is_some() => {
            Field::word("kept").toned(Tone::Bad)
        }
        ForwardingState::InRing => Field::word("in ring"),
        ForwardingState::Draining => Field::word("draining").toned(Tone::Doubtful),
        ForwardingState::Out => Field::word("out").toned(Tone::Bad),
    }
}

impl Field {
    fn spelled(self, text: String) -> Self {
        Self { text, ..self }
    }
}
