//! Settings of the network stack under `/proc/sys`, of the network namespace of the calling thread.

use std::{fmt, fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The name of a setting that holds a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sysctl(Vec<String>);

impl Sysctl {
    /// By its path below `/proc/sys`, for settings that belong to no interface: `net/core/bpf_jit_enable`.
    #[must_use]
    pub fn global(path: &str) -> Self {
        Self(path.split('/').map(str::to_owned).collect())
    }

    /// Of an interface, or of `all` of them, in IPv4: `net/ipv4/conf/INTERFACE/NAME`.
    #[must_use]
    pub fn ipv4(interface: &str, name: &str) -> Self {
        Self::of_interface("ipv4", interface, name)
    }

    /// As [`Self::ipv4`], in IPv6.
    #[must_use]
    pub fn ipv6(interface: &str, name: &str) -> Self {
        Self::of_interface("ipv6", interface, name)
    }

    /// What it is at the moment.
    ///
    /// # Errors
    ///
    /// There is no such setting, or it holds no number.
    pub fn read(&self) -> io::Result<i64> {
        let text = fs::read_to_string(self.path())?;
        text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Changes it.
    ///
    /// # Errors
    ///
    /// There is no such setting, the value is refused, or the caller lacks `CAP_NET_ADMIN`.
    pub fn write(&self, value: i64) -> io::Result<()> {
        fs::write(self.path(), value.to_string())
    }

    fn of_interface(family: &str, interface: &str, name: &str) -> Self {
        Self(["net", family, "conf", interface, name].map(str::to_owned).to_vec())
    }

    fn path(&self) -> PathBuf {
        let mut path = PathBuf::from("/proc/sys");
        path.extend(&self.0);
        path
    }
}

/// As sysctl(8) takes it: points between the parts, and a slash for a point in the name of an interface.
impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            let separator = if index > 0 { "." } else { "" };
            write!(f, "{separator}{}", part.replace('.', "/"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_in_an_interfaces_name_is_no_separator() {
        let setting = Sysctl::ipv4("eth0.100", "rp_filter");
        assert_eq!(setting.to_string(), "net.ipv4.conf.eth0/100.rp_filter");
        assert_eq!(setting.path(), PathBuf::from("/proc/sys/net/ipv4/conf/eth0.100/rp_filter"));
    }

    #[test]
    fn what_is_there_is_read_and_what_is_not_is_an_error() {
        assert!(Sysctl::ipv4("lo", "arp_ignore").read().is_ok());
        let missing = Sysctl::ipv4("no-such-device", "arp_ignore").read().unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
