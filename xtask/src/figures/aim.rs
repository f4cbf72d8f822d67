//! What a figure should be, as written in documents and reports: `== 0`, `<= 2 s`, `<= 1.2`.

use std::{error::Error, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A comparison with a limit, in a unit or in the figure's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Aim {
    comparison: Comparison,
    limit: f64,
    /// `None` means the figure's own unit.
    unit: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Two-character signs first: `<=` begins with `<`.
const COMPARISONS: [(&str, Comparison); 5] = [
    ("==", Comparison::Equal),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

/// Units that can be converted into each other, in nanoseconds.
const TIMES: [(&str, f64); 5] = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("min", 60e9)];

impl Aim {
    /// Whether a value in a unit meets the aim. A value that is not a number meets none.
    ///
    /// # Errors
    ///
    /// When the aim is in another unit that this one cannot be converted to.
    pub fn holds(&self, value: f64, unit: &str) -> Result<bool, AimError> {
        let limit = self.limit * self.factor(unit)?;
        Ok(match self.comparison {
            Comparison::Equal => value == limit,
            Comparison::Less => value < limit,
            Comparison::LessOrEqual => value <= limit,
            Comparison::Greater => value > limit,
            Comparison::GreaterOrEqual => value >= limit,
        })
    }

    /// What one of the aim's unit is in another.
    fn factor(&self, unit: &str) -> Result<f64, AimError> {
        let Some(own) = self.unit.as_deref().filter(|own| *own != unit) else {
            return Ok(1.0);
        };
        let nanoseconds = |unit: &str| TIMES.iter().find(|(name, _)| *name == unit).map(|(_, ns)| *ns);
        match (nanoseconds(own), nanoseconds(unit)) {
            (Some(own), Some(unit)) => Ok(own / unit),
            _ => Err(AimError::Unit { aim: self.to_string(), unit: unit.to_owned() }),
        }
    }
}

impl FromStr for Aim {
    type Err = AimError;

    fn from_str(text: &str) -> Result<Self, AimError> {
        let malformed = || AimError::Malformed(text.to_owned());
        let text = text.trim();
        let (comparison, rest) = COMPARISONS
            .iter()
            .find_map(|(sign, comparison)| Some((*comparison, text.strip_prefix(sign)?.trim())))
            .ok_or_else(malformed)?;
        let (limit, unit) = match rest.split_once(char::is_whitespace) {
            Some((limit, unit)) => (limit, Some(unit.trim().to_owned())),
            None => (rest, None),
        };
        let limit: f64 = limit.parse().map_err(|_| malformed())?;
        if limit.is_finite() { Ok(Self { comparison, limit, unit }) } else { Err(malformed()) }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = COMPARISONS.iter().find(|(_, comparison)| *comparison == self.comparison);
        write!(f, "{} {}", sign.map_or("", |(sign, _)| sign), self.limit)?;
        self.unit.iter().try_for_each(|unit| write!(f, " {unit}"))
    }
}

impl TryFrom<String> for Aim {
    type Error = AimError;

    fn try_from(text: String) -> Result<Self, AimError> {
        text.parse()
    }
}

impl From<Aim> for String {
    fn from(aim: Aim) -> Self {
        aim.to_string()
    }
}

/// Why an aim cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AimError {
    /// It is not a comparison sign, a number and perhaps a unit.
    Malformed(String),
    /// The figure's unit is another, and there is no conversion.
    Unit {
        /// The aim as written.
        aim: String,
        /// The figure's unit.
        unit: String,
    },
}

impl fmt::Display for AimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(text) => {
                write!(f, "`{text}` is not an aim: expected one of == < <= > >=, a number, perhaps a unit")
            }
            Self::Unit { aim, unit } => write!(f, "the aim `{aim}` is not in the figure's unit, `{unit}`"),
        }
    }
}

impl Error for AimError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aims_compare() {
        let cases = [
            ("== 0", 0.0, "connections", true),
            ("== 0", 1.0, "connections", false),
            ("<= 1.2", 1.2, "", true),
            ("<=1.2", 1.21, "", false),
            ("< 5", 5.0, "", false),
            ("> 5", 5.5, "", true),
            ("> 5", 5.0, "", false),
            (">= 3000", 3000.0, "requests", true),
            (">= 3000", 2999.0, "requests", false),
            ("<= 2 s", 2000.0, "ms", true),
            ("<= 2 s", 2000.5, "ms", false),
            ("<= 20 ms", 0.02, "s", true),
            ("<= 1 min", 61.0, "s", false),
            ("<= 350 instructions", 349.0, "instructions", true),
            (">= -1", 0.0, "", true),
            ("<= 1", f64::NAN, "", false),
            (">= 1", f64::NAN, "", false),
        ];
        for (aim, value, unit, expected) in cases {
            let parsed: Aim = aim.parse().unwrap();
            assert_eq!(parsed.holds(value, unit), Ok(expected), "{value} {unit} against `{aim}`");
        }
    }

    #[test]
    fn what_is_no_aim_is_refused() {
        for text in ["", "0", "= 0", "== ", "== none", "=> 3", "<= NaN", "<= inf", "~ 3", "<= 2s"] {
            assert_eq!(text.parse::<Aim>(), Err(AimError::Malformed(text.to_owned())), "`{text}`");
        }
    }

    #[test]
    fn units_are_not_mixed() {
        let aim: Aim = "<= 2 s".parse().unwrap();
        assert!(matches!(aim.holds(1.0, "packets"), Err(AimError::Unit { .. })));
    }

    #[test]
    fn an_aim_is_written_as_it_is_read() {
        for text in ["== 0", "<= 2 s", "<= 1.2", "> 3", ">= 10 requests", "< 0.5"] {
            assert_eq!(text.parse::<Aim>().unwrap().to_string(), text);
        }
    }
}
