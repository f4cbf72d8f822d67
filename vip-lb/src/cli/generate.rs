//! `vip-lb generate`: what the definition of the command line says, for man(1) and for shells.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};

use super::{
    arguments::{Cli, GenerateCommand},
    exit::Exit,
    output,
};

/// The section of commands for the administrator.
const SECTION: &str = "8";

pub(super) fn generate(command: &GenerateCommand) -> anyhow::Result<Exit> {
    match command {
        GenerateCommand::Man { folder } => write_pages(folder)?,
        GenerateCommand::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "vip-lb", &mut script);
            output::print(&String::from_utf8(script).context("the script is no text")?)?;
        }
    }
    Ok(Exit::Success)
}

fn write_pages(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for (name, page) in pages().context("cannot render the man pages")? {
        let path = folder.join(format!("{name}.{SECTION}"));
        fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A page for the command and one for each of its subcommands, by name.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    // Names the subcommands after the whole line: `vip-lb-backend-setup`.
    command.build();
    let mut pages = Vec::new();
    render(&command, &mut pages)?;
    Ok(pages)
}

fn render(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut page = Vec::new();
    // An empty date would let the next field take its place.
    let version = concat!("version ", env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command.clone()).title(&name).section(SECTION);
    man.date(version).source("vip-lb").manual("vip-lb").render(&mut page)?;
    pages.push((name, page));
    command.get_subcommands().try_for_each(|subcommand| render(subcommand, pages))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_command_has_a_page_that_names_its_options() {
        let pages: BTreeMap<_, _> = pages()
            .unwrap()
            .into_iter()
            .map(|(name, page)| (name, String::from_utf8(page).unwrap()))
            .collect();
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        let mut waiting = vec![&command];
        let mut seen = 0;
        while let Some(command) = waiting.pop() {
            waiting.extend(command.get_subcommands());
            seen += 1;
            let name = command.get_display_name().unwrap_or(command.get_name());
            let page = pages.get(name).unwrap_or_else(|| panic!("no page {name} in {:?}", pages.keys()));
            // The options of a group of commands are those of its members. What is hidden is nobody's to give.
            let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
            for long in shown.filter_map(clap::Arg::get_long) {
                let escaped = format!("\\-\\-{}", long.replace('-', "\\-"));
                assert!(page.contains(&escaped), "{name} does not speak of --{long}: {page}");
            }
        }
        assert_eq!(seen, pages.len());
        assert!(pages.contains_key("vip-lb-backend-setup"), "{:?}", pages.keys());
    }

    #[test]
    fn completions_know_every_command() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vip-lb", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
