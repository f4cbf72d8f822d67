//! Where the BPF object comes from.

use vip_lb::dataplane::object;

/// The compiled programs, as the daemon carries them.
pub(super) fn object() -> anyhow::Result<Vec<u8>> {
    Ok(object::BYTES.to_vec())
}
