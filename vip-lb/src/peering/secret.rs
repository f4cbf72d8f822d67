//! What the nodes of a group have in common and nobody else knows: everything between them is signed with it.

use std::path::Path;

use ring::{digest, hmac};

use crate::secret::{self, SecretError};

/// Bytes of a signature (HMAC-SHA256, RFC 2104).
pub const TAG: usize = digest::SHA256_OUTPUT_LEN;

/// A signature.
pub type Tag = [u8; TAG];

/// The shared secret.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        other.is_signed(&self.sign("the same", &[]), "the same", &[])
    }
}

impl Secret {
    /// Reads the secret in a file that only its owner, root or this process's user, may use.
    ///
    /// # Errors
    ///
    /// See [`SecretError`]. The secret itself is in none of them.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        Ok(Self::of(&secret::read(path, "secret")?))
    }

    /// The secret that a text is.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, text))
    }

    /// Signs `parts` for one purpose: a signature for another one is another, and so is that of the same bytes in other parts.
    #[must_use]
    pub fn sign(&self, purpose: &str, parts: &[&[u8]]) -> Tag {
        let signed = hmac::sign(&self.0, &message(purpose, parts));
        signed.as_ref().try_into().expect("it has the length of SHA-256")
    }

    /// Whether somebody signed so who has the same secret. Takes the same time whether it is right or not.
    #[must_use]
    pub fn is_signed(&self, tag: &[u8], purpose: &str, parts: &[&[u8]]) -> bool {
        hmac::verify(&self.0, &message(purpose, parts), tag).is_ok()
    }

    /// A key for one purpose alone.
    #[must_use]
    pub fn derive(&self, purpose: &str, parts: &[&[u8]]) -> Self {
        Self::of(&self.sign(purpose, parts))
    }
}

fn message(purpose: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut message = Vec::new();
    for part in [purpose.as_bytes()].iter().chain(parts) {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_for_one_purpose_and_one_division_into_parts() {
        let secret = Secret::of(b"0123456789abcdef0123456789abcdef");
        let tag = secret.sign("hello", &[b"ab", b"c"]);
        assert!(secret.is_signed(&tag, "hello", &[b"ab", b"c"]));
        for (purpose, parts) in [
            ("hell", &[&b"oab"[..], b"c"][..]),
            ("hello", &[b"a", b"bc"]),
            ("hello", &[b"abc"]),
            ("hello", &[b"ab", b"c", b""]),
            ("hello", &[]),
        ] {
            assert!(!secret.is_signed(&tag, purpose, parts), "{purpose} {parts:?}");
        }
        assert!(!secret.is_signed(&tag[..31], "hello", &[b"ab", b"c"]), "a part of it");
        let other = Secret::of(b"0123456789abcdef0123456789abcdeF");
        assert!(!other.is_signed(&tag, "hello", &[b"ab", b"c"]));
        assert!(secret != other && secret == secret.clone());
        assert!(secret.derive("one way", &[b"x"]) != secret.derive("the other", &[b"x"]));
    }

    /// Nodes of different releases must agree. The first line is `printf '\0\0\0\0\0\0\0\5hello' | openssl dgst -sha256 -hmac KEY`.
    #[test]
    fn signatures_never_change_between_releases() {
        let hex = |tag: Tag| tag.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let secret = Secret::of(b"0123456789abcdef0123456789abcdef");
        assert_eq!(
            hex(secret.sign("hello", &[])),
            "5f3890ef2aee9c5057c674e96689af954d7216b94494096aabad09017451cbb7"
        );
    }
}
