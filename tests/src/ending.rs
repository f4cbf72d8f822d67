//! How the programs of this package end.

use std::process::ExitCode;

use anyhow::Result;

/// The exit code for what a program found: 0 if all is well, 1 if something is not, or if it failed, which is then said.
#[must_use]
pub fn exit_code(program: &str, outcome: &Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
