//! Numbers as people read them: three digits, a prefix, two units of time.

/// A number with a decimal prefix: `0`, `0.4`, `277`, `5.1k`, `32.1M`.
pub(in crate::cli) fn scaled(value: f64) -> String {
    const PREFIXES: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    // Below a twentieth a rate is nothing to a reader, and `0.0` looks like a mistake.
    if value < 0.05 {
        return "0".to_owned();
    }
    if value < 9.95 {
        return format!("{value:.1}").trim_end_matches(".0").to_owned();
    }
    let mut value = value;
    let mut steps = 0;
    // 999.5 would be rounded up to 1000, and 999.95k to 1000.0k.
    while steps < PREFIXES.len() - 1 && value >= if steps == 0 { 999.5 } else { 999.95 } {
        value /= 1000.0;
        steps += 1;
    }
    if steps == 0 { format!("{value:.0}") } else { format!("{value:.1}{}", PREFIXES[steps]) }
}

/// A count with a decimal prefix; exact below 1000.
pub(in crate::cli) fn count(value: u64) -> String {
    if value < 1000 { value.to_string() } else { scaled(value as f64) }
}

/// A number with its prefix set apart, to be followed by a unit: `32.1 M`, `277 `.
pub(in crate::cli) fn with_prefix(value: f64) -> String {
    let number = scaled(value);
    let digits = number.trim_end_matches(char::is_alphabetic);
    format!("{digits} {}", &number[digits.len()..])
}

/// A part of a whole, 0 to 1, as percent with one decimal.
pub(in crate::cli) fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// A span of time in its two largest units: `12s`, `5m 0s`, `2h 1m`, `3d 4h`.
pub(in crate::cli) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    if days > 0 {
        format!("{days}d {}h", hours % 24)
    } else if hours > 0 {
        format!("{hours}h {}m", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m {}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        for (value, expected) in [
            (0.0, "0"),
            (0.04, "0"),
            (0.4, "0.4"),
            (1.0, "1"),
            (9.94, "9.9"),
            (9.96, "10"),
            (277.4, "277"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (5123.4, "5.1k"),
            (999_940.0, "999.9k"),
            (999_960.0, "1.0M"),
            (32_100_000.0, "32.1M"),
            (4e9, "4.0G"),
            (7e19, "70000.0P"),
        ] {
            assert_eq!(scaled(value), expected, "{value}");
        }
        assert_eq!((count(0).as_str(), count(999).as_str(), count(80_200).as_str()), ("0", "999", "80.2k"));
        assert_eq!(
            (percent(0.0).as_str(), percent(0.49997).as_str(), percent(1.0).as_str()),
            ("0.0%", "50.0%", "100.0%")
        );
    }

    #[test]
    fn time_has_two_units() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m 0s"),
            (3599, "59m 59s"),
            (3600, "1h 0m"),
            (86_399, "23h 59m"),
            (93_784, "1d 2h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
