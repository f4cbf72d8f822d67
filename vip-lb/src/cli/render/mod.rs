//! Answers of the daemon as text for people. Pure: the time and the terminal's abilities are passed in.

mod counters;
mod event;
mod explanation;
mod findings;
mod handover;
mod peering;
mod plan;
pub(in crate::cli) mod quantity;
mod reports;
mod status;
mod table;
mod vip;
mod watched;

pub(super) use counters::counters;
pub(super) use event::event;
pub(super) use explanation::explanation;
pub(super) use findings::findings;
pub(super) use handover::moved;
pub(super) use peering::peers;
pub(super) use plan::plan;
pub(super) use reports::{drain, node, reload, revisions};
pub(super) use status::{latencies, milliseconds, notes as backend_notes, status, weight};
pub(super) use vip::vips;
pub(super) use watched::{fate, watched};

use std::{
    fmt,
    io::{self, IsTerminal},
};

use crate::config::model::{Affinity, Protocol};

/// What the reader's end can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Text alone.
    Plain,
    /// Words that matter in colour.
    Coloured,
}

impl Style {
    /// Colour if standard output is a terminal and NO_COLOR is not set (<https://no-color.org>).
    pub(super) fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if io::stdout().is_terminal() && !unwanted { Self::Coloured } else { Self::Plain }
    }
}

/// Whether a word is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Tone {
    Neutral,
    Good,
    Doubtful,
    Bad,
}

/// A text in the colour of its tone; padding is the caller's, as escape sequences take no room.
struct Toned<'a>(&'a str, Tone, Style);

impl fmt::Display for Toned<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text, tone, style) = *self;
        let colour = match (style, tone) {
            (Style::Plain, _) | (_, Tone::Neutral) => return f.write_str(text),
            (_, Tone::Good) => 32,
            (_, Tone::Doubtful) => 33,
            (_, Tone::Bad) => 31,
        };
        write!(f, "\x1b[{colour}m{text}\x1b[0m")
    }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn affinity(affinity: Affinity) -> &'static str {
    match affinity {
        Affinity::Flow => "flow",
        Affinity::Source => "source",
    }
}
