//! Whether a program needs anything else to start.

use anyhow::{Context as _, Result, ensure};

/// The kinds of program headers that name a dynamic linker (elf(5)).
const PT_INTERP: u32 = 3;

/// Whether a 64-bit, little-endian program starts without a dynamic linker.
pub(super) fn is_static(program: &[u8]) -> Result<bool> {
    ensure!(program.starts_with(b"\x7fELF\x02\x01"), "not a 64-bit, little-endian ELF file");
    let offset = number(program, 32, 8)?;
    let (size, count) = (number(program, 54, 2)?, number(program, 56, 2)?);
    for index in 0..count {
        if number(program, offset + index * size, 4)? == PT_INTERP as usize {
            return Ok(false);
        }
    }
    Ok(true)
}

fn number(bytes: &[u8], at: usize, len: usize) -> Result<usize> {
    let bytes = bytes.get(at..at + len).context("the file ends inside its headers")?;
    Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_linker_is_found_among_the_headers() {
        let mut program = vec![0; 64 + 2 * 56];
        program[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (program[32], program[54], program[56]) = (64, 56, 2);
        assert!(is_static(&program).unwrap());
        program[64 + 56] = 3;
        assert!(!is_static(&program).unwrap());
        program.truncate(100);
        assert!(is_static(&program).is_err());
        assert!(is_static(b"#!/bin/sh").is_err());
    }

    #[test]
    fn this_test_is_linked_dynamically() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(!is_static(&own).unwrap());
    }
}
