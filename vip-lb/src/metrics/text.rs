//! The text format of Prometheus, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).

use std::fmt::Write as _;

use super::definitions::{Kind, Metric};

/// Content type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics while it is written.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

/// The samples of one metric while they are written.
pub(super) struct Samples<'p> {
    page: &'p mut Page,
    metric: &'static Metric,
}

impl Page {
    /// Begins a metric. All its samples follow before the next metric, as the format demands.
    pub(super) fn metric(&mut self, metric: &'static Metric) -> Samples<'_> {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
        let name = metric.name;
        self.text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Samples { page: self, metric }
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

impl Samples<'_> {
    /// One sample with the values of the metric's labels, in their order.
    ///
    /// # Panics
    ///
    /// If there are not as many values as labels.
    pub(super) fn sample(&mut self, values: &[&str], value: impl Into<Value>) -> &mut Self {
        self.line("", values, None, value.into())
    }

    /// The samples of a histogram of durations in microseconds: bound of each bucket (none: of the last) with how many are within it and within none
    /// before it, and their sum. On the page are seconds, and each bucket has those before it.
    ///
    /// # Panics
    ///
    /// If there are not as many values as labels.
    pub(super) fn histogram(
        &mut self,
        values: &[&str],
        buckets: impl Iterator<Item = (Option<u64>, u64)>,
        sum_us: u64,
    ) -> &mut Self {
        let seconds = |micros: u64| micros as f64 / 1e6;
        let mut count = 0;
        for (bound, within) in buckets {
            count += within;
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| seconds(bound).to_string());
            self.line("_bucket", values, Some(&bound), count.into());
        }
        self.line("_sum", values, None, seconds(sum_us).into());
        self.line("_count", values, None, count.into())
    }

    fn line(&mut self, suffix: &str, values: &[&str], bound: Option<&str>, value: Value) -> &mut Self {
        let Metric { name, labels, .. } = self.metric;
        assert_eq!(values.len(), labels.len(), "{name} has the labels {labels:?}");
        let text = &mut self.page.text;
        write!(text, "{name}{suffix}").expect("a string takes everything");
        let labels = labels.iter().copied().chain(bound.map(|_| "le"));
        let mut before = '{';
        for (label, value) in labels.zip(values.iter().copied().chain(bound)) {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(text, "{before}{label}=\"{value}\"").expect("a string takes everything");
            before = ',';
        }
        if before == ',' {
            text.push('}');
        }
        match value {
            Value::Integer(value) => writeln!(text, " {value}"),
            Value::Float(value) => writeln!(text, " {value}"),
        }
        .expect("a string takes everything");
        self
    }
}

/// The value of a sample.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// A count, exact.
    Integer(u64),
    /// A measure.
    Float(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u16> for Value {
    fn from(value: u16) -> Self {
        Self::Integer(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Integer(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Histogram;

    #[test]
    fn a_histogram_is_cumulative() {
        static METRIC: Metric =
            Metric { name: "x_seconds", kind: Kind::Histogram, labels: &["a"], help: "Time." };
        let histogram = Histogram { counts: [2, 0, 1, 0, 0, 0, 1], sum_us: 1_507_000 };
        let mut page = Page::default();
        page.metric(&METRIC).histogram(&["b"], histogram.buckets(), histogram.sum_us);
        let expected = "# HELP x_seconds Time.\n# TYPE x_seconds histogram\n\
            x_seconds_bucket{a=\"b\",le=\"0.0005\"} 2\nx_seconds_bucket{a=\"b\",le=\"0.002\"} 2\n\
            x_seconds_bucket{a=\"b\",le=\"0.01\"} 3\nx_seconds_bucket{a=\"b\",le=\"0.05\"} 3\n\
            x_seconds_bucket{a=\"b\",le=\"0.25\"} 3\nx_seconds_bucket{a=\"b\",le=\"1\"} 3\n\
            x_seconds_bucket{a=\"b\",le=\"+Inf\"} 4\nx_seconds_sum{a=\"b\"} 1.507\nx_seconds_count{a=\"b\"} 4\n";
        assert_eq!(page.finish(), expected);
    }

    #[test]
    fn values_of_labels_and_help_are_escaped() {
        static METRIC: Metric = Metric {
            name: "x_total",
            kind: Kind::Counter,
            labels: &["a", "b"],
            help: "Back\\slash\nand line.",
        };
        let mut page = Page::default();
        page.metric(&METRIC).sample(&["q\"u\\o\nte", "ä"], 7_u64).sample(&["", ""], 0.25);
        assert_eq!(
            page.finish(),
            "# HELP x_total Back\\\\slash\\nand line.\n# TYPE x_total counter\n\
             x_total{a=\"q\\\"u\\\\o\\nte\",b=\"ä\"} 7\nx_total{a=\"\",b=\"\"} 0.25\n"
        );
    }
}
