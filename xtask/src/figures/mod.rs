//! Figures: what a demo, a lab or a benchmark measured, in the one shape that every `--json FILE` has, so that
//! results can be compared over time.

mod aim;

use std::{fs, path::Path, process::Command, thread};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

pub use aim::{Aim, AimError};

/// Everything one run measured, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// In the order in which they were measured.
    pub figures: Vec<Figure>,
    /// The machine that measured.
    pub machine: Machine,
    /// The commit that was measured, with `-dirty` when files differed from it, `unknown` outside a repository.
    pub commit: String,
}

impl Report {
    /// The figures with this machine and this commit.
    pub fn new(figures: Vec<Figure>) -> Self {
        Self { figures, machine: Machine::probe(), commit: commit() }
    }

    /// The figures that miss their aim.
    pub fn missed(&self) -> impl Iterator<Item = &Figure> {
        self.figures.iter().filter(|figure| !figure.ok)
    }

    /// Writes the report to a file, if one is asked for, and says which figures miss their aim. Returns whether none does.
    pub fn conclude(&self, json: Option<&Path>) -> Result<bool> {
        if let Some(path) = json {
            self.write(path)?;
        }
        for missed in self.missed() {
            let aim = missed.aim.as_ref().map(ToString::to_string).unwrap_or_default();
            println!("missed: {} is {} {}, and should be {aim}", missed.name, missed.value, missed.unit);
        }
        Ok(self.missed().next().is_none())
    }

    /// Reads what [`Report::write`] wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))
    }

    /// Writes the report as JSON, one field a line.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).context("write figures as JSON")?;
        text.push('\n');
        fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }
}

/// One measured value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Dotted, from the general to the particular: `demo.broken_connections`.
    pub name: String,
    /// In `unit`. JSON has no word for a value that is not finite; it is written as null and read as NaN.
    #[serde(with = "value")]
    pub value: f64,
    /// What is counted, or a unit of measure.
    pub unit: String,
    /// What the value should be. A figure without an aim is only reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim: Option<Aim>,
    /// The value meets its aim.
    pub ok: bool,
}

impl Figure {
    /// A figure without an aim.
    pub fn new(name: &str, value: f64, unit: &str) -> Self {
        Self { name: name.to_owned(), value, unit: unit.to_owned(), aim: None, ok: true }
    }

    /// Holds the figure against an aim such as `== 0`, `<= 2 s` or `>= 0.9`.
    ///
    /// # Errors
    ///
    /// When the aim cannot be read, or is in a unit that the figure's cannot be converted to.
    pub fn aim(mut self, aim: &str) -> Result<Self, AimError> {
        let aim: Aim = aim.parse()?;
        self.ok = aim.holds(self.value, &self.unit)?;
        self.aim = Some(aim);
        Ok(self)
    }
}

/// Where figures were measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processors that this process may use.
    pub cpus: usize,
    /// The processor's name.
    pub model: String,
    /// Main memory in MiB.
    pub memory: u64,
    /// The running kernel's release.
    pub kernel: String,
}

impl Machine {
    /// This machine. What cannot be found out is `unknown` or 0.
    pub fn probe() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            cpus: thread::available_parallelism().map_or(0, usize::from),
            model: cpu_model(&read("/proc/cpuinfo")).unwrap_or("unknown").to_owned(),
            memory: memory_mib(&read("/proc/meminfo")).unwrap_or(0),
            kernel: match read("/proc/sys/kernel/osrelease").trim() {
                "" => "unknown".to_owned(),
                release => release.to_owned(),
            },
        }
    }
}

/// The commit of the working folder.
fn commit() -> String {
    let git = |arguments: &[&str]| -> Option<String> {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match (git(&["rev-parse", "HEAD"]), git(&["status", "--porcelain", "--untracked-files=no"])) {
        (Some(commit), Some(changes)) if changes.is_empty() => commit,
        (Some(commit), _) => format!("{commit}-dirty"),
        (None, _) => "unknown".to_owned(),
    }
}

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

fn memory_mib(meminfo: &str) -> Option<u64> {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    kib.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// Whole values are written without a fraction: a count of 0 is `0`, not `0.0`.
mod value {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Every whole number up to here is exact in an `f64`.
    const EXACT: f64 = 9_007_199_254_740_992.0;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes every field by reference")]
    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.fract() == 0.0 && value.abs() <= EXACT {
            serializer.serialize_i64(*value as i64)
        } else if value.is_finite() {
            serializer.serialize_f64(*value)
        } else {
            serializer.serialize_none()
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(figures: Vec<Figure>) -> Report {
        let machine =
            Machine { cpus: 2, model: "a processor".to_owned(), memory: 4096, kernel: "6.12".to_owned() };
        Report { figures, machine, commit: "c0ffee".to_owned() }
    }

    #[test]
    fn the_shape_is_the_agreed_one() {
        let figures = vec![
            Figure::new("demo.broken_connections", 0.0, "connections").aim("== 0").unwrap(),
            Figure::new("demo.removal_ms", 2500.5, "ms").aim("<= 2 s").unwrap(),
            Figure::new("demo.requests", 3000.0, "requests"),
        ];
        let expected = serde_json::json!({
            "figures": [
                {"name": "demo.broken_connections", "value": 0, "unit": "connections", "aim": "== 0", "ok": true},
                {"name": "demo.removal_ms", "value": 2500.5, "unit": "ms", "aim": "<= 2 s", "ok": false},
                {"name": "demo.requests", "value": 3000, "unit": "requests", "ok": true},
            ],
            "machine": {"cpus": 2, "model": "a processor", "memory": 4096, "kernel": "6.12"},
            "commit": "c0ffee",
        });
        let report = report(figures);
        assert_eq!(serde_json::to_value(&report).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Report>(expected).unwrap(), report);
        let missed: Vec<&str> = report.missed().map(|figure| figure.name.as_str()).collect();
        assert_eq!(missed, ["demo.removal_ms"]);
    }

    #[test]
    fn a_value_that_is_no_number_misses_every_aim() {
        let figure = Figure::new("bench.ratio", f64::NAN, "").aim("<= 1.2").unwrap();
        assert!(!figure.ok);
        let text = serde_json::to_string(&figure).unwrap();
        assert!(text.contains("\"value\":null"), "{text}");
        assert!(serde_json::from_str::<Figure>(&text).unwrap().value.is_nan());
    }

    #[test]
    fn a_written_report_is_read_back() {
        let path = std::env::temp_dir().join(format!("vip-lb-figures-{}.json", std::process::id()));
        let report = report(vec![Figure::new("demo.share_error_max", 0.031, "")]);
        report.write(&path).unwrap();
        assert_eq!(Report::read(&path).unwrap(), report);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_machine_is_described() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"), Some("Some CPU @ 2 GHz"));
        assert_eq!(memory_mib("MemTotal:       24576000 kB\nMemFree: 1 kB\n"), Some(24000));
        let machine = Machine::probe();
        assert!(machine.cpus > 0 && machine.memory > 0 && machine.kernel != "unknown", "{machine:?}");
    }
}
