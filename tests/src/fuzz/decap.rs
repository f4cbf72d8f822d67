//! The decapsulator: one frame.

use super::pipeline;
use crate::program::Program;

/// Runs a frame.
pub fn one(data: &[u8]) {
    pipeline::run(Program::Decapsulator, &[data]);
}
