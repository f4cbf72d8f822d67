//! The view on a screen in memory.

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    style::{Color, Modifier},
};

use super::{
    draw::draw,
    history::Reading,
    view::{View, Wish},
};
use crate::{api::samples, cli::render::Style};

/// A view of the samples, a second after a first reading, with rates of verdicts.
fn view() -> View {
    let reading =
        |now: u64| Reading { status: samples::status(), counters: samples::counters(), now: now as f64 };
    let mut view = View::new(reading(samples::NOW));
    let mut later = reading(samples::NOW + 1);
    later.counters.verdicts[1].packets += 5135;
    later.counters.verdicts[2].packets += 12;
    view.read(Ok(later));
    view
}

fn press(view: &mut View, keys: &str) -> Wish {
    let mut wish = Wish::Stay;
    for word in keys.split(' ') {
        let code = match word {
            "enter" => KeyCode::Enter,
            "esc" => KeyCode::Esc,
            "tab" => KeyCode::Tab,
            "backtab" => KeyCode::BackTab,
            "down" => KeyCode::Down,
            "up" => KeyCode::Up,
            "end" => KeyCode::End,
            "home" => KeyCode::Home,
            "pagedown" => KeyCode::PageDown,
            letter => KeyCode::Char(letter.chars().next().unwrap()),
        };
        wish = view.press(KeyEvent::new(code, KeyModifiers::NONE));
    }
    wish
}

fn terminal(view: &mut View, width: u16, height: u16, style: Style) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view, style)).unwrap();
    terminal
}

/// The screen line by line, without the blanks at the ends.
fn screen(view: &mut View, width: u16, height: u16) -> Vec<String> {
    let terminal = terminal(view, width, height, Style::Plain);
    let buffer = terminal.backend().buffer();
    let line = |row: u16| (0..width).map(|column| buffer[(column, row)].symbol()).collect::<String>();
    (0..height).map(|row| line(row).trim_end().to_owned()).collect()
}

/// The first words of the lines of the table.
fn names(view: &mut View) -> Vec<String> {
    let lines = screen(view, 80, 24);
    let rows = lines[5..23].iter().filter_map(|line| line.split_whitespace().next());
    rows.map(str::to_owned).collect()
}

