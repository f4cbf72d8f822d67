//! `vip-lb doctor`: what is wrong with a host.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use super::{
    arguments::{DEFAULT_CONFIG, DoctorArgs},
    backend::wish,
    exit::{Exit, UsageError},
    output,
    render::{self, Style},
};
use crate::{
    backend::HostFacts,
    config::{self, Config, ConfigErrors, InvalidConfig},
    doctor::{self, Finding, Verdict},
    network::Network,
};

pub(super) fn doctor(args: &DoctorArgs) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let findings = runtime.block_on(examine(args))?;
    let verdict = Verdict::of(&findings);
    if args.json {
        output::print_json(&Report { verdict, findings: &findings })?;
    } else {
        output::print(&render::findings(&findings, args.all, Style::of_stdout()))?;
    }
    Ok(match verdict {
        Verdict::Ok => Exit::Success,
        Verdict::Warnings => Exit::Warnings,
        Verdict::Problems => Exit::Problems,
    })
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    verdict: Verdict,
    findings: &'a [Finding],
}

async fn examine(args: &DoctorArgs) -> anyhow::Result<Vec<Finding>> {
    if args.backend {
        if args.config.is_some() {
            return Err(UsageError("--config is about a node: leave it out with --backend".into()).into());
        }
        let wish = wish(&args.wish)?;
        let network = Network::open().context("cannot open a netlink socket")?;
        let facts = HostFacts::gather(&network, args.wish.interface.as_deref(), &args.pins).await?;
        return Ok(doctor::backend(&wish, &facts, &args.pins));
    }
    let wish = &args.wish;
    if !wish.vip.is_empty() || wish.mode.is_some() || !wish.from.is_empty() || wish.interface.is_some() {
        return Err(UsageError(
            "--vip, --mode, --from and --interface are about a backend: say --backend".into(),
        )
        .into());
    }
    let config = match &args.config {
        Some(path) => Some(load(path)?),
        None => Some(Path::new(DEFAULT_CONFIG)).filter(|path| path.exists()).map(load).transpose()?,
    };
    Ok(doctor::node(&doctor::gather::node(config).await?))
}

fn load(path: &Path) -> Result<Config, InvalidConfig> {
    config::load(path).map(|loaded| loaded.config).map_err(|ConfigErrors { errors }| InvalidConfig {
        path: path.to_owned(),
        mistakes: errors.iter().map(ToString::to_string).collect(),
    })
}
