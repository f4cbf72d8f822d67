//! Writing to standard output and standard error.

use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;

use crate::api::ClientError;
use crate::config::InvalidConfig;

/// Whether somebody still reads what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    There,
    Gone,
}

/// Prints a text on standard output. A reader that went away has had enough: that is success.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    print_some(text).map(|_| ())
}

/// Prints a part of a text that goes on, and tells whether there is a point in going on.
pub(super) fn print_some(text: &str) -> anyhow::Result<Reader> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        result => result.map(|()| Reader::There).context("cannot write to standard output"),
    }
}

/// Says something on standard error that is no error.
pub(super) fn note(text: &str) {
    // If standard error is gone, nobody wants to know.
    let _ = writeln!(io::stderr().lock(), "vip-lb: {text}");
}

/// Prints an answer for scripts, indented, with a newline at the end.
pub(super) fn print_json(answer: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(answer).context("cannot write the answer as JSON")?;
    text.push('\n');
    print(&text)
}

/// Says something on standard error that is no part of the answer.
pub(super) fn remark(text: &str) {
    // Nobody misses it if standard error is gone.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Says on standard error what went wrong.
pub(super) fn complain(error: &anyhow::Error) {
    // If standard error is gone, the exit code has to do.
    let _ = io::stderr().lock().write_all(complaint(error).as_bytes());
}

/// The error, the details it carries, and what caused it, one per line.
fn complaint(error: &anyhow::Error) -> String {
    let mut text = format!("vip-lb: {error}\n");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("  caused by: {cause}\n"));
    }
    for cause in error.chain() {
        let details = if let Some(invalid) = cause.downcast_ref::<InvalidConfig>() {
            &invalid.mistakes
        } else if let Some(ClientError::Refused(refusal)) = cause.downcast_ref() {
            &refusal.details
        } else {
            continue;
        };
        for detail in details {
            text.push_str(&format!("  {detail}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::ApiError;

    #[test]
    fn a_complaint_has_causes_and_details() {
        let error = anyhow::anyhow!("permission denied").context("cannot attach to eth0");
        assert_eq!(complaint(&error), "vip-lb: cannot attach to eth0\n  caused by: permission denied\n");

        let mistakes = vec!["line 3: one".to_owned(), "line 9: two".to_owned()];
        let invalid = InvalidConfig { path: "a.yaml".into(), mistakes: mistakes.clone() };
        assert_eq!(
            complaint(&invalid.into()),
            "vip-lb: a.yaml is not a valid configuration\n  line 3: one\n  line 9: two\n"
        );

        let refused = ClientError::Refused(ApiError::invalid_config("a.yaml has mistakes", mistakes));
        assert_eq!(complaint(&refused.into()), "vip-lb: a.yaml has mistakes\n  line 3: one\n  line 9: two\n");
    }
}
