//! The JSON Schema of the file (draft 7, which editors know), for completion and checks while somebody types.
//!
//! Its structure is drawn by the decoder ([`sketch`](super::sketch)), its words are those of docs/configuration.md. What no schema can say (that
//! names are unique, say) is left to [`parse`](super::parse).

use serde_json::{Map, Value, json};

use super::{
    raw,
    sketch::{Drawn, Key, Shape},
};

/// The page that explains every key.
const MANUAL: &str = include_str!("../../../docs/configuration.md");

/// The schema of a configuration file.
#[must_use]
pub fn schema() -> Value {
    let mut schema = any_of(&raw::sketch(), None);
    let fields = schema.as_object_mut().expect("a file is a mapping");
    fields.insert("$schema".to_owned(), "http://json-schema.org/draft-07/schema#".into());
    fields.insert("title".to_owned(), "vip-lb".into());
    fields.insert("description".to_owned(), "A node of vip-lb and everything it balances.".into());
    schema
}

/// What a value may be. `section` names the part of the manual that explains its keys.
fn any_of(values: &[Drawn], section: Option<&str>) -> Value {
    match values {
        [only] => value(only, section),
        several => json!({"anyOf": several.iter().map(|drawn| value(drawn, section)).collect::<Vec<_>>()}),
    }
}

fn value(drawn: &Drawn, section: Option<&str>) -> Value {
    match drawn {
        Drawn::Scalar(_, shape) => scalar(*shape),
        Drawn::List { items, may_be_empty } => {
            json!({"type": "array", "items": any_of(items, section), "minItems": u8::from(!may_be_empty)})
        }
        Drawn::Map(keys) => {
            let required: Vec<&str> =
                keys.iter().filter(|key| key.is_required).map(|key| key.name.as_str()).collect();
            let properties: Map<String, Value> =
                keys.iter().map(|key| (key.name.clone(), property(key, section))).collect();
            json!({
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": false,
            })
        }
    }
}

fn property(key: &Key, section: Option<&str>) -> Value {
    let mut value = any_of(&key.values, Some(&key.name));
    let expected = key.values.iter().find_map(|drawn| match drawn {
        Drawn::Scalar(expected, _) => Some(format!("Expected: {expected}")),
        Drawn::List { .. } | Drawn::Map(_) => None,
    });
    let explained = match section {
        Some(section) => row(section, &key.name),
        None => first_sentence(&key.name),
    };
    let words: Vec<String> = explained.into_iter().chain(expected).collect();
    value["description"] = words.join("\n\n").into();
    value
}

fn scalar(shape: Shape) -> Value {
    let integer = |(low, high): (i64, i64)| json!({"type": "integer", "minimum": low, "maximum": high});
    let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
    match shape {
        Shape::Text(pattern) => text(pattern),
        Shape::Truth => json!({"type": "boolean"}),
        Shape::Words(words) => json!({"enum": words}),
        Shape::Integer(low, high) => integer((low, high)),
        Shape::Numbers(numbers) => json!({"enum": numbers}),
        Shape::IntegerOrText(range, pattern) => json!({"anyOf": [integer(range), text(pattern)]}),
    }
}

/// What the manual says of a key, in the table under a heading or a bold word: meaning and default.
fn row(section: &str, key: &str) -> Option<String> {
    let (_, rest) = MANUAL
        .split_once(&format!("\n## `{section}`\n"))
        .or_else(|| MANUAL.split_once(&format!("\n**`{section}`.**")))?;
    let section = rest.split_once("\n## ").map_or(rest, |(section, _)| section);
    let rows = section.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let mut cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let quoted = format!("`{key}`");
    let found = cells
        .find(|cells| cells.first().is_some_and(|names| names.split(", ").any(|name| name == quoted)))?;
    let filled = |cell: usize| found.get(cell).copied().filter(|text| !text.is_empty());
    // What the manual says further down is not shown with the key.
    let meaning = filled(1).map(|text| format!("{}.", text.trim_end_matches(", see below")));
    let default = filled(2).filter(|text| !text.starts_with("see ")).map(|text| match text {
        "required" => "Required.".to_owned(),
        text => format!("Default: {text}."),
    });
    let parts: Vec<String> = meaning.into_iter().chain(default).collect();
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

/// The first sentence of a section.
fn first_sentence(section: &str) -> Option<String> {
    let (_, rest) = MANUAL.split_once(&format!("\n## `{section}`\n\n"))?;
    let (sentence, _) = rest.split_once('.')?;
    Some(format!("{}.", sentence.replace('\n', " ")))
}
