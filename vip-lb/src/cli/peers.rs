//! `vip-lb peers`: whether the nodes of the group hear each other and do the same.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{arguments::PeersArgs, exit::Exit, output, remote::ask, render};
use crate::api::Client;

#[expect(clippy::disallowed_methods, reason = "ages are shown as of now")]
pub(super) fn peers(client: &Client, args: &PeersArgs) -> anyhow::Result<Exit> {
    let Some(peering) = ask(client.status())?.peering else {
        anyhow::bail!("this node speaks with no other: its configuration has no `node.peering`");
    };
    if args.json {
        output::print_json(&peering)?;
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        output::print(&render::peers(&peering, now, render::Style::of_stdout()))?;
    }
    Ok(if args.check && !peering.all_agree() { Exit::PeersDisagree } else { Exit::Success })
}
