//! The `vip-lb` command.

use std::process::ExitCode;

use clap::Parser;
use vip_lb::cli::{self, arguments::Cli};

fn main() -> ExitCode {
    cli::execute(Cli::parse()).into()
}
