//! The command line: what it takes, what it prints, and how it exits.

pub mod address;
pub mod arguments;
mod backend;
mod change;
mod check;
pub mod daemon;
mod doctor;
mod drain;
pub mod exit;
mod generate;
mod handover;
mod logging;
mod output;
mod pcapng;
mod peers;
mod remote;
mod render;
mod top;
mod upgrade_check;
mod watch;

use arguments::{Cli, Command};
use exit::Exit;

/// Carries out one command. What went wrong has been said on standard error by the time it returns.
pub fn execute(cli: Cli) -> Exit {
    let socket = cli.socket;
    let client = || remote::client(socket.as_deref());
    let result = match cli.command {
        Command::Run(args) => {
            logging::start(args.log_format, args.verbose);
            daemon::run(&args, socket.as_deref()).map(|()| Exit::Success)
        }
        Command::Unload(args) => {
            logging::start_quiet();
            daemon::unload(&args).map(|()| Exit::Success)
        }
        Command::Decap(args) => {
            logging::start_quiet();
            daemon::decap(&args).map(|()| Exit::Success)
        }
        Command::Backend(command) => {
            logging::start_quiet();
            backend::backend(&command)
        }
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Generate(command) => generate::generate(&command),
        Command::Check(args) => check::check(&args),
        Command::Schema => output::print_json(&crate::config::schema()).map(|()| Exit::Success),
        Command::Status(args) => remote::status(&client(), &args),
        Command::Vip(args) => remote::vip(&client(), &args),
        Command::Explain(args) if args.live => watch::live(&client(), &args.filter, args.json),
        Command::Explain(args) => remote::explain(&client(), &args),
        Command::Capture(args) => watch::capture(&client(), &args),
        Command::Drain(args) => drain::drain(&client(), &args),
        Command::Undrain(args) => drain::undrain(&client(), args),
        Command::Handover(args) => handover::hand_over(&client(), &args),
        Command::Maintenance(args) => handover::maintenance(&client(), &args),
        Command::Peers(args) => peers::peers(&client(), &args),
        Command::Counters(args) => remote::counters(&client(), &args),
        Command::Top(args) => remote::run(top::top(&client(), &args)),
        Command::Events(args) => remote::events(&client(), &args),
        Command::Plan(args) => change::plan(&client(), &args),
        Command::Reload(args) => change::reload(&client(), &args),
        Command::Rollback(args) => change::rollback(&client(), &args),
        Command::Upgrade(args) => remote::upgrade(&client(), &args),
        Command::UpgradeCheck(args) => {
            logging::start_quiet();
            upgrade_check::run(&args)
        }
    };
    result.unwrap_or_else(|error| {
        output::complain(&error);
        Exit::of(&error)
    })
}
