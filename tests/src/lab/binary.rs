//! Finds the program under test.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// Where the binary under test is: `VIP_LB_BIN`, or what cargo built next to this program.
///
/// # Errors
///
/// There is none.
pub fn daemon_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("VIP_LB_BIN") {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "VIP_LB_BIN names {}, which is no file", path.display());
        return Ok(path);
    }
    let own = std::env::current_exe().context("find the path of this program")?;
    let candidates = own.ancestors().skip(1).take(2).map(|folder| folder.join("vip-lb"));
    for candidate in candidates {
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!("no vip-lb next to {}: run `cargo build -p vip-lb` or set VIP_LB_BIN", own.display())
}