#[test]
fn a_small_screen_has_the_services() {
    let lines = screen(&mut view(), 80, 24);
    assert_eq!(lines[0], "edge1  vip-lb 0.1.0  up 1d 2h  config 3f9a12bc (5m 1s ago)  1 warning");
    assert_eq!(lines[1].trim_end_matches(['█', ' ']), "  5.1k packets/s   32.1 Mbit/s     277 connections/s");
    assert_eq!(lines[2], "       forwarded 5.1k/s  answered 0/s  passed 0/s  dropped 12/s");
    assert_eq!(lines[3], " 1 VIPs  2 Services  3 Backends  4 Verdicts");
    assert_eq!(lines[4], " SERVICE   VIP           PORT        UP   PKT/S   BIT/S   CONN/S");
    assert!(
        lines[5].starts_with(" web       192.0.2.10    80/tcp     2/3    5.1k   32.1M      277 "),
        "{}",
        lines[5]
    );
    assert!(lines[5].ends_with(" ██"), "{}", lines[5]);
    assert_eq!(lines[6], " dns       2001:db8::10  every/udp  1/1       0       0        0");
    assert_eq!(lines[23], " Enter open  Esc back  Tab page  s sort  r reverse  / filter  ? help  q quit");
    for line in &lines {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn a_wide_screen_has_all_columns_and_curves() {
    let mut view = view();
    press(&mut view, "3");
    let lines = screen(&mut view, 160, 40);
    let heading: Vec<&str> = lines[4].split_whitespace().collect();
    let all = [
        "BACKEND", "SERVICE", "ADDRESS", "HEALTH", "STATE", "SHARE", "PKT/S", "BIT/S", "CONN/S", "MODE",
        "WEIGHT",
    ];
    assert_eq!(heading, all);
    assert!(lines[5].contains("up 2h 1m") && lines[5].ends_with("██"), "{}", lines[5]);
    assert!(lines[6].contains("down 13s"), "{}", lines[6]);
    assert_eq!(lines.len(), 40);
}

#[test]
fn columns_of_less_weight_go_first_where_it_is_narrow() {
    let mut view = view();
    press(&mut view, "3");
    let lines = screen(&mut view, 60, 10);
    let heading: Vec<&str> = lines[4].split_whitespace().collect();
    assert_eq!(heading, ["BACKEND", "HEALTH", "STATE", "PKT/S", "BIT/S"]);
    // Too small for anything is no reason to panic.
    for (width, height) in [(1, 1), (5, 3), (20, 4), (80, 5)] {
        screen(&mut view, width, height);
    }
}

#[test]
fn what_is_behind_a_row_is_opened_and_left_again() {
    let mut view = view();
    press(&mut view, "1");
    assert_eq!(names(&mut view), ["192.0.2.10", "2001:db8::10", "203.0.113.10"]);
    press(&mut view, "down enter");
    assert_eq!(names(&mut view), ["dns"]);
    press(&mut view, "enter");
    assert_eq!(names(&mut view), ["r1"]);
    press(&mut view, "enter");
    let lines = screen(&mut view, 80, 24);
    assert!(lines[3].ends_with("  dns > r1"), "{}", lines[3]);
    assert!(lines.iter().any(|line| line.contains("next hop     eth1 02:00:00:00:01:53")), "{lines:?}");
    assert!(lines[23].starts_with(" Esc back"), "{}", lines[23]);
    press(&mut view, "esc esc esc");
    assert_eq!(names(&mut view), ["192.0.2.10", "2001:db8::10", "203.0.113.10"]);
    // The row that was opened is still the chosen one.
    press(&mut view, "enter");
    assert_eq!(names(&mut view), ["dns"]);
}

#[test]
fn a_backend_that_is_down_says_why() {
    let mut view = view();
    press(&mut view, "3 down enter");
    let lines = screen(&mut view, 80, 24).join("\n");
    assert!(lines.contains(" health       down for 13s\n"), "{lines}");
    assert!(lines.contains(" b2 is down: connection refused\n b2 is out: health check failed\n"), "{lines}");
}

#[test]
fn rows_are_sorted_by_any_column_either_way() {
    let mut view = view();
    press(&mut view, "3");
    assert_eq!(names(&mut view), ["b1", "b2", "b3", "r1"]);
    press(&mut view, "r");
    assert_eq!(names(&mut view), ["r1", "b3", "b2", "b1"]);
    // By name, service, address and then health: the one that is down comes first.
    press(&mut view, "s s s s");
    assert_eq!(names(&mut view)[0], "b2");
    assert!(screen(&mut view, 80, 24)[4].contains("*HEALTH"));
    // Numbers from the largest.
    press(&mut view, "s s s");
    assert_eq!(names(&mut view)[2..], ["b3", "b2"]);
    press(&mut view, "r");
    assert_eq!(names(&mut view)[..2], ["b2", "b3"]);
    // Sorting moves rows, not the choice.
    press(&mut view, "home s end");
    assert_eq!(press(&mut view, "enter"), Wish::Stay);
    assert!(view.detail().is_some());
}

#[test]
fn a_filter_is_typed_kept_and_cleared() {
    let mut view = view();
    press(&mut view, "3 / D O");
    assert!(screen(&mut view, 80, 24)[3].ends_with("/DO_"));
    assert_eq!(names(&mut view), ["b2"], "letters of either case, in any column");
    press(&mut view, "q enter");
    assert!(screen(&mut view, 80, 24)[5].contains("no row contains this text"));
    press(&mut view, "esc");
    assert_eq!(names(&mut view).len(), 4);
}

#[test]
fn a_long_table_moves_with_the_choice() {
    let mut view = view();
    press(&mut view, "3");
    let first = |view: &mut View| screen(view, 80, 8)[5].split_whitespace().next().unwrap().to_owned();
    assert_eq!(first(&mut view), "b1");
    press(&mut view, "end");
    assert_eq!(first(&mut view), "b3");
    press(&mut view, "up");
    assert_eq!(first(&mut view), "b3", "the choice is still to be seen");
    press(&mut view, "home");
    assert_eq!(first(&mut view), "b1");
    press(&mut view, "pagedown");
    screen(&mut view, 80, 8);
    let rows = view.rows();
    assert_eq!(view.chosen(&rows), 2);
}

#[test]
fn a_daemon_that_does_not_answer_is_said_and_the_last_is_kept() {
    let mut view = view();
    view.read(Err("no vip-lb daemon answers".to_owned()));
    let lines = screen(&mut view, 80, 24);
    assert_eq!(lines[0], "no answer: no vip-lb daemon answers");
    assert!(lines[5].contains("web"));
    press(&mut view, "p");
    view.read(Ok(Reading { status: samples::status(), counters: samples::counters(), now: 0.0 }));
    assert!(screen(&mut view, 80, 24)[0].ends_with("no vip-lb daemon answers  paused"));
}

#[test]
fn colours_are_only_where_they_are_wanted() {
    for (style, coloured) in [(Style::Coloured, true), (Style::Plain, false)] {
        let mut view = view();
        press(&mut view, "3");
        let terminal = terminal(&mut view, 80, 24, style);
        let cells = terminal.backend().buffer().content();
        let red = cells.iter().any(|cell| cell.fg == Color::Red);
        let any = cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        assert_eq!((red, any), (coloured, coloured), "{style:?}");
        assert!(cells.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED)), "the choice is seen");
    }
}

#[test]
fn keys_turn_pages_help_and_end() {
    let mut view = view();
    let shown = |view: &mut View| screen(view, 80, 24)[4].split_whitespace().next().unwrap().to_owned();
    assert_eq!(shown(&mut view), "SERVICE");
    press(&mut view, "tab");
    assert_eq!(shown(&mut view), "BACKEND");
    press(&mut view, "tab");
    assert_eq!(shown(&mut view), "VERDICT");
    press(&mut view, "tab");
    assert_eq!(shown(&mut view), "VIP");
    press(&mut view, "backtab");
    assert_eq!(shown(&mut view), "VERDICT");
    press(&mut view, "?");
    assert!(screen(&mut view, 80, 24)[4].contains("choose a row"));
    assert_eq!(press(&mut view, "q"), Wish::Stay, "a key ends the help only");
    assert_eq!(press(&mut view, "q"), Wish::Quit);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(view.press(interrupt), Wish::Quit);
}
