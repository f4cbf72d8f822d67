//! Which compiler and linker build the BPF object: the one place that decides.
//!
//! `cargo xtask setup` and `vip-lb/build.rs` both include this file, so what set-up reports is what a build
//! uses, and nothing has to be remembered in an environment variable. It needs only `std` for that reason.
//!
//! A compiler serves in one of two ways: it ships a prebuilt `core` for BPF (Debian's `rustc-web` does), or it is
//! a nightly with the `rust-src` component, from which cargo builds `core`. bpf-linker reads the compiler's LLVM
//! bitcode, so its own LLVM must be at least as new.

use std::{
    env,
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

/// The name under which set-up links the system's compiler into rustup.
pub(crate) const LINKED_NAME: &str = "vip-lb-bpf";

/// Where Debian's packages put the compiler.
pub(crate) const SYSTEM_SYSROOT: &str = "/usr";

/// The oldest compiler that builds the workspace: `rust-version` of Cargo.toml.
pub(crate) const MINIMUM_RUSTC: (u32, u32) = (1, 95);

/// A compiler that could build for BPF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// What `rustup run` calls it. `None` for a compiler that rustup does not know.
    pub(crate) name: Option<String>,
    pub(crate) sysroot: PathBuf,
    /// Major and minor version.
    pub(crate) version: (u32, u32),
    /// Major version of its LLVM.
    pub(crate) llvm: u32,
    pub(crate) nightly: bool,
    /// It ships `core` for the BPF target.
    pub(crate) prebuilt_core: bool,
    /// It ships the source of `core`.
    pub(crate) core_source: bool,
}

impl Compiler {
    /// aya-build asks a nightly for `-Z build-std`, and any other compiler for its prebuilt `core`.
    fn serves(&self) -> bool {
        let core = if self.nightly { self.core_source } else { self.prebuilt_core };
        core && self.version >= MINIMUM_RUSTC
    }
}

/// An installed bpf-linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Linker {
    pub(crate) path: PathBuf,
    /// Major version of the LLVM it is linked with. `None` when it carries LLVM inside, as prebuilt ones do.
    pub(crate) llvm: Option<u32>,
}

/// What was found on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// rustup is on PATH. Without it cargo takes the compiler on PATH, whatever it is called.
    pub(crate) rustup: bool,
    pub(crate) compilers: Vec<Compiler>,
    pub(crate) linker: Option<Linker>,
}

/// What to do next. Carrying out a step and probing again ends in `Ready`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Build with this compiler.
    Ready { compiler: Compiler, linker: Linker },
    /// A compiler that serves is installed, but rustup does not know it.
    Link { sysroot: PathBuf },
    /// Only a linker is missing, with at least this LLVM.
    Linker { llvm: u32 },
    /// There is no compiler that serves.
    Compiler,
}

/// Chooses from the facts. A prebuilt `core` goes before building one, a newer compiler before an older.
pub(crate) fn decide(facts: &Facts) -> Decision {
    let mut serving: Vec<&Compiler> = facts.compilers.iter().filter(|compiler| compiler.serves()).collect();
    serving.sort_by_key(|compiler| (compiler.nightly, std::cmp::Reverse(compiler.version), &compiler.name));
    let fits = |compiler: &Compiler| {
        facts.linker.as_ref().filter(|linker| linker.llvm.is_none_or(|llvm| llvm >= compiler.llvm))
    };
    let named = |compiler: &Compiler| !facts.rustup || compiler.name.is_some();

    for compiler in &serving {
        if let (true, Some(linker)) = (named(compiler), fits(compiler)) {
            return Decision::Ready { compiler: (*compiler).clone(), linker: linker.clone() };
        }
    }
    match serving.first() {
        Some(compiler) if !named(compiler) => Decision::Link { sysroot: compiler.sysroot.clone() },
        Some(compiler) => Decision::Linker { llvm: compiler.llvm },
        None => Decision::Compiler,
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { compiler, linker } => {
                let (major, minor) = compiler.version;
                write!(
                    f,
                    "rustc {major}.{minor} with LLVM {} in {}, {}",
                    compiler.llvm,
                    compiler.sysroot.display(),
                    linker.path.display()
                )
            }
            Self::Link { sysroot } => {
                write!(f, "the BPF compiler in {} is not linked into rustup", sysroot.display())
            }
            Self::Linker { llvm } => write!(f, "there is no bpf-linker with LLVM {llvm} or newer"),
            Self::Compiler => f.write_str("there is no compiler that builds for BPF"),
        }
    }
}

