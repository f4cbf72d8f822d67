//! Makes and undoes the changes.

use std::path::Path;

use anyhow::Context as _;

use super::{
    decapsulation,
    needs::Need,
    record::{Change, Record},
};
use crate::{
    dataplane::{self, DecapOptions, Decapsulator},
    network::{Network, Sysctl},
};

/// Makes all that is needed so, and records what was there before. Returns what was done, in lines for people. What fails leaves what was
/// done before it, which is on record.
///
/// # Errors
///
/// A change is refused: most likely the caller is not root.
pub async fn apply(network: &Network, needs: &[Need], pins: &Path) -> anyhow::Result<Vec<String>> {
    let record = Record::of(pins);
    let mut lines = Vec::new();
    for need in needs {
        let Some(change) = &need.change else { continue };
        record.add(change.clone())?;
        match change {
            Change::Address(address) => {
                network
                    .add_to_loopback(*address)
                    .await
                    .with_context(|| format!("cannot add {address} to lo"))?;
                lines.push(format!("{address}: added to lo"));
            }
            Change::Sysctl { setting, before, after } => {
                set(setting, *after)?;
                lines.push(format!("{setting}: {before} -> {after}"));
            }
            Change::Decapsulation { interface, after, .. } => {
                lines.extend(unpack(network, interface, after, pins).await?);
            }
        }
    }
    Ok(lines)
}

/// Puts back all that is on record for a folder of pins, the last change first. What somebody else has changed since stays as it is. Returns
/// what was done, in lines for people.
///
/// # Errors
///
/// Something cannot be put back; it stays on record with what was changed before it.
pub async fn revert(network: &Network, pins: &Path) -> anyhow::Result<Vec<String>> {
    let record = Record::of(pins);
    let mut changes = record.read()?;
    let mut lines = Vec::new();
    while let Some(change) = changes.last() {
        lines.extend(undo(network, change, pins).await?);
        changes.pop();
        record.write(&changes)?;
    }
    Ok(lines)
}

async fn undo(network: &Network, change: &Change, pins: &Path) -> anyhow::Result<Vec<String>> {
    match change {
        Change::Address(address) => {
            let was_there = network
                .remove_from_loopback(*address)
                .await
                .with_context(|| format!("cannot remove {address} from lo"))?;
            Ok(vec![match was_there {
                true => format!("{address}: removed from lo"),
                false => format!("{address}: gone from lo already"),
            }])
        }
        Change::Sysctl { setting, before, after } => {
            let line = match setting.read() {
                Ok(current) if current == *after => {
                    set(setting, *before)?;
                    format!("{setting}: {after} -> {before}")
                }
                Ok(current) if current == *before => format!("{setting}: is {before} already"),
                Ok(current) => format!("{setting}: left at {current}, which was set since"),
                Err(_) => format!("{setting}: gone, nothing to put back"),
            };
            Ok(vec![line])
        }
        Change::Decapsulation { interface, before, after } => {
            match (dataplane::decapsulator(pins, interface)?, before) {
                (None, _) => Ok(vec![format!("{interface}: nothing is loaded")]),
                (Some(current), _) if current != *after => {
                    Ok(vec![format!("{interface}: left as it is, what is unpacked was changed since")])
                }
                (Some(_), Some(before)) => unpack(network, interface, before, pins).await,
                (Some(_), None) => {
                    Ok(vec![format!("{interface}: {}", decapsulation::stop(pins, interface)?.join(", "))])
                }
            }
        }
    }
}

async fn unpack(
    network: &Network,
    interface: &str,
    wanted: &Decapsulator,
    pins: &Path,
) -> anyhow::Result<Vec<String>> {
    let interface = network.interface(interface).await?;
    decapsulation::start(&DecapOptions {
        interface: interface.name,
        index: interface.index,
        from: wanted.from.iter().copied().collect(),
        vips: wanted.vips.iter().copied().collect(),
        gue_port: wanted.gue_port,
        pins: pins.to_owned(),
    })
}

fn set(setting: &Sysctl, value: i64) -> anyhow::Result<()> {
    setting.write(value).with_context(|| format!("cannot set {setting} to {value}"))
}
