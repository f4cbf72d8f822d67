//! The YAML text as a tree of values that know their line and column.
//!
//! Nothing is given a meaning here, so that one pass over the text suffices and every later complaint can
//! point at its place.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_yaml::{DuplicateKeyPolicy, MessageFormatter, NonFiniteFloatPolicy, Spanned, UserMessageFormatter};

/// Line and column, both counted from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) column: u64,
}

/// A value and where it is written; for an alias, where its anchor is.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

/// What YAML takes a value for. Numbers in unusual spellings (`007`, `1_000`) stay text.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file, with repeated keys.
    Map(Vec<(Node, Node)>),
}

/// Why the text is no YAML document.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub(super) at: Option<Position>,
    pub(super) reason: String,
}

/// Reads one YAML document.
pub(super) fn read(text: &str) -> Result<Node, SyntaxError> {
    serde_yaml::from_str_with_options(text, options()).map_err(|error| SyntaxError {
        at: error.location().and_then(position),
        reason: one_line(&UserMessageFormatter.format_message(error.without_snippet())),
    })
}

impl Node {
    /// What stands where no file is read.
    pub(super) fn nothing() -> Self {
        Self { at: Position { line: 1, column: 1 }, value: Value::Null }
    }

    /// The text, if it is text.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number, if it is one from `low` to `high`.
    pub(super) fn integer<T: TryFrom<i128>>(&self, low: i128, high: i128) -> Option<T> {
        match self.value {
            Value::Integer(number) if (low..=high).contains(&number) => T::try_from(number).ok(),
            _ => None,
        }
    }

    /// What can be said of a value that must not be shown.
    pub(super) fn concealed(&self) -> String {
        match self.text() {
            Some(text) => format!("text of {} characters", text.chars().count()),
            None => self.kind().to_owned(),
        }
    }

    fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "an empty value",
            Value::Bool(_) => "a truth value",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The value as an error shows it, on one line and of bounded length.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            Value::Bool(value) => value.to_string(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Text(text) => quoted(text),
            Value::Null | Value::List(_) | Value::Map(_) => self.kind().to_owned(),
        }
    }
}

/// Text in quotes with control characters escaped, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The reader's own words, of which some quote the file.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Only safety limits and the preservation of what was written differ from the reader's defaults: a file at
/// the limits of `validate` (65535 backends) has to fit, a bomb of aliases must not.
fn options() -> serde_yaml::Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_events: 8_000_000,
            max_nodes: 4_000_000,
            max_depth: 32,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: 300_000 },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
        emit_comments: false,
        with_snippet: false,
    }
}

fn position(location: serde_yaml::Location) -> Option<Position> {
    (location.line() > 0).then(|| Position { line: location.line(), column: location.column() })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let at = position(spanned.defined).unwrap_or(Position { line: 1, column: 1 });
        Ok(Self { at, value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u64, column: u64) -> Position {
        Position { line, column }
    }

    fn entries(node: &Node) -> &[(Node, Node)] {
        match &node.value {
            Value::Map(entries) => entries,
            other => panic!("expected a mapping, got {other:?}"),
        }
    }

    #[test]
    fn every_key_and_value_knows_its_place() {
        let root = read("a: 1\nb:\n  - x\n  - {c: ü, d: 2s}\n").unwrap();
        let root = entries(&root);
        assert_eq!((root[0].0.at, root[0].1.at), (at(1, 1), at(1, 4)));
        assert_eq!(root[1].0.at, at(2, 1));
        let Value::List(items) = &root[1].1.value else { panic!("b is a list") };
        assert_eq!(items[0].at, at(3, 5));
        let inner = entries(&items[1]);
        assert_eq!((inner[0].0.at, inner[0].1.at), (at(4, 6), at(4, 9)));
        assert_eq!((inner[1].0.at, inner[1].1.at), (at(4, 12), at(4, 15)));
    }

    #[test]
    fn scalars_keep_their_spelling_where_it_matters() {
        for (text, shown) in [
            ("70000", "70000"),
            ("-1", "-1"),
            ("007", "\"007\""),
            ("1_000", "\"1_000\""),
            ("\"80\"", "\"80\""),
            ("on", "\"on\""),
            ("true", "true"),
            ("1.5", "1.5"),
            (".nan", "\".nan\""),
            ("200-399", "\"200-399\""),
            ("fd00::1", "\"fd00::1\""),
            ("::1", "\"::1\""),
            ("1:30:00", "\"1:30:00\""),
            ("2026-11-22", "\"2026-11-22\""),
            ("~", "an empty value"),
            ("\"a\\tb\\e[31m\"", "\"a\\tb\\u{1b}[31m\""),
        ] {
            let root = read(&format!("k: {text}\n")).unwrap();
            assert_eq!(entries(&root)[0].1.shown(), shown, "{text}");
        }
    }

    #[test]
    fn repeated_keys_are_all_kept() {
        let root = read("a: 1\na: 2\n").unwrap();
        assert_eq!(entries(&root).len(), 2);
    }

    #[test]
    fn an_alias_points_at_its_anchor_and_a_merge_is_expanded() {
        let root = read("a: &x {k: 1}\nb: *x\nc: {<<: *x, l: 2}\n").unwrap();
        let root = entries(&root);
        assert_eq!(entries(&root[1].1)[0].1.at, at(1, 11));
        assert_eq!(entries(&root[2].1).len(), 2);
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let below = level - 1;
            let items = vec![format!("*a{below}"); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert!(read(&text).is_err());
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert!(read(&"[".repeat(10_000)).is_err());
        assert!(read(&format!("a: {}{}", "[".repeat(200), "]".repeat(200))).is_err());
    }
}
