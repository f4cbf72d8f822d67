//! `vip-lb plan`, `reload` and `rollback`: a change before, while and after it is made.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    arguments::{PlanArgs, ReloadArgs, RollbackArgs},
    exit::Exit,
    output,
    remote::ask,
    render,
};
use crate::{
    api::{
        Client, ClientError,
        model::{ConfigRequest, ConfigText, ErrorKind, Outcome, Plan, Revisions},
    },
    config::{self, InvalidConfig},
};

pub(super) fn plan(client: &Client, args: &PlanArgs) -> anyhow::Result<Exit> {
    show_plan(client, &request(args.file.as_deref())?, args.json)
}

pub(super) fn reload(client: &Client, args: &ReloadArgs) -> anyhow::Result<Exit> {
    let request = request(args.file.as_deref())?;
    if args.dry_run { show_plan(client, &request, args.json) } else { apply(client, &request, args.json) }
}

pub(super) fn rollback(client: &Client, args: &RollbackArgs) -> anyhow::Result<Exit> {
    if args.list {
        return list(client, args.json);
    }
    let revision = match args.revision {
        Some(revision) => revision,
        None => before_the_one_in_force(&ask(client.revisions())?)?,
    };
    let request = ConfigRequest { revision: Some(revision), ..ConfigRequest::default() };
    if args.dry_run { show_plan(client, &request, args.json) } else { apply(client, &request, args.json) }
}

/// Reads a file here: the daemon may see other files than whoever asks it.
fn request(file: Option<&Path>) -> Result<ConfigRequest, InvalidConfig> {
    let text = file.map(|file| {
        let yaml = config::read(file).map_err(|errors| InvalidConfig::new(file, &errors.errors))?;
        Ok(ConfigText { name: file.display().to_string(), yaml })
    });
    Ok(ConfigRequest { text: text.transpose()?, ..ConfigRequest::default() })
}

fn show_plan(client: &Client, request: &ConfigRequest, json: bool) -> anyhow::Result<Exit> {
    let plan = match or_mistakes(ask(client.plan(request)), json)? {
        Ok(plan) => plan,
        Err(exit) => return Ok(exit),
    };
    if json {
        output::print_json(&plan)?;
    } else {
        output::print(&render::plan(&plan, render::Style::of_stdout()))?;
    }
    Ok(exit_of(&plan))
}

fn apply(client: &Client, request: &ConfigRequest, json: bool) -> anyhow::Result<Exit> {
    let report = match or_mistakes(ask(client.reload(request)), json)? {
        Ok(report) => report,
        Err(exit) => return Ok(exit),
    };
    if json {
        output::print_json(&report)?;
    } else {
        output::print(&render::reload(&report))?;
    }
    Ok(Exit::Success)
}

/// Mistakes in a configuration are what a script asked for, so they come where the answer comes.
fn or_mistakes<T>(answer: Result<T, ClientError>, json: bool) -> anyhow::Result<Result<T, Exit>> {
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(ClientError::Refused(error)) if json && error.kind == ErrorKind::InvalidConfig => {
            output::print_json(&error)?;
            Ok(Err(Exit::InvalidConfig))
        }
        Err(error) => Err(error.into()),
    }
}

fn exit_of(plan: &Plan) -> Exit {
    match plan.outcome {
        Outcome::Nothing => Exit::Success,
        Outcome::Safe => Exit::SafeChange,
        Outcome::LosesConnections => Exit::LossyChange,
    }
}

#[expect(clippy::disallowed_methods, reason = "ages are shown as of now")]
fn list(client: &Client, json: bool) -> anyhow::Result<Exit> {
    let revisions = ask(client.revisions())?;
    if json {
        output::print_json(&revisions)?;
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        output::print(&render::revisions(&revisions, now))?;
    }
    Ok(Exit::Success)
}

fn before_the_one_in_force(revisions: &Revisions) -> anyhow::Result<u64> {
    let older = revisions.revisions.iter().rev().skip_while(|revision| !revision.in_force);
    let before = older.skip(1).map(|revision| revision.number).next();
    before.ok_or_else(|| {
        anyhow::anyhow!("no configuration before the one in force is kept in {}", revisions.folder.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::RevisionInfo;

    #[test]
    fn the_one_before_is_the_one_before_in_time() {
        let revision = |number, in_force| RevisionInfo {
            number,
            since: number,
            hash: String::new(),
            bytes: 1,
            in_force,
        };
        let of = |revisions| Revisions { revisions, folder: "/x".into() };
        let kept = of(vec![revision(3, false), revision(5, false), revision(7, true)]);
        assert_eq!(before_the_one_in_force(&kept).unwrap(), 5);
        for none in [vec![], vec![revision(3, true)], vec![revision(3, false)]] {
            let error = before_the_one_in_force(&of(none)).unwrap_err();
            assert_eq!(error.to_string(), "no configuration before the one in force is kept in /x");
        }
    }
}
