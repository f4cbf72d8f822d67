//! The view on the screen.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style as Look},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{
    curve::{Scale, curve},
    detail::detail,
    history::Series,
    rows::{Column, Page, Row, Side},
    view::View,
};
use crate::{
    api::model::Action,
    cli::render::{Style, Tone, quantity},
};

/// Fewest cells that a curve is drawn in, and the most.
const CURVE: std::ops::RangeInclusive<usize> = 8..=60;

/// Columns of this rank and above give way to a curve.
const LESS_THAN_A_CURVE: u8 = 3;

/// Draws all of it; the view is told how much there is room for.
pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View, style: Style) {
    let [head, title, body, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(heading(view, head.width as usize, style)), head);
    frame.render_widget(Paragraph::new(path(view, style)), title);
    if view.shows_help() {
        frame.render_widget(Paragraph::new(HELP), body);
    } else if let Some((service, backend)) = view.detail() {
        frame.render_widget(
            Paragraph::new(detail(view.history(), service, backend, body.width as usize, style)),
            body,
        );
    } else {
        view.fit(body.height.saturating_sub(1) as usize);
        frame.render_widget(Paragraph::new(table(view, body, style)), body);
    }
    frame.render_widget(Paragraph::new(keys(view)), foot);
}

const HELP: &str = "\
  up, down, j, k         choose a row            PgUp, PgDn, Home, End  move further
  Enter                  what is behind it: services of a VIP, backends of a service,
                         all about a backend
  Esc, Backspace         back
  Tab, 1 2 3 4           VIPs, services, backends, verdicts
  s                      sort by the next column, r the other way round
  /                      show only rows that contain a text; Esc ends that
  p                      stand still, and go on
  q, Ctrl-C              end

  Rates are of the daemon's last sampling period, those of verdicts between two
  readings. HEALTH has the time since the last change. UP counts the backends that
  pass their checks or have none. OPEN are slots that remember an earlier backend.

  Any key ends this help.";

/// Words in a tone.
pub(super) fn toned(text: impl Into<String>, tone: Tone, style: Style) -> Span<'static> {
    Span::styled(text.into(), look(tone, style))
}

fn look(tone: Tone, style: Style) -> Look {
    match (style, tone) {
        (_, Tone::Neutral) => Look::new(),
        // Without colours a bad word is to be seen as well.
        (Style::Plain, Tone::Good) => Look::new(),
        (Style::Plain, Tone::Doubtful | Tone::Bad) => Look::new().add_modifier(Modifier::BOLD),
        (Style::Coloured, Tone::Good) => Look::new().fg(Color::Green),
        (Style::Coloured, Tone::Doubtful) => Look::new().fg(Color::Yellow),
        (Style::Coloured, Tone::Bad) => Look::new().fg(Color::Red),
    }
}

fn bold(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Modifier::BOLD)
}

/// Who, how much, and how it ends.
fn heading(view: &View, width: usize, style: Style) -> Vec<Line<'static>> {
    let history = view.history();
    let reading = history.last();
    let status = &reading.status;
    let age = |since: u64| quantity::duration((reading.now as u64).saturating_sub(since));
    let mut who = vec![
        bold(status.node.clone()),
        Span::raw(format!(
            "  vip-lb {}  up {}  config {} ({} ago)",
            status.version,
            age(status.started),
            status.config.hash,
            age(status.config.loaded_at)
        )),
    ];
    if let Some(trouble) = view.trouble() {
        // What is shown is old, and that is what matters most.
        who = vec![toned(format!("no answer: {trouble}"), Tone::Bad, style)];
    } else if !status.warnings.is_empty() {
        let (count, word) =
            (status.warnings.len(), if status.warnings.len() == 1 { "warning" } else { "warnings" });
        who.push(toned(format!("  {count} {word}"), Tone::Doubtful, style));
    }
    if view.is_paused() {
        who.push(toned("  paused", Tone::Doubtful, style));
    }

    let services = || status.vips.iter().flat_map(|vip| &vip.services);
    let bits: f64 = services().map(|service| service.traffic.bits_per_second).sum();
    let connections: f64 = services().map(|service| service.traffic.new_connections_per_second).sum();
    let rates = format!(
        "{:>6} packets/s  {:>7}bit/s  {:>6} connections/s  ",
        quantity::scaled(history.rate(&Series::Node)),
        quantity::with_prefix(bits),
        quantity::scaled(connections)
    );
    let room = width.saturating_sub(rates.chars().count()).min(*CURVE.end());
    let mut traffic = vec![Span::raw(rates)];
    if room >= *CURVE.start() {
        traffic.push(Span::raw(curve(&history.rates(&Series::Node), room, Scale::Own)));
    }

    let mut ends = vec![Span::raw("       ")];
    for (action, name, tone) in [
        (Action::Forward, "forwarded", Tone::Neutral),
        (Action::Reply, "answered", Tone::Neutral),
        (Action::Pass, "passed", Tone::Neutral),
        (Action::Drop, "dropped", Tone::Bad),
    ] {
        let rate = quantity::scaled(history.rate_of(action));
        let tone = if rate == "0" { Tone::Neutral } else { tone };
        ends.push(toned(format!("{name} {rate}/s  "), tone, style));
    }
    vec![Line::from(who), Line::from(traffic), Line::from(ends)]
}

