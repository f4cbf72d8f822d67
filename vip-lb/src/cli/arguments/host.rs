//! Arguments of the commands about a host, and about the command line itself.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};

use crate::{
    cli::address::Prefix,
    config::model::{DEFAULT_GUE_PORT, DEFAULT_PINS, ForwardMode},
};

/// What to do on a backend.
#[derive(Debug, Subcommand)]
pub enum BackendCommand {
    /// Show what this host needs to serve VIPs; --apply does it, and --revert puts back what was there before
    #[command(
        override_usage = "\
vip-lb backend setup --vip <ADDRESS>... --mode <MODE> [--from <PREFIX>...] [--interface <IF>] [--apply]
       vip-lb backend setup --revert",
        after_help = "\
Without --apply nothing is changed, and what is printed can be run by a shell.
Run again, --apply changes only what is not so yet. --revert undoes all that was ever applied on this host.

Examples:
  vip-lb backend setup --vip 198.51.100.10 --mode l2
  vip-lb backend setup --vip 198.51.100.10 2001:db8:100::10 --mode ipip --from 192.0.2.0/28 --apply
  vip-lb backend setup --revert"
    )]
    Setup(SetupArgs),
}

/// What a backend is to serve.
#[derive(Debug, Args)]
pub struct WishArgs {
    /// The VIPs that this host serves
    #[arg(long, value_name = "ADDRESS", num_args = 1.., value_delimiter = ',')]
    pub vip: Vec<IpAddr>,

    /// How their packets come: l2, ipip, gue or nat
    #[arg(long, value_name = "MODE")]
    pub mode: Option<ForwardMode>,

    /// Addresses or prefixes of the load balancers: the outer sources of ipip and gue packets
    #[arg(long, value_name = "PREFIX", num_args = 1.., value_delimiter = ',')]
    pub from: Vec<Prefix>,

    /// UDP port that gue packets come to: `node.gue_port` of the load balancers
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_GUE_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub gue_port: u16,

    /// Interface that packets come in by [default: that of the default route, or the only one]
    #[arg(long, value_name = "IF")]
    pub interface: Option<String>,
}

/// Arguments of `backend setup`.
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// What the host is to serve.
    #[command(flatten)]
    pub wish: WishArgs,

    /// Do it, and remember what was there before
    #[arg(long)]
    pub apply: bool,

    /// Put back all that was changed by --apply
    #[arg(long, conflicts_with_all = ["apply", "vip", "mode", "from", "gue_port", "interface"])]
    pub revert: bool,

    /// Folder of the pins; what was changed is remembered for each
    #[arg(long, value_name = "DIR", default_value = DEFAULT_PINS)]
    pub pins: PathBuf,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Hold the host against this configuration [default: /etc/vip-lb/vip-lb.yaml, if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Look at this host as a backend
    #[arg(long)]
    pub backend: bool,

    /// What the backend is to serve.
    #[command(flatten)]
    pub wish: WishArgs,

    /// Folder of the pins of a backend's `vip-lb decap`
    #[arg(long, value_name = "DIR", default_value = DEFAULT_PINS)]
    pub pins: PathBuf,

    /// Show what is well, too
    #[arg(long)]
    pub all: bool,

    /// Print JSON; it has every finding
    #[arg(long)]
    pub json: bool,
}

/// What to write.
#[derive(Debug, Subcommand)]
pub enum GenerateCommand {
    /// Write a man page for each command into a folder
    #[command(after_help = "\
Examples:
  vip-lb generate man /usr/local/share/man/man8")]
    Man {
        /// The folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },

    /// Print what a shell needs to complete this command line
    #[command(after_help = "\
Examples:
  vip-lb generate completions bash > /usr/share/bash-completion/completions/vip-lb")]
    Completions {
        /// bash, elvish, fish, powershell or zsh
        #[arg(value_name = "SHELL", value_enum, hide_possible_values = true)]
        shell: clap_complete::Shell,
    },
}
