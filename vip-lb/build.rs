//! Builds the BPF object with the toolchain that `cargo xtask setup` provides, and puts it into OUT_DIR as `vip-lb`.

use std::{env, path::Path, process::exit};

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

    let root_dir = workspace.join("vip-lb-ebpf");
    let package = Package {
        name: "vip-lb-ebpf",
        root_dir: root_dir.to_str().context("the path of the workspace is not UTF-8")?,
        ..Package::default()
    };
    // Without rustup, aya-build takes the compiler on PATH and ignores the name.
    aya_build::build_ebpf([package], Toolchain::Custom(compiler.name.as_deref().unwrap_or("system")))
}
