//! Takes typed fields out of the tree and notes everything that is not as it should be.
//!
//! A mapping is opened with the keys it may have; each field is then asked for with the [`Kind`] of its
//! value. Whatever fails is reported once and becomes [`Field::Invalid`], so that reading goes on and
//! validation complains of nothing that follows from it.

use super::{
    issue::{Issues, Place},
    sketch::{Drawn, Shape, Sketch},
    tree::{Node, Position, Value},
};

/// A value with its place.
#[derive(Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A field of a mapping.
#[derive(Debug, Default)]
pub(super) enum Field<T> {
    /// The key is not there.
    #[default]
    Absent,
    /// The key or its value was wrong, and that has been reported.
    Invalid,
    /// A well-formed value.
    Given(At<T>),
}

impl<T> Field<T> {
    /// The value with its place, if it was given and well-formed.
    pub(super) fn given(&self) -> Option<&At<T>> {
        match self {
            Self::Given(at) => Some(at),
            Self::Absent | Self::Invalid => None,
        }
    }

    /// The value, if it was given and well-formed.
    pub(super) fn value(&self) -> Option<&T> {
        self.given().map(|at| &at.value)
    }

    /// Whether the key is there, well-formed or not.
    pub(super) fn is_present(&self) -> bool {
        !matches!(self, Self::Absent)
    }
}

impl<T: Copy> Field<T> {
    /// The value, or what holds where none was given.
    pub(super) fn or(&self, default: T) -> T {
        self.value().copied().unwrap_or(default)
    }
}

/// How a scalar is read.
pub(super) struct Kind<T> {
    /// Completes the sentence "expected ...".
    pub(super) expected: &'static str,
    /// What the schema says of it.
    pub(super) shape: Shape,
    /// The value, if it is well-formed.
    pub(super) read: fn(&Node) -> Option<T>,
    /// Whether an error may show what was found.
    pub(super) secret: bool,
}

impl<T> Kind<T> {
    pub(super) const fn new(expected: &'static str, shape: Shape, read: fn(&Node) -> Option<T>) -> Self {
        Self { expected, shape, read, secret: false }
    }

    /// For values that must not appear in errors and logs.
    pub(super) const fn secret(expected: &'static str, shape: Shape, read: fn(&Node) -> Option<T>) -> Self {
        Self { expected, shape, read, secret: true }
    }

    /// Reads a node that stands by itself, such as an item of a list.
    pub(super) fn decode(&self, node: &Node, place: Place, issues: &mut Issues) -> Option<At<T>> {
        if let Some(sketch) = issues.sketch() {
            sketch.note(Drawn::Scalar(self.expected, self.shape));
            return None;
        }
        match (self.read)(node) {
            Some(value) => Some(At { value, place }),
            None => {
                let found = if self.secret { node.concealed() } else { node.shown() };
                issues.error(&place, found, self.expected);
                None
            }
        }
    }
}

/// What a list may hold.
pub(super) struct List {
    expected: &'static str,
    may_be_empty: bool,
}

impl List {
    /// A list of any length.
    pub(super) const fn any(expected: &'static str) -> Self {
        Self { expected, may_be_empty: true }
    }

    /// A list of at least one item.
    pub(super) const fn not_empty(expected: &'static str) -> Self {
        Self { expected, may_be_empty: false }
    }
}

/// An opened mapping.
pub(super) struct Fields<'a> {
    place: Place,
    entries: Vec<Entry<'a>>,
}

struct Entry<'a> {
    name: String,
    node: &'a Node,
}

