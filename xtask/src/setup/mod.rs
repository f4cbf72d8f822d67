//! `setup`: everything that building, testing and the labs need, installed once. Running it again costs a moment.

mod apt;
mod packages;

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process,
    progress::{self, Step, Steps},
    toolchain::{self, Decision},
};
use apt::Apt;

/// Debian's compiler with a prebuilt `core` for BPF, its cargo and its clippy, which checks the BPF program.
const COMPILER_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf", CLIPPY_PACKAGE];
const CLIPPY_PACKAGE: &str = "rust-web-clippy";

/// The bpf-linker that this code is built with, and the LLVM versions it has a feature for.
const LINKER_VERSION: &str = "^0.13";
const LINKER_LLVM: std::ops::RangeInclusive<u32> = 21..=23;

/// Python as the lab calls it.
const PYTHON: &str = "/usr/bin/python3";
/// What labs use of PyPI, for the system's Python: the package as its folder is called, and the version.
const PYTHON_MODULES: &[(&str, &str)] = &[
    // Judges the document of the API.
    ("openapi_spec_validator", "0.9.0"),
    // A server whose health is asked for by gRPC.
    ("grpcio_health_checking", "1.85.1"),
];

const BPFFS: &str = "/sys/fs/bpf";

/// What to set up beyond the necessary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Install cargo-deny, which takes some minutes to compile.
    pub(crate) cargo_deny: bool,
}

/// Brings the machine into the state that the other commands need.
pub(crate) fn run(options: Options) -> Result<()> {
    let started = progress::now();
    apt::remove_stale_policy()?;
    let mut apt = Apt::find();
    let mut steps = Steps::new(5 + usize::from(options.cargo_deny));

    compiler(&mut steps.begin("BPF compiler"), apt.as_mut())?;
    linker(&mut steps.begin("bpf-linker"), apt.as_mut())?;
    debian_packages(&mut steps.begin("tools of the labs"), apt.as_mut(), packages::PACKAGES)?;
    python_modules(&mut steps.begin("modules of Python"))?;
    bpffs(&mut steps.begin("BPF file system"))?;
    if options.cargo_deny {
        cargo_deny(&mut steps.begin("cargo-deny"))?;
    }
    println!("set up in {}", progress::seconds(started.elapsed()));
    Ok(())
}

/// The toolchain, or what to do to have one.
pub(crate) fn toolchain() -> Result<toolchain::Compiler> {
    match toolchain::decide(&toolchain::probe()) {
        Decision::Ready { compiler, .. } => Ok(compiler),
        missing => bail!("{missing}: run `cargo xtask setup`"),
    }
}

/// Whether cargo-deny is installed.
pub(crate) fn has_cargo_deny() -> bool {
    toolchain::find_command("cargo-deny").is_some()
}

/// Whether a compiler comes with clippy.
pub(crate) fn has_clippy(compiler: &toolchain::Compiler) -> bool {
    compiler.sysroot.join("bin/cargo-clippy").is_file()
}

fn compiler(step: &mut Step, mut apt: Option<&mut Apt>) -> Result<()> {
    let mut decision = toolchain::decide(&toolchain::probe());
    if decision == Decision::Compiler {
        let apt = apt.as_mut().with_context(|| no_compiler("there is no apt here"))?;
        apt.update(step)?;
        if !apt.offers("libstd-rust-web-dev-bpf")? {
            bail!(no_compiler("this system's packages have none"));
        }
        apt.install(step, COMPILER_PACKAGES, "about 1 min")?;
        decision = toolchain::decide(&toolchain::probe());
    }
    if let Decision::Link { sysroot } = &decision {
        let mut rustup = Command::new("rustup");
        rustup.args(["toolchain", "link", toolchain::LINKED_NAME]).arg(sysroot);
        step.run(&format!("linking {} into rustup", sysroot.display()), &mut rustup)?;
        decision = toolchain::decide(&toolchain::probe());
    }
    match decision {
        Decision::Ready { compiler, .. } => {
            if let Some(apt) = apt
                && compiler.sysroot == Path::new(toolchain::SYSTEM_SYSROOT)
                && !has_clippy(&compiler)
                && apt.offers(CLIPPY_PACKAGE)?
            {
                apt.install(step, &[CLIPPY_PACKAGE], "a few seconds")?;
            }
            step.found(&compiler.sysroot.display().to_string());
        }
        Decision::Linker { llvm } => step.found(&format!("with LLVM {llvm}")),
        missing => bail!("{missing}, although it was just installed"),
    }
    Ok(())
}

fn linker(step: &mut Step, apt: Option<&mut Apt>) -> Result<()> {
    if let Decision::Linker { llvm } = toolchain::decide(&toolchain::probe()) {
        let apt = apt.with_context(|| no_linker(llvm, "there is no apt here"))?;
        if !LINKER_LLVM.contains(&llvm) {
            bail!(no_linker(llvm, &format!("bpf-linker {LINKER_VERSION} knows LLVM {LINKER_LLVM:?}")));
        }
        let package = format!("llvm-{llvm}-dev");
        let prefix = format!("/usr/lib/llvm-{llvm}");
        if !Path::new(&prefix).join("include/llvm-c").is_dir() {
            apt.update(step)?;
            if !apt.offers(&package)? {
                bail!(no_linker(llvm, &format!("this system's packages have no {package}")));
            }
            apt.install(step, &[&package], "about 1 min")?;
        }
        let mut install = process::cargo(&["install", "bpf-linker", "--locked", "--force"]);
        install.args(["--version", LINKER_VERSION, "--no-default-features", "--features"]);
        install.arg(format!("llvm-{llvm}")).env("LLVM_PREFIX", prefix);
        step.run("compiling, 1 to 3 min", &mut install)?;
    }
    match toolchain::decide(&toolchain::probe()) {
        Decision::Ready { linker, .. } => step.found(&linker.path.display().to_string()),
        missing => bail!("{missing}, although it was just installed"),
    }
    Ok(())
}

