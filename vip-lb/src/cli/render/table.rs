//! Aligned columns.

use super::{Style, Tone, Toned};

/// On which side of its column a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// One field of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(super) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Neutral)
    }
}

/// A heading and rows of as many fields.
pub(super) struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(columns: [(&'static str, Align); N]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// All lines, each after `indent` and without spaces at its end, columns two spaces apart.
    pub(super) fn render(&self, indent: &str, style: Style) -> String {
        let heading = self.columns.map(|(name, _)| Cell::from(name));
        let lines = || std::iter::once(&heading).chain(&self.rows);
        let mut widths = [0; N];
        for line in lines() {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.text.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for line in lines() {
            let mut row = indent.to_owned();
            for (index, cell) in line.iter().enumerate() {
                if index > 0 {
                    row.push_str("  ");
                }
                let padding = " ".repeat(widths[index] - cell.text.chars().count());
                let toned = Toned(&cell.text, cell.tone, style);
                row.push_str(&match self.columns[index].1 {
                    Align::Left => format!("{toned}{padding}"),
                    Align::Right => format!("{padding}{toned}"),
                });
            }
            text.push_str(row.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_whatever_the_colour() {
        let mut table = Table::new([("NAME", Align::Left), ("N", Align::Right), ("NOTE", Align::Left)]);
        table.row(["a".into(), "1000".into(), Cell::toned("up", Tone::Good)]);
        table.row([Cell::toned("längst", Tone::Bad), "7".into(), "".into()]);
        assert_eq!(
            table.render(" ", Style::Plain),
            " NAME       N  NOTE\n a       1000  up\n längst     7\n"
        );
        assert_eq!(
            table.render("", Style::Coloured),
            "NAME       N  NOTE\na       1000  \x1b[32mup\x1b[0m\n\x1b[31mlängst\x1b[0m     7\n"
        );
    }
}