impl<'a> Fields<'a> {
    /// Opens a mapping whose keys are `allowed`; reports the other ones and repeated ones. `None` if it is no
    /// mapping.
    pub(super) fn open(
        node: &'a Node,
        place: Place,
        allowed: &[&str],
        expected: &str,
        issues: &mut Issues,
    ) -> Option<Self> {
        if let Some(sketch) = issues.sketch() {
            sketch.note(Drawn::Map(Vec::new()));
            return Some(Self { place, entries: Vec::new() });
        }
        let Value::Map(pairs) = &node.value else {
            issues.error(&place, node.shown(), expected);
            return None;
        };
        let mut entries: Vec<Entry<'a>> = Vec::with_capacity(pairs.len());
        let mut seen: Vec<(&str, Position)> = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let name = key.text().map_or_else(|| key.shown(), str::to_owned);
            let Some(&known) = allowed.iter().find(|known| **known == name) else {
                let here = place.key(&name, key.at);
                issues.error(&here, "an unknown key", among(&name, allowed));
                continue;
            };
            if let Some((_, first)) = seen.iter().find(|(other, _)| *other == known) {
                let expected = format!("it once (it is already in line {})", first.line);
                issues.error(&place.key(&name, key.at), "a repeated key", expected);
                continue;
            }
            seen.push((known, key.at));
            entries.push(Entry { name, node: value });
        }
        Some(Self { place, entries })
    }

    /// A field that may be missing.
    pub(super) fn optional<T>(&self, name: &str, kind: &Kind<T>, issues: &mut Issues) -> Field<T> {
        if let Some(sketch) = issues.sketch() {
            sketch.key(name, vec![Drawn::Scalar(kind.expected, kind.shape)]);
            return Field::Absent;
        }
        let Some((node, place)) = self.entry(name) else {
            return Field::Absent;
        };
        kind.decode(node, place, issues).map_or(Field::Invalid, Field::Given)
    }

    /// A field that has to be there.
    pub(super) fn required<T>(&self, name: &str, kind: &Kind<T>, issues: &mut Issues) -> Field<T> {
        let field = self.optional(name, kind, issues);
        self.demand(field, name, kind.expected, issues)
    }

    /// A field whose value is read by `decode`, for values that are not scalars.
    pub(super) fn with<T>(
        &self,
        name: &str,
        issues: &mut Issues,
        decode: impl FnOnce(&Node, Place, &mut Issues) -> Option<T>,
    ) -> Field<T> {
        if let Some(sketch) = issues.sketch() {
            sketch.enter();
            let values = drawn(issues, decode);
            issues.sketch().expect("it stays").key(name, values);
            return Field::Absent;
        }
        let Some((node, place)) = self.entry(name) else {
            return Field::Absent;
        };
        let value = decode(node, place.clone(), issues);
        value.map_or(Field::Invalid, |value| Field::Given(At { value, place }))
    }

    /// A list whose items are read by `decode`. Items that fail are left out; they have been reported.
    pub(super) fn list<T>(
        &self,
        name: &str,
        list: &List,
        issues: &mut Issues,
        mut decode: impl FnMut(&Node, Place, &mut Issues) -> Option<T>,
    ) -> Field<Vec<T>> {
        if let Some(sketch) = issues.sketch() {
            sketch.enter();
            let items = drawn(issues, decode);
            let list = Drawn::List { items, may_be_empty: list.may_be_empty };
            issues.sketch().expect("it stays").key(name, vec![list]);
            return Field::Absent;
        }
        self.with(name, issues, |node, place, issues| {
            let Value::List(nodes) = &node.value else {
                issues.error(&place, node.shown(), list.expected);
                return None;
            };
            if nodes.is_empty() && !list.may_be_empty {
                issues.error(&place, "an empty list", list.expected);
                return None;
            }
            let items = nodes.iter().enumerate();
            Some(items.filter_map(|(index, item)| decode(item, place.item(index, item.at), issues)).collect())
        })
    }

    /// A list that has to be there.
    pub(super) fn required_list<T>(
        &self,
        name: &str,
        list: &List,
        issues: &mut Issues,
        decode: impl FnMut(&Node, Place, &mut Issues) -> Option<T>,
    ) -> Field<Vec<T>> {
        let field = self.list(name, list, issues, decode);
        self.demand(field, name, list.expected, issues)
    }

    /// Reports a field that is absent although it has to be there.
    pub(super) fn demand<T>(
        &self,
        field: Field<T>,
        name: &str,
        expected: &str,
        issues: &mut Issues,
    ) -> Field<T> {
        if let Some(sketch) = issues.sketch() {
            sketch.require(name);
            return field;
        }
        match field {
            Field::Absent => {
                issues.error(&self.place.missing(name), "nothing", expected);
                Field::Invalid
            }
            field => field,
        }
    }

    fn entry(&self, name: &str) -> Option<(&'a Node, Place)> {
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        Some((entry.node, self.place.key(name, entry.node.at)))
    }
}

/// What a value may be that `decode` reads, which was begun in the sketch.
fn drawn<T>(issues: &mut Issues, decode: impl FnOnce(&Node, Place, &mut Issues) -> Option<T>) -> Vec<Drawn> {
    // What is read while nothing is there comes to nothing.
    drop(decode(&Node::nothing(), Place::file(), issues));
    issues.sketch().map(Sketch::leave).unwrap_or_default()
}

/// The allowed keys as a phrase, with the one that was probably meant.
fn among(name: &str, allowed: &[&str]) -> String {
    let list = format!("one of {}", allowed.join(", "));
    match nearest(name, allowed) {
        Some(meant) => format!("{list}; did you mean {meant}?"),
        None => list,
    }
}

/// The most similar of the allowed keys, if it is similar at all.
fn nearest<'k>(name: &str, allowed: &[&'k str]) -> Option<&'k str> {
    const LONGEST: usize = 32;
    if name.chars().count() > LONGEST {
        return None;
    }
    let folded = name.to_lowercase().replace('-', "_");
    let (distance, meant) = allowed.iter().map(|key| (distance(&folded, key), *key)).min()?;
    (distance <= (meant.len() / 3).max(1)).then_some(meant)
}

/// How many insertions, deletions, replacements and swaps of neighbours lead from one text to the other
/// (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let changed = usize::from(from[i - 1] != to[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + changed);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_counted_in_edits() {
        for (from, to, edits) in [
            ("port", "port", 0),
            ("prot", "port", 1),
            ("", "port", 4),
            ("wieght", "weight", 1),
            ("a", "xyz", 3),
        ] {
            assert_eq!(distance(from, to), edits, "{from} -> {to}");
            assert_eq!(distance(to, from), edits, "{to} -> {from}");
        }
    }

    #[test]
    fn a_similar_key_is_suggested_and_a_strange_one_is_not() {
        let keys = ["name", "address", "weight", "on_down"];
        assert_eq!(nearest("adress", &keys), Some("address"));
        assert_eq!(nearest("on-down", &keys), Some("on_down"));
        assert_eq!(nearest("Weight", &keys), Some("weight"));
        assert_eq!(nearest("timeout", &keys), None);
        assert_eq!(nearest(&"x".repeat(100_000), &keys), None);
    }
}
