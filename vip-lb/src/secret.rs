//! Secrets in files that nobody else may use.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Fewest characters of a secret: 32 hexadecimal digits are 128 bits.
pub const SHORTEST: usize = 32;
/// Most bytes of a file that are read.
const LONGEST: u64 = 4096;

/// Why a file has no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cannot read the {what} in {}", path.display())]
    Unreadable {
        /// What it should hold, in a word.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error("{} may be used by others than its owner (mode {mode:04o}): chmod 600 {}", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It belongs to somebody who is neither root nor the daemon's user.
    #[error("{} belongs to the user {owner}, expected root or the daemon's own", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Id of its owner.
        owner: u32,
    },
    /// What it holds is none.
    #[error("{} holds no {what}: expected one line of at least {SHORTEST} visible ASCII characters, as of `openssl rand -hex 32`", path.display())]
    Malformed {
        /// What it should hold, in a word.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
}

/// Reads the one line in a file that only its owner, root or this process's user, may use. `what` names it in errors.
///
/// # Errors
///
/// See [`SecretError`]. The secret itself is in none of them.
pub fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, SecretError> {
    let unreadable = |source| SecretError::Unreadable { what, path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Open { path: path.to_owned(), mode });
    }
    // SAFETY: geteuid takes nothing, changes nothing and cannot fail.
    let own = unsafe { libc::geteuid() };
    let owner = metadata.uid();
    if owner != 0 && owner != own {
        return Err(SecretError::Foreign { path: path.to_owned(), owner });
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text).map_err(unreadable)?;
    text.truncate(text.trim_ascii_end().len());
    if text.len() < SHORTEST || !text.iter().all(u8::is_ascii_graphic) {
        return Err(SecretError::Malformed { what, path: path.to_owned() });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use super::*;
    use crate::api::samples::TempFolder;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn read_text(folder: &TempFolder, text: &str, mode: u32) -> Result<Vec<u8>, String> {
        let path = folder.join("token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        read(&path, "token").map_err(|error| error.to_string())
    }

    #[test]
    fn its_line_is_the_secret() {
        let folder = TempFolder::new();
        assert_eq!(read_text(&folder, &format!("{TOKEN}\n"), 0o600).unwrap(), TOKEN.as_bytes());
    }

    #[test]
    fn a_file_that_others_may_use_is_refused() {
        let folder = TempFolder::new();
        assert!(read_text(&folder, TOKEN, 0o400).is_ok());
        for mode in [0o640, 0o604, 0o620, 0o601] {
            let error = read_text(&folder, TOKEN, mode).unwrap_err();
            assert!(error.contains(&format!("(mode {mode:04o}): chmod 600 ")), "{mode:o}: {error}");
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_without_showing_it() {
        let folder = TempFolder::new();
        for text in
            ["", "\n", &TOKEN[1..], &format!("{TOKEN}\n{TOKEN}"), &format!("{TOKEN} x"), &"ä".repeat(40)]
        {
            let error = read_text(&folder, text, 0o600).unwrap_err();
            assert!(error.contains("holds no token: expected one line"), "{text:?}: {error}");
            assert!(text.trim().is_empty() || !error.contains(text), "{error}");
        }
        let error = read(&folder.join("absent"), "token").unwrap_err();
        assert!(matches!(error, SecretError::Unreadable { .. }), "{error}");
    }
}
