//! Stretches the seed's text to the 32 bytes of key material.
//!
//! The key is SHA-256 (FIPS 180-4) of the domain `vip-lb seed 1:` followed by the text in UTF-8, so every
//! node derives the same one from the same text and any tool can check it: `printf 'vip-lb seed 1:%s' TEXT |
//! sha256sum`. This spreads what the text holds over 32 bytes and adds nothing to it: it is no password hash,
//! and a guessable text stays guessable.

use sha2::{Digest as _, Sha256};

use super::model::HashSeed;

const DOMAIN: &[u8] = b"vip-lb seed 1:";

impl HashSeed {
    /// The key that a text in the configuration stands for.
    pub fn from_text(text: &str) -> Self {
        Self(Sha256::new_with_prefix(DOMAIN).chain_update(text).finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: [u8; 32]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Nodes of different releases must agree: this vector never changes. It is the output of
    /// `printf 'vip-lb seed 1:the same text on every node' | sha256sum`.
    #[test]
    fn the_text_of_the_manual_gives_its_vector() {
        assert_eq!(
            hex(HashSeed::from_text("the same text on every node").0),
            "5a9d797371306e73721b5300b3da6e1fb5b9ef9cbefdfba8a5e00253a4c5b2b3"
        );
    }

    #[test]
    fn other_texts_give_other_keys() {
        assert_ne!(HashSeed::from_text("12345678"), HashSeed::from_text("12345679"));
    }
}
