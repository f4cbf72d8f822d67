//! The JSON Schema of the configuration file, as an editor uses it: judged by the `jsonschema` command of python3-jsonschema, which knows
//! nothing of vip-lb. Every example is valid by it, every key of the manual is in it, and mistakes are found.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vip_lb_tests::lab::Scratch;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The examples as JSON, by name.
fn examples() -> Result<Vec<(String, Value)>> {
    let mut examples = Vec::new();
    for entry in fs::read_dir(root().join("examples"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
            let text = fs::read_to_string(&path)?;
            let value = serde_yaml::from_str(&text).map_err(|error| anyhow::anyhow!("{name}: {error}"))?;
            examples.push((name, value));
        }
    }
    ensure!(examples.len() >= 8, "only {} examples", examples.len());
    Ok(examples)
}

/// Judges files by the schema.
struct Judge {
    scratch: Scratch,
}

impl Judge {
    fn new() -> Result<Self> {
        let judge = Self { scratch: Scratch::new()? };
        fs::write(judge.path("schema.json"), vip_lb::config::schema().to_string())?;
        Ok(judge)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// What is wrong with a file, in the judge's words; none if nothing is.
    fn complaint(&self, file: &Value) -> Result<Option<String>> {
        let instance = self.path("file.json");
        fs::write(&instance, file.to_string())?;
        let output = Command::new("jsonschema")
            .arg("-i")
            .arg(&instance)
            .arg(self.path("schema.json"))
            .output()
            .context("run jsonschema, of the package python3-jsonschema")?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!text.contains("SchemaError") && !text.contains("Traceback"), "{text}");
        Ok((!output.status.success()).then_some(text))
    }
}

#[test]
fn every_example_is_valid_by_the_schema() -> Result<()> {
    let judge = Judge::new()?;
    for (name, example) in examples()? {
        let complaint = judge.complaint(&example)?;
        ensure!(complaint.is_none(), "{name}: {complaint:?}");
    }
    Ok(())
}

#[test]
fn what_the_daemon_refuses_for_its_form_the_schema_refuses() -> Result<()> {
    let judge = Judge::new()?;
    let (_, example) = examples()?.into_iter().find(|(name, _)| name == "nat.yaml").context("nat.yaml")?;
    for (what, pointer, value) in [
        ("a port that is none", "/vips/0/services/0/port", Value::from(70_000)),
        ("a port in quotes", "/vips/0/services/0/port", "80".into()),
        ("an unknown mode", "/vips/0/services/0/mode", "dsr".into()),
        ("no weight", "/vips/0/services/0/backends/0/weight", 0.into()),
        ("a duration without a unit", "/vips/0/services/0/idle_timeout", 600.into()),
        ("no address", "/vips/0/address", "example.com".into()),
        ("no backends", "/vips/0/services/0/backends", Value::Array(Vec::new())),
        ("an unknown state", "/vips/0/services/0/backends/0/state", "off".into()),
        ("a ring of another size", "/vips/0/services/0/ring", 1024.into()),
        ("an unknown key", "/vips/0/services/0/prot", "tcp".into()),
        ("a socket beside the root", "/node/socket", "run/x.sock".into()),
        ("no check", "/vips/0/services/0/health", "ping".into()),
        ("a table of no size", "/node/tables/flows", 1.into()),
    ] {
        let mut file = example.clone();
        let (parent, key) = pointer.rsplit_once('/').context("a pointer")?;
        if file.pointer(parent).is_none() {
            let (above, name) = parent.rsplit_once('/').context("a pointer")?;
            file.pointer_mut(above).context("what is above")?[name] = Value::Object(serde_json::Map::new());
        }
        file.pointer_mut(parent).context("a parent")?[key] = value;
        ensure!(judge.complaint(&file)?.is_some(), "{what} is taken by the schema");
        let yaml = file.to_string();
        ensure!(vip_lb::config::parse(&yaml, Path::new("x.yaml")).is_err(), "{what} is taken by the daemon");
    }
    let mut file = example;
    file.pointer_mut("/node").and_then(Value::as_object_mut).context("a node")?.remove("seed");
    ensure!(
        judge.complaint(&file)?.is_some_and(|complaint| complaint.contains("seed")),
        "a seed is not missed"
    );
    Ok(())
}

/// Keys with their descriptions, wherever they are.
fn keys(schema: &Value, found: &mut BTreeSet<String>, bare: &mut Vec<String>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (key, value) in properties {
            found.insert(key.clone());
            if value.get("description").and_then(Value::as_str).is_none_or(str::is_empty) {
                bare.push(key.clone());
            }
            keys(value, found, bare);
        }
    }
    for inner in ["items", "additionalProperties"].iter().filter_map(|name| schema.get(name)) {
        keys(inner, found, bare);
    }
    for inner in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        keys(inner, found, bare);
    }
}

#[test]
fn every_key_of_the_manual_is_in_the_schema_and_explained() -> Result<()> {
    let (mut found, mut bare) = (BTreeSet::new(), Vec::new());
    keys(&vip_lb::config::schema(), &mut found, &mut bare);
    ensure!(bare.is_empty(), "without a word: {bare:?}");
    let manual = fs::read_to_string(root().join("docs/configuration.md"))?;
    let rows = manual.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let named: BTreeSet<String> =
        rows.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches(['`', ' ']).to_owned()).collect();
    ensure!(named.len() > 40, "{named:?}");
    let missing: Vec<_> = named.difference(&found).collect();
    ensure!(missing.is_empty(), "not in the schema: {missing:?}");
    let unknown: Vec<_> = found.iter().filter(|key| !named.contains(*key)).collect();
    ensure!(
        unknown.iter().all(|key| ["node", "hosts", "vips"].contains(&key.as_str())),
        "not in the manual: {unknown:?}"
    );
    Ok(())
}
