//! A real terminal, by tmux: a shell in it, keys that are typed, and what is to be seen.

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result};

use super::{command, scratch::Scratch, wait_for};

/// A terminal with a shell, on a tmux server of its own, which ends with it.
#[derive(Debug)]
pub struct Terminal {
    folder: PathBuf,
}

impl Terminal {
    /// Opens a terminal of this size; the variables are set for its shell.
    ///
    /// # Errors
    ///
    /// There is no tmux, or it does not start.
    pub fn open(scratch: &Scratch, columns: u16, rows: u16, variables: &[(&str, &str)]) -> Result<Self> {
        let terminal = Self { folder: scratch.path().to_owned() };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let mut arguments = vec!["new-session", "-d", "-x", &columns, "-y", &rows];
        let variables: Vec<String> =
            variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for variable in &variables {
            arguments.extend(["-e", variable]);
        }
        arguments.extend(["env", "PS1=ready> ", "sh"]);
        terminal.tmux(&arguments)?;
        terminal.wait_for_text("the shell", "ready>")?;
        Ok(terminal)
    }

    /// Types a line and the return key.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn line(&self, text: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", text])?;
        self.key("Enter")
    }

    /// Presses a key, by tmux's name of it.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn key(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).map(drop)
    }

    /// Gives it another size.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &rows]).map(drop)
    }

    /// What is to be seen, line by line, without the blanks at the ends.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn screen(&self) -> Result<Vec<String>> {
        let text = self.tmux(&["capture-pane", "-p"])?;
        Ok(text.lines().map(|line| line.trim_end().to_owned()).collect())
    }

    /// What is to be seen, with the escape sequences of its colours.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn coloured_screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// What tmux knows of it by a format such as `#{alternate_on}`.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn state(&self, format: &str) -> Result<String> {
        Ok(self.tmux(&["display-message", "-p", format])?.trim().to_owned())
    }

    /// Waits until a text is to be seen, and returns the screen.
    ///
    /// # Errors
    ///
    /// It is not; the error holds the screen.
    pub fn wait_for_text(&self, what: &str, text: &str) -> Result<Vec<String>> {
        self.wait_until(what, |screen| screen.iter().any(|line| line.contains(text)))
    }

    /// Waits until the screen is as wanted, and returns it.
    ///
    /// # Errors
    ///
    /// It is not; the error holds the screen.
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut(&[String]) -> bool) -> Result<Vec<String>> {
        let waited = wait_for(what, Duration::from_secs(20), || {
            let screen = self.screen()?;
            Ok(holds(&screen).then_some(screen))
        });
        waited.with_context(|| format!("the screen:\n{}", self.screen().unwrap_or_default().join("\n")))
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let mut tmux = Command::new("tmux");
        tmux.args(["-u", "-L", "lab", "-f", "/dev/null"]).args(arguments);
        // Its socket is in the lab's folder, and a terminal around the test is none of its business.
        tmux.env("TMUX_TMPDIR", &self.folder)
            .env_remove("TMUX")
            .env_remove("NO_COLOR")
            .env("LC_ALL", "C.UTF-8");
        command::output_of(&mut tmux)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Err(error) = self.tmux(&["kill-server"]) {
            eprintln!("cannot end tmux: {error:#}");
        }
    }
}
