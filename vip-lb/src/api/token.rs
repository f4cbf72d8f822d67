//! The token that is asked for over TCP, where no file mode says who may connect.

use std::{
    fs::File,
    hint::black_box,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// Fewest characters of a token: 32 hexadecimal digits are 128 bits.
const SHORTEST: usize = 32;
/// Most bytes of a token file that are read.
const LONGEST: u64 = 4096;

/// Why a file has no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot read the token in {}", path.display())]
    Unreadable {
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
    /// What it holds is no token.
    #[error("{} holds no token: expected one line of at least {SHORTEST} visible ASCII characters, as of `openssl rand -hex 32`", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// A token, as its SHA-256.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Reads the token in a file that only its owner, root or this process's user, may use.
    ///
    /// # Errors
    ///
    /// See [`TokenError`]. The token itself is in none of them.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let unreadable = |source| TokenError::Unreadable { path: path.to_owned(), source };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TokenError::Open { path: path.to_owned(), mode });
        }
        // SAFETY: geteuid takes nothing, changes nothing and cannot fail.
        let own = unsafe { libc::geteuid() };
        let owner = metadata.uid();
        if owner != 0 && owner != own {
            return Err(TokenError::Foreign { path: path.to_owned(), owner });
        }
        let mut text = Vec::new();
        file.take(LONGEST).read_to_end(&mut text).map_err(unreadable)?;
        let token = text.trim_ascii_end();
        if token.len() < SHORTEST || !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Malformed { path: path.to_owned() });
        }
        Ok(Self::of(token))
    }

    fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether this is it. Takes the same time for every text of one length: what is compared are digests, to their ends.
    #[must_use]
    pub fn is(&self, given: &str) -> bool {
        let given = Self::of(given.as_bytes());
        let difference = self.0.iter().zip(&given.0).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
        difference == 0
    }
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

    fn read(folder: &TempFolder, text: &str, mode: u32) -> Result<Token, String> {
        let path = folder.join("token");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        Token::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn only_the_token_is_the_token() {
        let folder = TempFolder::new();
        let token = read(&folder, &format!("{TOKEN}\n"), 0o600).unwrap();
        assert!(token.is(TOKEN));
        for wrong in ["", "0123456789abcdef0123456789abcdeF", &TOKEN[1..], &format!("{TOKEN}0"), "ä"] {
            assert!(!token.is(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_others_may_use_is_refused() {
        let folder = TempFolder::new();
        assert!(read(&folder, TOKEN, 0o400).is_ok());
        for mode in [0o640, 0o604, 0o620, 0o601] {
            let error = read(&folder, TOKEN, mode).unwrap_err();
            assert!(error.contains(&format!("(mode {mode:04o}): chmod 600 ")), "{mode:o}: {error}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_without_showing_it() {
        let folder = TempFolder::new();
        for text in
            ["", "\n", &TOKEN[1..], &format!("{TOKEN}\n{TOKEN}"), &format!("{TOKEN} x"), &"ä".repeat(40)]
        {
            let error = read(&folder, text, 0o600).unwrap_err();
            assert!(error.contains("holds no token: expected one line"), "{text:?}: {error}");
            assert!(text.trim().is_empty() || !error.contains(text), "{error}");
        }
        let error = Token::read(&folder.join("absent")).unwrap_err();
        assert!(matches!(error, TokenError::Unreadable { .. }), "{error}");
    }
}
