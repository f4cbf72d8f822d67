//! `fuzz`: libFuzzer by cargo-fuzz, with the toolchain that everything else is built with.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use crate::{lab, process, setup, toolchain};

/// What can be fuzzed: the binaries of `fuzz/Cargo.toml`.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Target {
    /// The packet path, packet after packet.
    Pipeline,
    /// The decapsulator.
    Decap,
    /// The configuration file.
    Config,
    /// The control socket.
    Control,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Decap => "decap",
            Self::Config => "config",
            Self::Control => "control",
        }
    }
}

/// `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
pub(crate) struct Fuzz {
    /// What to fuzz.
    #[arg(value_enum)]
    target: Target,
    /// How long.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Install cargo-fuzz if it is missing, which takes a minute to compile.
    #[arg(long)]
    install: bool,
}

/// Runs a fuzzer; its exit code is libFuzzer's.
pub(crate) fn run(fuzz: &Fuzz) -> Result<u8> {
    setup::toolchain()?;
    if toolchain::find_command("cargo-fuzz").is_none() {
        if !fuzz.install {
            bail!("cargo-fuzz is not installed: cargo xtask fuzz {} --install", fuzz.target.name());
        }
        process::succeed(&mut process::cargo(&["install", "cargo-fuzz", "--locked"]))?;
    }
    let folder = process::target_folder()?.join("fuzz");
    for kind in ["corpus", "artifacts"] {
        let path = folder.join(kind).join(fuzz.target.name());
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    }
    let mut command = process::cargo(&[]);
    command.args(arguments(fuzz, &folder));
    Ok(lab::exit_code(process::run(&mut command)?))
}

/// What cargo is called with. The first corpus takes what is found: the committed one changes by hand only.
fn arguments(fuzz: &Fuzz, folder: &Path) -> Vec<String> {
    let name = fuzz.target.name();
    let folder = folder.display();
    // Sanitizers need an unstable compiler flag. Bytes outside of a frame are guarded by the test's packet, and debug assertions are on.
    let mut arguments: Vec<String> =
        ["fuzz", "run", "--sanitizer", "none", "--fuzz-dir", "fuzz", "--target-dir"]
            .map(str::to_owned)
            .to_vec();
    arguments.extend([
        folder.to_string(),
        name.to_owned(),
        format!("{folder}/corpus/{name}"),
        format!("fuzz/corpus/{name}"),
        "--".to_owned(),
        format!("-max_total_time={}", fuzz.seconds),
        format!("-artifact_prefix={folder}/artifacts/{name}/"),
        "-timeout=30".to_owned(),
    ]);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_corpus_is_read_and_not_written() {
        let fuzz = Fuzz { target: Target::Config, seconds: 5, install: false };
        let arguments = arguments(&fuzz, Path::new("/target/fuzz"));
        let at = |what: &str| arguments.iter().position(|argument| argument == what).expect(what);
        assert!(at("/target/fuzz/corpus/config") < at("fuzz/corpus/config"), "{arguments:?}");
        assert!(arguments.contains(&"-max_total_time=5".to_owned()), "{arguments:?}");
    }
}