/// Looks at this machine. Costs a few milliseconds for each compiler that could serve.
pub(crate) fn probe() -> Facts {
    let rustup = find_command("rustup");
    let mut sysroots: Vec<(Option<String>, PathBuf)> = Vec::new();
    if let Some(rustup) = &rustup {
        let list = output(Command::new(rustup).args(["toolchain", "list", "-v"])).unwrap_or_default();
        for (name, sysroot) in list.lines().filter_map(parse_toolchain) {
            sysroots.push((Some(name.to_owned()), sysroot));
        }
    } else if let Some(sysroot) = output(Command::new("rustc").args(["--print", "sysroot"])) {
        sysroots.push((None, PathBuf::from(sysroot.trim())));
    }
    if !sysroots.iter().any(|(_, sysroot)| sysroot == Path::new(SYSTEM_SYSROOT)) {
        sysroots.push((None, PathBuf::from(SYSTEM_SYSROOT)));
    }
    Facts {
        rustup: rustup.is_some(),
        compilers: sysroots.into_iter().filter_map(|(name, sysroot)| probe_compiler(name, sysroot)).collect(),
        linker: find_command("bpf-linker").and_then(probe_linker),
    }
}

/// A command on PATH, in cargo's own folder, or in the system folders that a user's PATH may lack.
pub(crate) fn find_command(name: &str) -> Option<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    env::split_paths(env::var_os("PATH").as_deref().unwrap_or(OsStr::new("")))
        .chain(cargo_home.map(|home| home.join("bin")))
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn probe_compiler(name: Option<String>, sysroot: PathBuf) -> Option<Compiler> {
    let rustlib = sysroot.join("lib/rustlib");
    let target = if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
    let prebuilt_core = rustlib.join(target).join("lib").read_dir().is_ok_and(|mut entries| {
        entries
            .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libcore-")))
    });
    let core_source = rustlib.join("src/rust/library/core").is_dir();
    if !prebuilt_core && !core_source {
        return None;
    }
    let (version, llvm, nightly) =
        parse_rustc_version(&output(Command::new(sysroot.join("bin/rustc")).arg("-vV"))?)?;
    Some(Compiler { name, sysroot, version, llvm, nightly, prebuilt_core, core_source })
}

fn probe_linker(path: PathBuf) -> Option<Linker> {
    // A linker whose LLVM was uninstalled does not start.
    output(Command::new(&path).arg("--version"))?;
    let libraries = output(Command::new("ldd").arg(&path)).unwrap_or_default();
    Some(Linker { path, llvm: parse_linked_llvm(&libraries) })
}

/// A line of `rustup toolchain list -v`: `NAME (active, default) PATH`.
fn parse_toolchain(line: &str) -> Option<(&str, PathBuf)> {
    let name = line.split_whitespace().next()?;
    let path = line.find('/').map(|start| line[start..].trim_end())?;
    Some((name, PathBuf::from(path)))
}

/// Version, LLVM's major version and whether it is a nightly, from `rustc -vV`.
fn parse_rustc_version(text: &str) -> Option<((u32, u32), u32, bool)> {
    let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let release = field("release:")?;
    let mut numbers = release.split('.').map(str::parse::<u32>);
    let version = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let llvm = field("LLVM version:")?.split('.').next()?.parse().ok()?;
    Some((version, llvm, release.contains("-nightly")))
}

/// The major version in `libLLVM.so.22.1 => ...` or `libLLVM-15.so.1 => ...` of ldd's output.
fn parse_linked_llvm(libraries: &str) -> Option<u32> {
    let name = libraries.split_whitespace().find_map(|word| word.strip_prefix("libLLVM"))?;
    name.split(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
#[path = "toolchain/tests.rs"]
mod tests;
