//! The choice of a toolchain, from facts given as data.

use super::*;

fn debian(name: Option<&str>) -> Compiler {
    Compiler {
        name: name.map(str::to_owned),
        sysroot: PathBuf::from(SYSTEM_SYSROOT),
        version: (1, 96),
        llvm: 22,
        nightly: false,
        prebuilt_core: true,
        core_source: false,
    }
}

fn nightly(core_source: bool) -> Compiler {
    Compiler {
        name: Some("nightly-x86_64-unknown-linux-gnu".to_owned()),
        sysroot: PathBuf::from("/toolchains/nightly"),
        version: (1, 99),
        llvm: 23,
        nightly: true,
        prebuilt_core: false,
        core_source,
    }
}

fn linker(llvm: Option<u32>) -> Linker {
    Linker { path: PathBuf::from("/bin/bpf-linker"), llvm }
}

fn facts(compilers: &[Compiler], linker: Option<Linker>) -> Facts {
    Facts { rustup: true, compilers: compilers.to_vec(), linker }
}

fn ready(compiler: Compiler, llvm: Option<u32>) -> Decision {
    Decision::Ready { compiler, linker: linker(llvm) }
}

#[test]
fn each_machine_gets_the_step_it_needs() {
    let old = Compiler { version: (1, 94), ..debian(Some("old")) };
    let stable_with_source = Compiler { nightly: false, ..nightly(true) };
    let link = Decision::Link { sysroot: PathBuf::from("/usr") };
    let cases = [
        ("a bare machine", facts(&[], None), Decision::Compiler),
        ("a linker alone", facts(&[], Some(linker(None))), Decision::Compiler),
        ("nightly without its source", facts(&[nightly(false)], Some(linker(None))), Decision::Compiler),
        ("a stable compiler never builds core", facts(&[stable_with_source], None), Decision::Compiler),
        ("a compiler too old for the workspace", facts(&[old], Some(linker(Some(22)))), Decision::Compiler),
        ("Debian's, not linked into rustup", facts(&[debian(None)], None), link.clone()),
        ("not linked, linker there", facts(&[debian(None)], Some(linker(Some(22)))), link),
        ("Debian's without a linker", facts(&[debian(Some("d"))], None), Decision::Linker { llvm: 22 }),
        (
            "a linker older than the compiler",
            facts(&[debian(Some("d"))], Some(linker(Some(21)))),
            Decision::Linker { llvm: 22 },
        ),
        ("nightly without a linker", facts(&[nightly(true)], None), Decision::Linker { llvm: 23 }),
        (
            "Debian's, complete",
            facts(&[debian(Some("d"))], Some(linker(Some(22)))),
            ready(debian(Some("d")), Some(22)),
        ),
        (
            "a linker newer than the compiler",
            facts(&[debian(Some("d"))], Some(linker(Some(23)))),
            ready(debian(Some("d")), Some(23)),
        ),
        (
            "nightly and a linker with LLVM inside",
            facts(&[nightly(true)], Some(linker(None))),
            ready(nightly(true), None),
        ),
        (
            "a prebuilt core goes before a nightly",
            facts(&[nightly(true), debian(Some("d"))], Some(linker(Some(23)))),
            ready(debian(Some("d")), Some(23)),
        ),
        (
            "the compiler that the linker can read",
            facts(&[nightly(true), debian(Some("d"))], Some(linker(Some(22)))),
            ready(debian(Some("d")), Some(22)),
        ),
        (
            "nightly ready, Debian's not linked",
            facts(&[nightly(true), debian(None)], Some(linker(None))),
            ready(nightly(true), None),
        ),
        (
            "no rustup at all",
            Facts { rustup: false, ..facts(&[debian(None)], Some(linker(Some(22)))) },
            ready(debian(None), Some(22)),
        ),
    ];
    for (name, facts, expected) in cases {
        assert_eq!(decide(&facts), expected, "{name}");
    }
}

#[test]
fn the_minimum_is_that_of_the_workspace() {
    let manifest = include_str!("../../../Cargo.toml");
    let line = manifest.lines().find(|line| line.starts_with("rust-version")).expect("rust-version");
    let (major, minor) = MINIMUM_RUSTC;
    assert_eq!(line, format!("rust-version = \"{major}.{minor}\""));
}

#[test]
fn tools_are_understood() {
    assert_eq!(
        parse_rustc_version("rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8\n"),
        Some(((1, 96), 22, false))
    );
    assert_eq!(
        parse_rustc_version("release: 1.97.0-nightly\nLLVM version: 22.1.2\n"),
        Some(((1, 97), 22, true))
    );
    assert_eq!(parse_rustc_version("release: 1.96.0\n"), None);

    assert_eq!(
        parse_linked_llvm("\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x7f)\n"),
        Some(22)
    );
    assert_eq!(parse_linked_llvm("\tlibLLVM-15.so.1 => /lib/libLLVM-15.so.1 (0x7f)\n"), Some(15));
    assert_eq!(parse_linked_llvm("\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n"), None);

    assert_eq!(
        parse_toolchain("stable-x86_64 (active, default) /home/a/.rustup/toolchains/stable-x86_64"),
        Some(("stable-x86_64", PathBuf::from("/home/a/.rustup/toolchains/stable-x86_64")))
    );
    assert_eq!(parse_toolchain("vip-lb-bpf\t/usr"), Some(("vip-lb-bpf", PathBuf::from("/usr"))));
    assert_eq!(parse_toolchain("no installed toolchains"), None);
}
