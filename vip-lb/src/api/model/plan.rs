//! A change of the configuration as it is seen before it is made.

use std::{fmt, net::IpAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::model::{Ports, Protocol};

/// What a change would do to the running state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The short answer.
    pub outcome: Outcome,
    /// What differs from the configuration in force.
    pub changes: Vec<Change>,
    /// The services that the change concerns.
    pub services: Vec<ServicePlan>,
    /// Connections that would be lost.
    pub lost: Vec<Loss>,
    /// What the plan takes for granted, one lower-case phrase each, such as that a new backend passes its check.
    pub assumptions: Vec<String>,
    /// What the file says that is valid but doubtful, and what cannot be brought about, one line each.
    pub warnings: Vec<String>,
}

impl Plan {
    /// That of a file that means what is in force.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            outcome: Outcome::Nothing,
            changes: Vec::new(),
            services: Vec::new(),
            lost: Vec::new(),
            assumptions: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// Whether a change is safe to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The file means what is in force.
    Nothing,
    /// Something changes, and every connection stays.
    Safe,
    /// The connections of [`Plan::lost`] are lost.
    LosesConnections,
}

/// One difference between two configurations. Its text is a line for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// What it is about.
    pub subject: Subject,
    /// The name of that: an address, `SERVICE` or `SERVICE/BACKEND`; absent for the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happens to it.
    pub action: ChangeAction,
    /// The key whose value changes, as in the file; only of what is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value in force; absent if it is none, or not to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The value that it gets, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// What becomes of connections, if that has to be said: a lower-case phrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a change is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// This machine.
    Node,
    /// Everything at the address of a backend.
    Host,
    /// A virtual IP.
    Vip,
    /// A service.
    Service,
    /// A backend of a service.
    Backend,
}

/// What happens to something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeAction {
    /// It is new.
    Added,
    /// It goes.
    Removed,
    /// It stays and is not as it was.
    Changed,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.subject {
            Subject::Node => "node",
            Subject::Host => "host",
            Subject::Vip => "VIP",
            Subject::Service => "service",
            Subject::Backend => "backend",
        })?;
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        f.write_str(": ")?;
        match (self.action, &self.key) {
            (ChangeAction::Added, _) => f.write_str("added")?,
            (ChangeAction::Removed, _) => f.write_str("removed")?,
            (ChangeAction::Changed, None) => f.write_str("changed")?,
            (ChangeAction::Changed, Some(key)) => match (&self.from, &self.to) {
                (None, None) => write!(f, "{key} changed")?,
                (from, to) => {
                    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
                    write!(f, "{key} {} -> {}", shown(from), shown(to))?;
                }
            },
        }
        self.note.as_ref().map_or(Ok(()), |note| write!(f, ", {note}"))
    }
}

/// What a change does to a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServicePlan {
    /// Its name, the new one if that changes.
    pub name: String,
    /// The address clients dial.
    pub vip: IpAddr,
    /// A number, 0 for every port; of a range a text such as `8000-8999`.
    pub port: Ports,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// What happens to it.
    pub action: ChangeAction,
    /// Size of its Maglev table.
    pub ring_slots: u32,
    /// Slots whose new connections go to another backend than before.
    pub moved_slots: u32,
    /// The same as a share of the ring, 0 to 1.
    pub moved_share: f64,
    /// Those of them that remember the backend they had, so that its connections stay.
    pub remembering_slots: u32,
    /// Connections begun per second, over the last minute or since the daemon started.
    pub new_connections_per_second: f64,
    /// Estimate of the connections that will be recorded because of the change, at the most at a time: those begun in the moved slots
    /// within one idle timeout. Absent where beginnings are not visible (UDP, affinity by source): then every flow of a moved slot is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_estimate: Option<u64>,
    /// Seconds that the moved slots stay open at least.
    pub idle_timeout: u64,
    /// Its backends before and after, in the order of their addresses.
    pub backends: Vec<BackendPlan>,
}

/// What a change does to a backend of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackendPlan {
    /// Its name; of one that left the configuration earlier, its address.
    pub name: String,
    /// Its own address, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Slots whose new connections it gets now.
    pub slots_before: u32,
    /// Slots whose new connections it would get.
    pub slots_after: u32,
    /// What becomes of the connections that it has.
    pub connections: ConnectionFate,
}

/// What becomes of the connections of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionFate {
    /// It can have none.
    None,
    /// They stay until they end.
    Kept,
    /// They are lost.
    Lost,
}

/// Connections that would be lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Loss {
    /// Whose: `SERVICE/BACKEND`, or `interface NAME` for what comes in there.
    pub of: String,
    /// Why: a lower-case phrase such as `disabled in the configuration`.
    pub reason: String,
    /// Recorded flows among them; exact.
    pub recorded: u64,
    /// Translated connections among them (mode nat); exact.
    pub translated: u64,
    /// Connections begun on the backend per second, over the last minute or since the daemon started: what can be said of its settled ones,
    /// which are not recorded.
    pub new_connections_per_second: f64,
}

/// Body of `POST /v1/plan` and `POST /v1/reload`: which configuration is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigRequest {
    /// A text instead of the file that the daemon was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<ConfigText>,
    /// A configuration that was in force, by its number, instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// A configuration that is not in the daemon's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigText {
    /// What it is called in errors and status, such as the path of the file that it was read from.
    pub name: String,
    /// The text, YAML as in a file.
    pub yaml: String,
}

/// The configurations that were in force and are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revisions {
    /// The oldest first.
    pub revisions: Vec<RevisionInfo>,
    /// Folder that they are kept in.
    pub folder: PathBuf,
}

/// A configuration that was in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevisionInfo {
    /// Counts the configurations that came in force.
    pub number: u64,
    /// When it came in force, Unix seconds.
    pub since: u64,
    /// Fingerprint of its text, as in the status.
    pub hash: String,
    /// Length of its text.
    pub bytes: u64,
    /// Whether it is the one in force.
    pub in_force: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_line() {
        let change = |subject, name: Option<&str>, action| Change {
            subject,
            name: name.map(str::to_owned),
            action,
            key: None,
            from: None,
            to: None,
            note: None,
        };
        let keyed = |key: &str, from: Option<&str>, to: Option<&str>| Change {
            key: Some(key.into()),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
            ..change(Subject::Backend, Some("web/b"), ChangeAction::Changed)
        };
        for (change, line) in [
            (change(Subject::Vip, Some("192.0.2.1"), ChangeAction::Added), "VIP 192.0.2.1: added"),
            (keyed("weight", Some("100"), Some("7")), "backend web/b: weight 100 -> 7"),
            (keyed("port", None, Some("80")), "backend web/b: port none -> 80"),
            (keyed("health", None, None), "backend web/b: health changed"),
            (
                Change {
                    note: Some("its connections stay until they end".into()),
                    ..change(Subject::Backend, Some("web/b"), ChangeAction::Removed)
                },
                "backend web/b: removed, its connections stay until they end",
            ),
            (
                Change {
                    key: Some("gue_port".into()),
                    from: Some("1".into()),
                    to: Some("2".into()),
                    ..change(Subject::Node, None, ChangeAction::Changed)
                },
                "node: gue_port 1 -> 2",
            ),
        ] {
            assert_eq!(change.to_string(), line);
        }
    }
}
