//! The service's unit as far as the checks need it.

use std::fs;

use anyhow::{Context as _, Result};

use super::packaging;

/// The unit, as text.
pub(super) struct Unit {
    text: String,
}

impl Unit {
    /// The one in `packaging/`.
    pub(super) fn read() -> Result<Self> {
        let path = packaging().join("vip-lb.service");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(Self { text })
    }

    /// The text with another binary.
    pub(super) fn with_binary(&self, binary: &str) -> String {
        self.text.replace("/usr/sbin/vip-lb", binary)
    }

    /// The value of a key that is there once.
    pub(super) fn get(&self, key: &str) -> Result<&str> {
        let value = self.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.with_context(|| format!("the unit has no {key}="))
    }

    /// The capabilities that the service keeps, as setpriv(1) names them.
    pub(super) fn capabilities(&self) -> Result<Vec<String>> {
        let set = self.get("CapabilityBoundingSet")?;
        set.split_whitespace()
            .map(|name| {
                name.strip_prefix("CAP_")
                    .map(str::to_lowercase)
                    .with_context(|| format!("{name} is no capability"))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_capabilities_are_read() {
        let unit = Unit {
            text: "[Service]\nExecStart=/usr/sbin/vip-lb run\nCapabilityBoundingSet=CAP_NET_ADMIN CAP_BPF\n"
                .into(),
        };
        assert_eq!(unit.get("ExecStart").unwrap(), "/usr/sbin/vip-lb run");
        assert_eq!(unit.capabilities().unwrap(), ["net_admin", "bpf"]);
        assert!(unit.get("Exec").is_err() && unit.get("User").is_err());
        assert!(unit.with_binary("/bin/true").contains("ExecStart=/bin/true run"));
    }
}
