//! Builds the BPF object with the toolchain that `cargo xtask setup` provides, and puts it into OUT_DIR as `vip-lb`.

use std::{
    env, fs,
    io::ErrorKind,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::exit,
};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain};

use crate::toolchain::Decision;

#[path = "../xtask/src/toolchain.rs"]
#[expect(dead_code, reason = "set-up, which shares this file, uses the rest of it")]
mod toolchain;

fn main() {
    if let Err(error) = build() {
        println!("cargo::error={error:#}");
        exit(1);
    }
}

fn build() -> Result<()> {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the package has no parent folder")?;
    // aya-build watches the folder of the program itself; this is the rest of what goes into the object.
    for input in ["vip-lb-common", "xtask/src/toolchain.rs", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", workspace.join(input).display());
    }
    println!("cargo:rerun-if-changed=build.rs");

    let (compiler, linker) = match toolchain::decide(&toolchain::probe()) {
        Decision::Ready { compiler, linker } => (compiler, linker),
        missing => bail!("{missing}: run `cargo xtask setup`"),
    };
    for tool in [compiler.sysroot.join("bin/rustc"), linker.path] {
        println!("cargo:rerun-if-changed={}", tool.display());
    }
    // aya-build passes everything the nested cargo prints on as a warning, which cargo then repeats at each build.
    // SAFETY: this program has one thread.
    unsafe { env::set_var("CARGO_TERM_QUIET", "true") };

    share_what_is_built()?;
    let root_dir = workspace.join("vip-lb-ebpf");
    let package = Package {
        name: "vip-lb-ebpf",
        root_dir: root_dir.to_str().context("the path of the workspace is not UTF-8")?,
        ..Package::default()
    };
    // Without rustup, aya-build takes the compiler on PATH and ignores the name.
    aya_build::build_ebpf([package], Toolchain::Custom(compiler.name.as_deref().unwrap_or("system")))
}

/// Lets all builds of this package share one target folder for BPF. aya-build has one in each OUT_DIR, and there is an
/// OUT_DIR for every profile and set of features: the same object, and all that it depends on, would be built for each.
fn share_what_is_built() -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    // Such as target/debug/build/vip-lb-0123456789abcdef/out.
    let shared = out.ancestors().nth(4).context("OUT_DIR is not within a target folder")?.join("bpf");
    fs::create_dir_all(&shared).with_context(|| format!("creating {}", shared.display()))?;
    let private = out.join("aya-build");
    match symlink(&shared, &private) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("linking {} to {}", private.display(), shared.display()))
        }
        _ => Ok(()),
    }
}
