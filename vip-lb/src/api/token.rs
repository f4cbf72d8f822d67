//! The token that is asked for over TCP, where no file mode says who may connect.

use std::{hint::black_box, path::Path};

use sha2::{Digest as _, Sha256};

use crate::secret::{self, SecretError};

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
    /// See [`SecretError`]. The token itself is in none of them.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        Ok(Self::of(&secret::read(path, "token")?))
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
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn only_the_token_is_the_token() {
        let token = Token::of(TOKEN.as_bytes());
        assert!(token.is(TOKEN));
        for wrong in ["", "0123456789abcdef0123456789abcdeF", &TOKEN[1..], &format!("{TOKEN}0"), "ä"] {
            assert!(!token.is(wrong), "{wrong}");
        }
    }
}
