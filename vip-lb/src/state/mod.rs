//! What outlives the daemon: the orders of operators, the configurations that were in force, and what happened.
//!
//! It lies in files, because it is to outlive a reboot too. Forwarding needs none of it: a disk that is full, read-only or does not answer costs
//! what is kept, and a warning in status. Files are read and written by a thread of their own ([`keeper`]), so that a slow disk delays nobody.

pub mod folder;
pub mod history;
pub mod keeper;
pub mod orders;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use folder::{Folder, Revision};
pub use history::{History, Keeping};
pub use keeper::{Keeper, Kept};
pub use orders::{Order, OrderKey, OrderKind, Orders, Ruling, SharedOrder, Target};

/// Where the state is kept unless told otherwise.
pub const DEFAULT_FOLDER: &str = "/var/lib/vip-lb";

/// The folder of the state: the configured one, else the one that systemd made (`StateDirectory=`, systemd.exec(5)), else [`DEFAULT_FOLDER`].
#[must_use]
pub fn folder_of(configured: Option<&Path>) -> PathBuf {
    let of_systemd = || {
        let folders = std::env::var_os("STATE_DIRECTORY")?;
        std::env::split_paths(&folders).find(|folder| folder.is_absolute())
    };
    configured.map(Path::to_owned).or_else(of_systemd).unwrap_or_else(|| PathBuf::from(DEFAULT_FOLDER))
}

/// That another configuration than the file's is in force, and until when: a daemon that starts goes on with it as long as the file is
/// still the one that it took the place of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// Fingerprint of the text in force, which is that of a revision.
    pub hash: String,
    /// Fingerprint of the file that is not in force.
    pub instead_of: String,
}

/// The fingerprint of a configuration's text: the first 64 bits of its SHA-256, in hexadecimal digits.
#[must_use]
pub fn fingerprint(text: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
