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
        let Metric { name, labels, .. } = self.metric;
        assert_eq!(values.len(), labels.len(), "{name} has the labels {labels:?}");
        let text = &mut self.page.text;
        text.push_str(name);
        for (index, (label, value)) in labels.iter().zip(values).enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(text, "{before}{label}=\"{value}\"").expect("a string takes everything");
        }
        if !labels.is_empty() {
            text.push('}');
        }
        match value.into() {
            Value::Integer(value) => writeln!(text, " {value}"),
            Value::Float(value) => writeln!(text, " {value}"),
        }
        .expect("a string takes everything");
        self
    }
}

/// The value of a sample.
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
