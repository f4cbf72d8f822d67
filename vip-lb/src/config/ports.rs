//! The ports that a service has.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Which ports clients dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ports {
    /// Every port for which the VIP has no service of its own: 0 in the file.
    Every,
    /// One port, never 0.
    One(u16),
    /// From the first to the last one, both included; the first is not 0 and less than the last.
    Range(u16, u16),
}

/// Ports that agree in their first bits, as an entry of a trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortBlock {
    /// The first port.
    pub first: u16,
    /// Bits that all of them share, 1 to 16.
    pub bits: u32,
}

impl PortBlock {
    /// The last port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.first | ((1_u32 << (u16::BITS - self.bits)) - 1) as u16
    }
}

impl Ports {
    /// From a number, of which 0 stands for every port.
    #[must_use]
    pub const fn from_number(port: u16) -> Self {
        if port == 0 { Self::Every } else { Self::One(port) }
    }

    /// From `first-last`, both in decimal digits.
    #[must_use]
    pub fn from_range(text: &str) -> Option<Self> {
        let (first, last) = range(text)?;
        Some(Self::Range(first, last))
    }

    /// The port, if it is one.
    #[must_use]
    pub const fn one(self) -> Option<u16> {
        match self {
            Self::One(port) => Some(port),
            Self::Every | Self::Range(..) => None,
        }
    }

    /// Whether two ranges have a port in common; false if one of them is no range.
    #[must_use]
    pub const fn ranges_overlap(self, other: Self) -> bool {
        match (self, other) {
            (Self::Range(first, last), Self::Range(from, to)) => first <= to && from <= last,
            _ => false,
        }
    }

    /// The blocks that make up a range, at most 30, in ascending order; none of what is no range.
    #[must_use]
    pub fn blocks(self) -> Vec<PortBlock> {
        let Self::Range(first, last) = self else { return Vec::new() };
        let mut blocks = Vec::new();
        let (mut next, end) = (u32::from(first), u32::from(last) + 1);
        while next < end {
            // As large as its first port is aligned to and as there is room for.
            let aligned = next.trailing_zeros().min(u16::BITS - 1);
            let room = (end - next).ilog2();
            let size = aligned.min(room);
            blocks.push(PortBlock { first: next as u16, bits: u16::BITS - size });
            next += 1 << size;
        }
        blocks
    }

    /// The ports from the first to the last of these blocks. None without blocks.
    #[must_use]
    pub fn from_blocks(blocks: impl IntoIterator<Item = PortBlock>) -> Option<Self> {
        let ends = blocks.into_iter().map(|block| (block.first, block.last()));
        let (first, last) = ends.reduce(|(first, last), (from, to)| (first.min(from), last.max(to)))?;
        Some(Self::Range(first, last))
    }
}

/// Two ports in ascending order, the first not 0, as in `8000-8999`.
pub(super) fn range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port != 0)
    };
    let (first, last) = text.split_once('-')?;
    let (first, last) = (port(first)?, port(last)?);
    (first < last).then_some((first, last))
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => f.write_str("0"),
            Self::One(port) => port.fmt(f),
            Self::Range(first, last) => write!(f, "{first}-{last}"),
        }
    }
}

/// A number, or a text where it is a range: as in the file.
impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Every => serializer.serialize_u16(0),
            Self::One(port) => serializer.serialize_u16(*port),
            Self::Range(..) => serializer.collect_str(self),
        }
    }
}

impl JsonSchema for Ports {
    fn schema_name() -> Cow<'static, str> {
        "Ports".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A port, 0 for every port, or a range of ports.",
            "oneOf": [
                {"type": "integer", "minimum": 0, "maximum": 65535},
                {"type": "string", "pattern": "^[1-9][0-9]{0,4}-[1-9][0-9]{0,4}$"}
            ]
        })
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u16),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(port) => Ok(Self::from_number(port)),
            Written::Text(text) => Self::from_range(&text)
                .ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &"a range of ports")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ports() -> impl Strategy<Value = Ports> {
        (1..u16::MAX)
            .prop_flat_map(|first| (Just(first), first + 1..=u16::MAX))
            .prop_map(|(first, last)| Ports::Range(first, last))
    }

    /// Asserts that the blocks cover exactly the range, each once, and are few.
    fn check(range: Ports) {
        let Ports::Range(first, last) = range else { panic!("{range} is no range") };
        let blocks = range.blocks();
        assert!(blocks.len() <= 30, "{range} takes {} blocks", blocks.len());
        let mut next = u32::from(first);
        for block in &blocks {
            assert_eq!(u32::from(block.first), next, "{range}: a gap or an overlap before {block:?}");
            assert!((1..=16).contains(&block.bits), "{range}: {block:?}");
            assert_eq!(block.first & (block.last() - block.first), 0, "{range}: {block:?} is no prefix");
            next = u32::from(block.last()) + 1;
        }
        assert_eq!(next, u32::from(last) + 1, "{range} ends elsewhere");
        assert_eq!(Ports::from_blocks(blocks), Some(range));
    }

    #[test]
    fn blocks_of_the_extremes() {
        for range in
            [(1, 2), (1, 65_535), (1, 65_534), (2, 65_535), (8000, 8999), (32_768, 65_535), (65_534, 65_535)]
        {
            check(Ports::Range(range.0, range.1));
        }
        assert_eq!(Ports::Range(1, 65_534).blocks().len(), 30, "the most there are");
        assert_eq!(Ports::Range(32_768, 65_535).blocks(), [PortBlock { first: 32_768, bits: 1 }]);
        assert_eq!((Ports::Every.blocks(), Ports::One(80).blocks()), (vec![], vec![]));
        assert_eq!(Ports::from_blocks([]), None);
    }

    proptest! {
        #[test]
        fn blocks_cover_exactly_the_range(range in ports()) {
            check(range);
        }

        #[test]
        fn a_range_is_read_as_it_is_shown(range in ports()) {
            prop_assert_eq!(Ports::from_range(&range.to_string()), Some(range));
            let json = serde_json::to_value(range).unwrap();
            prop_assert_eq!(serde_json::from_value::<Ports>(json).unwrap(), range);
        }
    }

    #[test]
    fn ranges_go_up_and_begin_above_0() {
        assert_eq!(Ports::from_range("8000-8999"), Some(Ports::Range(8000, 8999)));
        for text in [
            "80", "", "-", "80-", "-80", "0-80", "80-80", "81-80", "80-65536", "+80-90", "80 - 90",
            "80-90-95",
        ] {
            assert_eq!(Ports::from_range(text), None, "{text}");
        }
    }

    #[test]
    fn only_ranges_overlap() {
        let range = Ports::Range(10, 20);
        for (other, overlaps) in [
            (Ports::Range(1, 9), false),
            (Ports::Range(1, 10), true),
            (Ports::Range(12, 13), true),
            (Ports::Range(20, 30), true),
            (Ports::Range(21, 30), false),
            (Ports::One(15), false),
            (Ports::Every, false),
        ] {
            assert_eq!(range.ranges_overlap(other), overlaps, "{other}");
            assert_eq!(other.ranges_overlap(range), overlaps, "{other}");
        }
    }

    #[test]
    fn json_has_numbers_where_the_file_has() {
        for (ports, json) in [(Ports::Every, "0"), (Ports::One(80), "80"), (Ports::Range(1, 9), "\"1-9\"")] {
            assert_eq!(serde_json::to_string(&ports).unwrap(), json);
            assert_eq!(serde_json::from_str::<Ports>(json).unwrap(), ports);
        }
        assert!(serde_json::from_str::<Ports>("\"9-1\"").is_err());
    }
}
