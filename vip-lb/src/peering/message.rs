//! What nodes tell each other, as JSON.
//!
//! Nodes of different releases speak with each other while a group is upgraded: fields that one does not know are passed over, those that it misses
//! have a default, and a message of a kind that it does not know means nothing to it.

use serde::{Deserialize, Serialize};

use super::{flows::Flows, statement::Statement};
use crate::state::SharedOrder;

/// Something told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body", rename_all = "snake_case")]
pub enum Message {
    /// How this node is.
    Statement(Box<Statement>),
    /// The last words about orders of operators, as far as they may be news.
    Orders(Vec<SharedOrder>),
    /// What its slots remember, and which flows are recorded in them.
    Flows(Box<Flows>),
    /// Not all of that could be taken in: it is to be told from the beginning.
    FlowsAgain,
    /// Flows are about to move here: all that is recorded is to be told, and nothing more to be recorded for a moment.
    Prepare,
    /// That was done; all was told before this.
    Prepared,
}

/// A frame from the node that is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// The number of the last message that it has taken in, with all before it.
    #[serde(default)]
    pub taken: u64,
}

/// What a frame said.
#[derive(Clone, Debug, PartialEq)]
pub enum Understood {
    /// It is only a sign of life.
    Alive,
    /// A message and its number.
    Message(u64, Message),
    /// A message that this release does not understand, with its number, and why.
    Unknown(u64, String),
}

/// Puts a message into words.
#[must_use]
pub fn encode(number: u64, message: Option<&Message>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Outgoing<'m> {
        number: u64,
        #[serde(flatten, skip_serializing_if = "Option::is_none")]
        message: Option<&'m Message>,
    }
    serde_json::to_vec(&Outgoing { number, message }).expect("messages are plain data")
}

/// Reads the words of the other node.
///
/// # Errors
///
/// They are not even a numbered message.
pub fn decode(content: &[u8]) -> Result<Understood, String> {
    #[derive(Deserialize)]
    struct Number {
        number: u64,
        kind: Option<String>,
    }
    let Number { number, kind } = serde_json::from_slice(content).map_err(|error| error.to_string())?;
    let Some(kind) = kind else { return Ok(Understood::Alive) };
    Ok(match serde_json::from_slice(content) {
        Ok(message) => Understood::Message(number, message),
        Err(error) => Understood::Unknown(number, format!("{kind}: {error}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood_by_other_releases() {
        let message = Message::Statement(Box::default());
        let text = encode(7, Some(&message));
        assert_eq!(decode(&text), Ok(Understood::Message(7, message)));
        assert_eq!(encode(0, None), br#"{"number":0}"#);
        assert_eq!(decode(br#"{"number":0, "mood": "good"}"#), Ok(Understood::Alive));
        let newer = br#"{"number":3,"kind":"statement","body":{"node":"lb-2","mood":"good"},"mood":"good"}"#;
        let Ok(Understood::Message(3, Message::Statement(statement))) = decode(newer) else {
            panic!("fields that nobody knows are no fault")
        };
        assert_eq!(statement.node, "lb-2");
        let unknown = decode(br#"{"number":4,"kind":"mood","body":["good"]}"#);
        assert!(
            matches!(&unknown, Ok(Understood::Unknown(4, why)) if why.starts_with("mood: ")),
            "{unknown:?}"
        );
        let strange = decode(br#"{"number":4,"kind":"statement","body":{"node":["good"]}}"#);
        assert!(
            matches!(&strange, Ok(Understood::Unknown(4, why)) if why.starts_with("statement: ")),
            "{strange:?}"
        );
        for text in ["", "{}", "[]", "7", r#"{"number":-1}"#] {
            assert!(decode(text.as_bytes()).is_err(), "{text}");
        }
    }
}
