//! The commands from outside, with a stand-in for cargo. Needs root and `cargo xtask setup`.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

/// Of this build: what set-up has put there is found, and nothing is put elsewhere.
fn target() -> String {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().display().to_string()
}

/// A folder with a script that cargo's place is given to.
struct Cargo(PathBuf);

impl Cargo {
    fn new(name: &str, script: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("vip-lb-commands-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("cargo"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(folder.join("cargo"), Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    fn xtask(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(arguments).env("CARGO", self.0.join("cargo")).env_remove("CI").stdout(Stdio::piped());
        command
    }
}

impl Drop for Cargo {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn an_interrupted_demo_cleans_up_and_its_exit_code_is_the_commands() {
    let cargo = Cargo::new(
        "demo",
        &r#"case $1 in
            metadata) echo '{"target_directory": "TARGET"}';;
            run) trap 'echo cleaned up; exit 7' INT
                 echo "$@"
                 while :; do sleep 0.05; done;;
        esac"#
            .replace("TARGET", &target()),
    );
    let mut xtask = cargo.xtask(&["demo", "--mode=ipip", "--ipv6", "--json=/out.json"]).spawn().unwrap();
    let mut lines = BufReader::new(xtask.stdout.take().unwrap()).lines().map(Result::unwrap);
    let run = lines.find(|line| line.starts_with("run ")).expect("the demo is run");
    assert!(
        run.ends_with(&format!(
            "--bin demo -- --binary {}/release/vip-lb --mode ipip --ipv6 --json=/out.json",
            target()
        )),
        "{run}"
    );

    let pid = libc::pid_t::try_from(xtask.id()).unwrap();
    // SAFETY: the process is a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    assert_eq!(lines.next().as_deref(), Some("cleaned up"));
    assert_eq!(xtask.wait().unwrap().code(), Some(7));
}

#[test]
fn a_process_left_behind_fails_the_tests_and_is_ended() {
    let cargo = Cargo::new(
        "test",
        &r#"case $1 in
            metadata) echo '{"target_directory": "TARGET", "packages": [{"name": "vip-lb-tests", "targets": [
                      {"name": "program_x", "kind": ["test"]}]}]}';;
            test) echo "$@"
                  setsid sh -c 'echo pid $$; exec sleep 86399' & ;;
        esac"#
            .replace("TARGET", &target()),
    );
    let mut xtask = cargo.xtask(&["test", "--tier=program"]).stderr(Stdio::piped()).spawn().unwrap();
    let (mut text, mut errors) = (String::new(), String::new());
    xtask.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    xtask.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!(xtask.wait().unwrap().code(), Some(1), "{text}{errors}");

    assert!(text.contains("test --package=vip-lb-tests --test=program_x"), "{text}");
    // The daemon of the commit before is there, or passed over where the history is not.
    let summary = text.lines().last().unwrap_or_default();
    assert!(summary.contains(" passed, 1 failed"), "{text}");
    let pid = text.lines().find_map(|line| line.strip_prefix("pid ")).expect("the process has run");
    assert!(errors.contains(&format!("process {pid}: sleep 86399")), "{errors}");
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists());
}
