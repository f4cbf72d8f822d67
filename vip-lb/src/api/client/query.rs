//! What is asked, as the query of a request.

use crate::api::model::{ExplainRequest, WatchRequest};

/// Of `/v1/explain`.
pub(super) fn explain(request: &ExplainRequest) -> String {
    let ExplainRequest {
        source,
        source_port,
        destination,
        destination_port,
        protocol,
        packet,
        fragment_id,
        interface,
    } = request;
    joined([
        ("source", Some(source.to_string())),
        ("source_port", number(*source_port)),
        ("destination", Some(destination.to_string())),
        ("destination_port", number(*destination_port)),
        ("protocol", Some(protocol.to_string())),
        ("packet", Some(packet.to_string())),
        ("fragment_id", number(*fragment_id)),
        ("interface", interface.clone()),
    ])
}

/// Of `/v1/watch`.
pub(super) fn watch(request: &WatchRequest) -> String {
    let WatchRequest {
        source,
        source_port,
        destination,
        destination_port,
        protocol,
        interface,
        verdict,
        every,
        rate,
        bytes,
    } = request;
    joined([
        ("source", source.clone()),
        ("source_port", number(*source_port)),
        ("destination", destination.clone()),
        ("destination_port", number(*destination_port)),
        ("protocol", protocol.clone()),
        ("interface", interface.clone()),
        ("verdict", verdict.clone()),
        ("every", number(*every)),
        ("rate", number(*rate)),
        ("bytes", number(*bytes)),
    ])
}

fn number(number: Option<impl Into<u32>>) -> Option<String> {
    number.map(|number| number.into().to_string())
}

fn joined<const N: usize>(fields: [(&str, Option<String>); N]) -> String {
    let given = fields.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped(&value?))));
    given.collect::<Vec<_>>().join("&")
}

/// A value in a query (RFC 3986 section 2.1).
pub(super) fn escaped(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~,:/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_not_asked_and_what_would_mean_something_is_escaped() {
        assert_eq!(watch(&WatchRequest::default()), "");
        let request = WatchRequest {
            source: Some("2001:db8::/32".into()),
            interface: Some("a b&c".into()),
            bytes: Some(64),
            ..WatchRequest::default()
        };
        assert_eq!(watch(&request), "source=2001:db8::/32&interface=a%20b%26c&bytes=64");
    }
}
