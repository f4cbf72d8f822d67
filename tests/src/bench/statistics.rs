//! Median and quartiles.

/// Where the values of one measurement lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quartiles {
    /// A quarter of the values is at most this.
    pub lower: f64,
    /// Half of them.
    pub median: f64,
    /// Three quarters.
    pub upper: f64,
}

impl Quartiles {
    /// Of at least one value; values between two samples are interpolated.
    ///
    /// # Panics
    ///
    /// Without values, and on NaN.
    pub fn of(mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "quartiles of nothing");
        values.sort_by(|a, b| a.partial_cmp(b).expect("a measurement is a number"));
        let at = |share: f64| {
            let position = share * (values.len() - 1) as f64;
            let (below, above) = (position.floor() as usize, position.ceil() as usize);
            values[below] + (values[above] - values[below]) * position.fract()
        };
        Self { lower: at(0.25), median: at(0.5), upper: at(0.75) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_interpolate_and_do_not_mind_the_order() {
        let cases = [
            (vec![3.0], (3.0, 3.0, 3.0)),
            (vec![4.0, 1.0], (1.75, 2.5, 3.25)),
            (vec![5.0, 1.0, 4.0, 2.0, 3.0], (2.0, 3.0, 4.0)),
            (vec![-1.0, -1.0, 7.0, -1.0], (-1.0, -1.0, 1.0)),
        ];
        for (values, (lower, median, upper)) in cases {
            let expected = Quartiles { lower, median, upper };
            assert_eq!(Quartiles::of(values.clone()), expected, "{values:?}");
        }
    }
}