/// The pages, the one that is looked at, and what of it.
fn path(view: &View, style: Style) -> Line<'static> {
    let mut spans = Vec::new();
    for (index, page) in Page::ALL.into_iter().enumerate() {
        let text = format!(" {} {} ", index + 1, page.name());
        let chosen = page == view.page();
        let look = if chosen { Look::new().add_modifier(Modifier::REVERSED) } else { Look::new() };
        spans.push(Span::styled(text, look));
    }
    let scope = view.scope();
    let mut of: Vec<&str> = scope.vip.as_deref().into_iter().chain(scope.service.as_deref()).collect();
    if let Some((service, backend)) = view.detail() {
        of = vec![service, backend];
    }
    if !of.is_empty() {
        spans.push(bold(format!("  {}", of.join(" > "))));
    }
    if let Some((filter, typing)) = view.filter() {
        let cursor = if typing { "_" } else { "" };
        spans.push(toned(format!("  /{filter}{cursor}"), Tone::Doubtful, style));
    }
    Line::from(spans)
}

fn keys(view: &View) -> Line<'static> {
    if let Some((_, true)) = view.filter() {
        return Line::raw(" type what rows must contain  Enter keep  Esc clear");
    }
    Line::raw(if view.detail().is_some() {
        " Esc back  p pause  ? help  q quit"
    } else {
        " Enter open  Esc back  Tab page  s sort  r reverse  / filter  ? help  q quit"
    })
}

fn table(view: &View, area: Rect, style: Style) -> Vec<Line<'static>> {
    let rows = view.rows();
    let columns = view.page().columns();
    let layout = Widths::fit(columns, &rows, area.width as usize);
    let sort = view.sort();
    let heading = layout.line(columns.iter().enumerate().map(|(index, column)| {
        let mark = match (sort.column == Some(index), sort.reversed) {
            (false, _) => "",
            (true, false) => "*",
            (true, true) => "^",
        };
        (format!("{mark}{}", column.name), Look::new().add_modifier(Modifier::BOLD))
    }));
    let mut lines = vec![heading];
    if rows.is_empty() {
        lines.push(Line::raw(if view.filter().is_some() {
            " no row contains this text"
        } else {
            " nothing to show"
        }));
        return lines;
    }
    let chosen = view.chosen(&rows);
    let shown = area.height.saturating_sub(1) as usize;
    let visible = rows.iter().enumerate().skip(view.top()).take(shown);
    // Curves of one table have one scale, so that they can be compared.
    let peak = rows.iter().flat_map(|row| view.history().rates(&row.series)).fold(0.0, f64::max);
    for (index, row) in visible {
        let fields = row.fields.iter().map(|field| (field.text.clone(), look(field.tone, style)));
        let mut line = layout.line(fields);
        if layout.curve > 0 {
            let rates = view.history().rates(&row.series);
            line.push_span(Span::raw(format!("  {}", curve(&rates, layout.curve, Scale::Peak(peak)))));
        }
        if index == chosen {
            line = pad(line, area.width as usize).style(Look::new().add_modifier(Modifier::REVERSED));
        }
        lines.push(line);
    }
    lines
}

fn pad(mut line: Line<'static>, width: usize) -> Line<'static> {
    let missing = width.saturating_sub(line.width());
    line.push_span(Span::raw(" ".repeat(missing)));
    line
}

/// How wide columns are, and which have no room.
struct Widths {
    /// By column; 0 for those without room.
    columns: Vec<usize>,
    sides: Vec<Side>,
    /// Cells for the curves.
    curve: usize,
}

impl Widths {
    fn fit(columns: &[Column], rows: &[Row], width: usize) -> Self {
        let natural = |(index, column): (usize, &Column)| {
            let texts = rows.iter().map(|row| row.fields[index].text.chars().count());
            // One more for the mark of the sorted column.
            texts.max().unwrap_or(0).max(column.name.len() + 1)
        };
        let mut widths: Vec<usize> = columns.iter().enumerate().map(natural).collect();
        let total = |widths: &[usize]| {
            widths.iter().filter(|width| **width > 0).map(|width| width + 2).sum::<usize>()
        };
        let mut ranks: Vec<u8> = columns.iter().map(|column| column.rank).filter(|rank| *rank > 0).collect();
        ranks.sort_unstable();
        ranks.dedup();
        for rank in ranks.into_iter().rev() {
            // A curve tells more than the columns that matter least.
            let curve = if rank >= LESS_THAN_A_CURVE { *CURVE.start() + 2 } else { 0 };
            if total(&widths) + curve <= width + 1 {
                break;
            }
            for (width, _) in widths.iter_mut().zip(columns).filter(|(_, column)| column.rank == rank) {
                *width = 0;
            }
        }
        let left = (width + 1).saturating_sub(total(&widths));
        let curve = if left >= *CURVE.start() + 2 { (left - 2).min(*CURVE.end()) } else { 0 };
        Self { columns: widths, sides: columns.iter().map(|column| column.side).collect(), curve }
    }

    /// Fields side by side, each in its column, a blank before the first and two between.
    fn line(&self, fields: impl Iterator<Item = (String, Look)>) -> Line<'static> {
        let mut spans = Vec::new();
        for ((text, look), (&width, &side)) in fields.zip(self.columns.iter().zip(&self.sides)) {
            if width == 0 {
                continue;
            }
            spans.push(Span::raw(if spans.is_empty() { " " } else { "  " }));
            let padding = Span::raw(" ".repeat(width.saturating_sub(text.chars().count())));
            let text = Span::styled(text, look);
            match side {
                Side::Left => spans.extend([text, padding]),
                Side::Right => spans.extend([padding, text]),
            }
        }
        Line::from(spans)
    }
}
