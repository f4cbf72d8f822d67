//! A rate over time in a line of text.

const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What a full block stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// The largest value shown.
    Own,
    /// This value.
    Peak(f64),
}

/// The last `width` values, the latest at the right; blanks where there were none yet.
pub(super) fn curve(values: &[f64], width: usize, scale: Scale) -> String {
    let shown = &values[values.len().saturating_sub(width)..];
    let peak = match scale {
        Scale::Own => shown.iter().copied().fold(0.0, f64::max),
        Scale::Peak(peak) => peak,
    };
    let level = |value: &f64| {
        if peak <= 0.0 || *value <= 0.0 {
            return LEVELS[0];
        }
        // What is not nothing is seen.
        let steps = (value / peak * 8.0).round().clamp(1.0, 8.0);
        LEVELS[steps as usize]
    };
    let blanks = " ".repeat(width - shown.len());
    blanks + &shown.iter().map(level).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_values_stand_right() {
        assert_eq!(curve(&[1.0, 2.0, 4.0, 8.0], 6, Scale::Own), "  ▁▂▄█");
        assert_eq!(curve(&[9.0, 1.0, 2.0], 2, Scale::Own), "▄█");
        assert_eq!(curve(&[1.0, 2.0], 2, Scale::Peak(8.0)), "▁▂");
        assert_eq!(curve(&[0.0, 0.001, 1000.0], 3, Scale::Own), " ▁█");
        assert_eq!(curve(&[0.0, 0.0], 3, Scale::Own), "   ");
        assert_eq!(curve(&[], 2, Scale::Peak(0.0)), "  ");
    }
}
