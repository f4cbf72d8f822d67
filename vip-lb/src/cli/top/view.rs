//! What is looked at and how: a pure machine of keys and readings.

use std::collections::HashMap;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    history::{History, Reading, Series},
    rows::{Page, Row, Scope, Sort, rows},
};

/// What is asked of whoever runs the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Go on.
    Stay,
    /// End.
    Quit,
}

/// The view.
pub(super) struct View {
    history: History,
    /// Why the last reading failed.
    trouble: Option<String>,
    paused: bool,
    help: bool,
    place: Place,
    /// Where one came from, the outermost first.
    former: Vec<Place>,
    sorts: HashMap<Page, Sort>,
    /// Rows that the terminal has for the table, as of the last drawing.
    height: usize,
    /// Whether keys are letters of the filter.
    typing: bool,
}

/// Where one is.
#[derive(Clone, Debug, Default)]
struct Place {
    page: Option<Page>,
    scope: Scope,
    filter: String,
    /// The backend that is shown whole.
    detail: Option<Series>,
    /// The row that is chosen, by what it is of, so that it stays chosen when others overtake it.
    chosen: Option<Series>,
    /// The first row that is shown.
    top: usize,
}

impl View {
    pub(super) fn new(first: Reading) -> Self {
        Self {
            history: History::new(first),
            trouble: None,
            paused: false,
            help: false,
            place: Place::default(),
            former: Vec::new(),
            sorts: HashMap::new(),
            height: 1,
            typing: false,
        }
    }

    /// Takes in a reading, or why there is none. While the view is paused nothing changes.
    pub(super) fn read(&mut self, reading: Result<Reading, String>) {
        if self.paused {
            return;
        }
        match reading {
            Ok(reading) => {
                self.history.push(reading);
                self.trouble = None;
            }
            Err(trouble) => self.trouble = Some(trouble),
        }
    }

    /// Does what a key means.
    pub(super) fn press(&mut self, key: KeyEvent) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Wish::Quit } else { Wish::Stay };
        }
        if self.typing {
            self.type_filter(key.code);
            return Wish::Stay;
        }
        if self.help {
            self.help = false;
            return Wish::Stay;
        }
        match key.code {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Char('s') => self.sort_by_next(),
            KeyCode::Char('r') => {
                let sort = self.sorts.entry(self.page()).or_default();
                sort.reversed = !sort.reversed;
            }
            KeyCode::Char(digit @ '1'..='4') => self.turn_to(Page::ALL[digit as usize - '1' as usize]),
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Page::ALL.len() - 1),
            KeyCode::Enter => self.drill_in(),
            KeyCode::Esc | KeyCode::Backspace => self.step_back(),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::PageDown => self.move_by(self.height as isize),
            KeyCode::PageUp => self.move_by(-(self.height as isize)),
            KeyCode::Home | KeyCode::Char('g') => self.move_by(isize::MIN / 2),
            KeyCode::End | KeyCode::Char('G') => self.move_by(isize::MAX / 2),
            _ => {}
        }
        Wish::Stay
    }

    /// Says how many rows of the table there is room for, which moves it so that the chosen row is seen.
    pub(super) fn fit(&mut self, height: usize) {
        self.height = height.max(1);
        let rows = self.rows();
        let chosen = self.chosen(&rows);
        let last_top = rows.len().saturating_sub(self.height);
        let top = self.place.top.min(chosen).min(last_top);
        self.place.top = top.max((chosen + 1).saturating_sub(self.height));
    }

    pub(super) fn history(&self) -> &History {
        &self.history
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn shows_help(&self) -> bool {
        self.help
    }

    pub(super) fn page(&self) -> Page {
        self.place.page.unwrap_or(Page::Services)
    }

    pub(super) fn sort(&self) -> Sort {
        self.sorts.get(&self.page()).copied().unwrap_or_default()
    }

    /// The filter, if there is one or one is being typed, and whether it is.
    pub(super) fn filter(&self) -> Option<(&str, bool)> {
        let filter = &self.place.filter;
        (self.typing || !filter.is_empty()).then_some((filter.as_str(), self.typing))
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.place.scope
    }

    /// The names of service and backend of the one that is shown whole.
    pub(super) fn detail(&self) -> Option<(&str, &str)> {
        match self.place.detail.as_ref()? {
            Series::Backend(service, backend) => Some((service, backend)),
            _ => None,
        }
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        rows(self.page(), &self.history, &self.place.scope, self.sort(), &self.place.filter)
    }

    /// Index of the chosen row: the first if nothing is chosen, or if what was is gone.
    pub(super) fn chosen(&self, rows: &[Row]) -> usize {
        let chosen = self.place.chosen.as_ref();
        rows.iter().position(|row| Some(&row.series) == chosen).unwrap_or(0)
    }

    pub(super) fn top(&self) -> usize {
        self.place.top
    }

    fn type_filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.place.filter.clear();
            }
            KeyCode::Backspace => {
                self.place.filter.pop();
            }
            KeyCode::Char(letter) => self.place.filter.push(letter),
            _ => {}
        }
    }

    fn sort_by_next(&mut self) {
        let page = self.page();
        let sort = self.sorts.entry(page).or_default();
        sort.column = match sort.column {
            None => Some(0),
            Some(column) if column + 1 < page.columns().len() => Some(column + 1),
            Some(_) => None,
        };
        sort.reversed = false;
    }

    fn turn(&mut self, by: usize) {
        let at = Page::ALL.iter().position(|page| *page == self.page()).unwrap_or(0);
        self.turn_to(Page::ALL[(at + by) % Page::ALL.len()]);
    }

    /// Shows all of a page.
    fn turn_to(&mut self, page: Page) {
        self.former.clear();
        self.place = Place { page: Some(page), ..Place::default() };
    }

    /// From a VIP to its services, from a service to its backends, from a backend to all about it.
    fn drill_in(&mut self) {
        if self.place.detail.is_some() {
            return;
        }
        let rows = self.rows();
        let Some(row) = rows.get(self.chosen(&rows)) else { return };
        let next = match &row.series {
            Series::Vip(vip) => Place {
                page: Some(Page::Services),
                scope: Scope { vip: Some(vip.clone()), service: None },
                ..Place::default()
            },
            Series::Service(service) => Place {
                page: Some(Page::Backends),
                scope: Scope { service: Some(service.clone()), ..self.place.scope.clone() },
                ..Place::default()
            },
            Series::Backend(..) => Place {
                detail: Some(row.series.clone()),
                chosen: Some(row.series.clone()),
                ..self.place.clone()
            },
            Series::Node | Series::Verdict(_) => return,
        };
        // Back again, the same row is chosen.
        self.place.chosen = Some(row.series.clone());
        self.former.push(std::mem::replace(&mut self.place, next));
    }

    fn step_back(&mut self) {
        if self.place.detail.is_none() && !self.place.filter.is_empty() {
            self.place.filter.clear();
        } else if let Some(former) = self.former.pop() {
            self.place = former;
        }
    }

    fn move_by(&mut self, by: isize) {
        let rows = self.rows();
        if rows.is_empty() {
            return;
        }
        let at = self.chosen(&rows).saturating_add_signed(by).min(rows.len() - 1);
        self.place.chosen = Some(rows[at].series.clone());
    }
}
