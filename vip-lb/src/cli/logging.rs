//! Where log lines go: to standard error, so that standard output is the command's answer alone.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::arguments::LogFormat;

/// Starts logging for a daemon. `verbose` is the number of `-v`; RUST_LOG, if set and not empty, decides instead.
pub(super) fn start(format: LogFormat, verbose: u8) {
    start_with(format, default_filter(verbose));
}

/// Starts logging for a command that does one thing: warnings and errors only, unless RUST_LOG asks for more.
pub(super) fn start_quiet() {
    start_with(LogFormat::Text, "warn");
}

fn default_filter(verbose: u8) -> &'static str {
    match verbose {
        0 => "info",
        // Of what libraries do underneath, debugging vip-lb seldom needs anything.
        1 => "info,vip_lb=debug",
        _ => "trace",
    }
}

fn start_with(format: LogFormat, default_filter: &str) {
    let filter = std::env::var(EnvFilter::DEFAULT_ENV)
        .ok()
        .filter(|directives| !directives.is_empty())
        .unwrap_or_else(|| default_filter.to_owned());
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).with_writer(io::stderr);
    // Fails only if a logger is set already, and then that one serves.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
