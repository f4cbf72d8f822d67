//! Everything that a command may have changed about a node: addresses, links, offloads, routes, settings of the stack.

use std::{collections::BTreeMap, fs, io, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::{namespace::Namespace, topology::Node};

/// The state of a node, to be compared with a later one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    parts: BTreeMap<String, String>,
}

impl Settings {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// `ip` or `ethtool` fails, or `/proc/sys` cannot be read.
    pub fn read(namespace: &Namespace) -> Result<Self> {
        let mut parts = BTreeMap::new();
        for arguments in [&["-d", "addr"][..], &["-d", "link"], &["route"], &["-6", "route"]] {
            parts.insert(format!("ip {}", arguments.join(" ")), namespace.ip(arguments)?);
        }
        parts.insert("ethtool".into(), namespace.run("ethtool", &["-k", Node::DEVICE])?);
        let settings = namespace.enter(|| {
            let mut found = BTreeMap::new();
            for family in ["ipv4", "ipv6"] {
                read_tree(&Path::new("/proc/sys/net").join(family).join("conf"), &mut found)?;
            }
            io::Result::Ok(found)
        })?;
        parts.extend(settings.context("read /proc/sys/net")?);
        Ok(Self { parts })
    }

    /// Without the kernel's numbers of XDP programs, which no two loads share.
    #[must_use]
    pub fn without_numbers(mut self) -> Self {
        for text in self.parts.values_mut() {
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("prog/xdp"));
            let words = lines.map(|line| {
                let words: Vec<&str> = line.split(' ').filter(|word| !word.starts_with("xdp/id:")).collect();
                words.join(" ")
            });
            *text = words.collect::<Vec<_>>().join("\n");
        }
        self
    }

    /// Fails with all that differs.
    ///
    /// # Errors
    ///
    /// Something differs.
    pub fn expect(&self, earlier: &Self) -> Result<()> {
        let names = self.parts.keys().chain(earlier.parts.keys());
        let mut differences: Vec<String> = names
            .filter(|name| self.parts.get(*name) != earlier.parts.get(*name))
            .map(|name| format!("{name}: {:?} -> {:?}", earlier.parts.get(name), self.parts.get(name)))
            .collect();
        differences.sort();
        differences.dedup();
        ensure!(differences.is_empty(), "changed:\n{}", differences.join("\n"));
        Ok(())
    }
}

fn read_tree(folder: &Path, into: &mut BTreeMap<String, String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_tree(&path, into)?;
        } else if let Ok(text) = fs::read_to_string(&path) {
            // Some are for writing only.
            into.insert(path.display().to_string(), text);
        }
    }
    Ok(())
}