/// Installs what `dist` needs beyond the rest.
pub(crate) fn packages_of_dist() -> Result<()> {
    debian_packages(&mut Steps::new(1).begin("tools of packaging"), Apt::find().as_mut(), packages::DIST)
}

fn debian_packages(
    step: &mut Step,
    apt: Option<&mut Apt>,
    table: &'static [packages::Package],
) -> Result<()> {
    let missing = packages::missing_here(table);
    if missing.is_empty() {
        step.found("all there");
        return Ok(());
    }
    let Some(apt) = apt else {
        bail!("there is no apt here; {}", packages::by_hand(&missing));
    };
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    apt.install(step, &names, "about 1 min")?;
    // The labs start their own nginx in namespaces; a second one on the host's port 80 is nobody's wish.
    if names.contains(&"nginx-light") {
        apt::disable_service(step, "nginx")?;
    }
    if names.contains(&"prometheus") {
        apt::disable_service(step, "prometheus")?;
    }
    let still_missing = packages::missing_here(table);
    if !still_missing.is_empty() {
        bail!("installed, but not to be found; {}", packages::by_hand(&still_missing));
    }
    Ok(())
}

/// Installs modules beside what is built, for the system's Python, and touches nothing else.
fn python_modules(step: &mut Step) -> Result<()> {
    let folder = process::target_folder()?.join("python");
    let is_there =
        |(name, version): &(&str, &str)| folder.join(format!("{name}-{version}.dist-info")).is_dir();
    if PYTHON_MODULES.iter().all(is_there) {
        step.found(&folder.display().to_string());
        return Ok(());
    }
    let wanted: Vec<String> =
        PYTHON_MODULES.iter().map(|(name, version)| format!("{name}=={version}")).collect();
    let mut pip = Command::new(PYTHON);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]);
    // All at once: what is installed later would take the place of what they share.
    pip.arg("--upgrade").arg("--target").arg(&folder).args(&wanted);
    step.run(&format!("installing {}, a few seconds", wanted.join(" ")), &mut pip)
}

fn bpffs(step: &mut Step) -> Result<()> {
    let mounts = fs::read_to_string("/proc/mounts").context("read /proc/mounts")?;
    if is_bpffs_mounted(&mounts) {
        step.found(BPFFS);
        return Ok(());
    }
    if !Path::new(BPFFS).is_dir() {
        bail!("there is no {BPFFS}: the kernel is built without BPF, or sysfs is not mounted");
    }
    step.run("mounting it", Command::new("mount").args(["-t", "bpf", "bpf", BPFFS]))
}

fn is_bpffs_mounted(mounts: &str) -> bool {
    mounts.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next() == Some(BPFFS) && fields.next() == Some("bpf")
    })
}

fn cargo_deny(step: &mut Step) -> Result<()> {
    if has_cargo_deny() {
        step.found("there");
        return Ok(());
    }
    let mut install = process::cargo(&["install", "cargo-deny", "--locked"]);
    // The checks of licences and sources are worth having, not worth failing for.
    if let Err(error) = step.run("compiling, about 3 min", install.stdin(Stdio::null())) {
        eprintln!("      going on without it: {error:#}");
    }
    Ok(())
}

/// Whether the environment is that of continuous integration.
pub(crate) fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

fn no_compiler(why: &str) -> String {
    format!(
        "no compiler that builds for BPF was found, and {why}\n\
         install one of these, then run `cargo xtask setup` again:\n  \
           anywhere with rustup: rustup toolchain install nightly --component rust-src\n  \
           Debian 12: apt-get install --no-install-recommends {}\n\
         and with the first a bpf-linker: cargo install bpf-linker, or a release binary of \
         https://github.com/aya-rs/bpf-linker on PATH",
        COMPILER_PACKAGES.join(" ")
    )
}

fn no_linker(llvm: u32, why: &str) -> String {
    format!(
        "no bpf-linker with LLVM {llvm} or newer was found, and {why}\n\
         install one of these, then run `cargo xtask setup` again:\n  \
           a release binary of https://github.com/aya-rs/bpf-linker on PATH, with LLVM {llvm} or newer\n  \
           LLVM {llvm} with its headers, then: LLVM_PREFIX=(where it is) cargo install bpf-linker --locked \
         --no-default-features --features llvm-{llvm}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_recognised() {
        assert!(is_bpffs_mounted("sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw,relatime 0 0\n"));
        assert!(is_bpffs_mounted("none /sys/fs/bpf bpf rw 0 0"));
        assert!(!is_bpffs_mounted("sysfs /sys sysfs rw 0 0\n"));
        assert!(!is_bpffs_mounted("bpf /sys/fs/bpf/nested bpf rw 0 0\n"));
        assert!(!is_bpffs_mounted("tmpfs /sys/fs/bpf tmpfs rw 0 0\n"));
    }

    #[test]
    fn a_system_it_cannot_serve_is_told_what_to_install() {
        let text = no_compiler("there is no apt here");
        assert!(text.contains("nightly --component rust-src") && text.contains("rustc-web"), "{text}");
        let text = no_linker(23, "there is no apt here");
        assert!(text.contains("--features llvm-23"), "{text}");
    }
}
