//! What a long command says while it runs: numbered steps, signs of life, times.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// A command that takes longer than this says what it is at, and again after each such time.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// How many of a failed command's last lines are shown.
const LINES_OF_A_FAILURE: usize = 40;

/// Numbered steps: `[2/5] bpf-linker: compiling, about 1 min ... done in 63 s`.
pub(crate) struct Steps {
    total: usize,
    begun: usize,
}

impl Steps {
    pub(crate) fn new(total: usize) -> Self {
        Self { total, begun: 0 }
    }

    /// Begins the next step; what it has to do is said by [`Step::found`] or [`Step::work`].
    pub(crate) fn begin(&mut self, name: &str) -> Step {
        self.begun += 1;
        print!("[{}/{}] {name}: ", self.begun, self.total);
        flush();
        Step { open_line: true }
    }
}

/// One step that has begun.
pub(crate) struct Step {
    open_line: bool,
}

impl Step {
    /// Nothing is to be done, and this is why.
    pub(crate) fn found(&mut self, what: &str) {
        self.say(what);
        println!();
        self.open_line = false;
    }

    /// Runs a command, shows signs of life from its output, and its last lines if it fails.
    pub(crate) fn run(&mut self, what: &str, command: &mut Command) -> Result<()> {
        let started = now();
        self.say(&format!("{what} ..."));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start `{}`", process::describe(command)))?;
        let _forward = process::forward_to(&child);

        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().map(|pipe| read_lines(pipe, sender.clone()));
        let stderr = child.stderr.take().map(|pipe| read_lines(pipe, sender));
        let mut last: VecDeque<String> = VecDeque::new();
        let mut said = started;
        for line in lines {
            if said.elapsed() >= SIGN_OF_LIFE {
                said = now();
                self.say(&format!("{:>7} s: {}", started.elapsed().as_secs(), line.trim()));
            }
            last.push_back(line);
            if last.len() > LINES_OF_A_FAILURE {
                last.pop_front();
            }
        }
        for reader in [stdout, stderr].into_iter().flatten() {
            reader.join().expect("a reader of lines does not panic");
        }

        let status = child.wait().with_context(|| format!("wait for `{}`", process::describe(command)))?;
        self.end(status.success(), started);
        if !status.success() {
            for line in last {
                eprintln!("    {line}");
            }
            bail!("`{}` failed: {status}", process::describe(command));
        }
        Ok(())
    }

    fn say(&mut self, text: &str) {
        if !self.open_line {
            print!("      ");
        }
        // A sign of life ends the line of the step that it belongs to.
        if text.starts_with(' ') && self.open_line {
            println!();
        }
        print!("{text}");
        flush();
        self.open_line = true;
    }

    fn end(&mut self, ok: bool, started: Instant) {
        let verdict = if ok { "done in" } else { "FAILED after" };
        println!(" {verdict} {}", seconds(started.elapsed()));
        self.open_line = false;
    }
}

/// A duration as a person reads it: `0.4 s`, `63 s`, `4 min 10 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        whole @ 10..120 => format!("{whole} s"),
        whole => format!("{} min {} s", whole / 60, whole % 60),
    }
}

/// The clock of these commands.
#[expect(clippy::disallowed_methods, reason = "nothing is decided by this time, it is only shown")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn read_lines(pipe: impl Read + Send + 'static, sender: mpsc::Sender<String>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    })
}

fn flush() {
    // Progress that nobody can read is no reason to stop.
    io::stdout().flush().ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (millis, text) in [(400, "0.4 s"), (63_900, "63 s"), (119_999, "119 s"), (250_000, "4 min 10 s")]
        {
            assert_eq!(seconds(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_failing_command_is_named() {
        let error = Steps::new(1).begin("test").run("failing", &mut Command::new("false")).unwrap_err();
        assert!(error.to_string().starts_with("`false` failed: exit status: 1"), "{error}");
    }
}
