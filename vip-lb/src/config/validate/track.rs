//! Whether what a virtual router depends on is said in full.

use std::{collections::BTreeMap, time::Duration};

use super::Validator;
use crate::{
    config::{
        issue::Place,
        model::{Track, TrackEffect, Tracked, TrackedCommand},
        raw::RawTrack,
    },
    ownership::vrrp::Priority,
};

const INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(2);
const TIMES: u32 = 2;

impl<'a> Validator<'a> {
    /// What is tracked by a router of this priority. Items that are wrong are left out; that has been noted.
    pub(super) fn tracks(&mut self, raw: &'a [RawTrack], priority: Priority) -> Vec<Track> {
        let mut seen: BTreeMap<String, &Place> = BTreeMap::new();
        let mut tracks = Vec::new();
        for item in raw {
            let what = self.tracked(item);
            let effect = self.effect(item, priority);
            let Some(track) = what.zip(effect).map(|(what, effect)| Track { what, effect }) else { continue };
            let name = track.what.to_string();
            if let Some(first) = seen.get(name.as_str()) {
                let expected = format!("each once ({})", first.reference());
                self.issues.error(&item.place, name, expected);
                continue;
            }
            seen.insert(name, &item.place);
            tracks.push(track);
        }
        tracks
    }

    fn tracked(&mut self, raw: &RawTrack) -> Option<Tracked> {
        let given: Vec<&str> = [
            ("interface", raw.interface.is_present()),
            ("healthy", raw.healthy.is_present()),
            ("command", raw.command.is_present()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect();
        if given.len() != 1 {
            let found = if given.is_empty() { "nothing to track".to_owned() } else { given.join(" and ") };
            self.issues.error(&raw.place, found, "one of interface, healthy and command");
            return None;
        }
        if !raw.command.is_present() {
            let durations = [&raw.interval, &raw.timeout].map(|field| field.given().map(|at| &at.place));
            let counts = [&raw.rise, &raw.fall].map(|field| field.given().map(|at| &at.place));
            for place in durations.into_iter().chain(counts).flatten() {
                self.issues.error(place, format!("it with {}", given[0]), "it only with command");
            }
        }
        if let Some(interface) = raw.interface.value() {
            return Some(Tracked::Interface(interface.clone()));
        }
        if let Some(&healthy) = raw.healthy.value() {
            return Some(Tracked::Healthy(healthy));
        }
        let words = raw.command.value()?;
        let program = words.first()?;
        if !program.value.starts_with('/') {
            let found = format!("{:?}", program.value);
            self.issues.error(&program.place, found, "the absolute path of a program");
            return None;
        }
        let interval = raw.interval.or(INTERVAL);
        if let Some(timeout) = raw.timeout.given()
            && timeout.value > interval
        {
            self.issues.error(&timeout.place, "a timeout longer than interval", "at most interval");
        }
        Some(Tracked::Command(TrackedCommand {
            command: words.iter().map(|word| word.value.clone()).collect(),
            interval,
            timeout: raw.timeout.or(TIMEOUT.min(interval)),
            rise: raw.rise.or(TIMES),
            fall: raw.fall.or(TIMES),
        }))
    }

    fn effect(&mut self, raw: &RawTrack, priority: Priority) -> Option<TrackEffect> {
        match (raw.priority.given(), raw.fault.or(false)) {
            (Some(lowered), true) => {
                self.issues.error(&lowered.place, "priority beside fault", "one of the two");
                None
            }
            (Some(lowered), false) if priority == Priority::OWNER => {
                let expected = "fault instead: a node of priority 255 stays one (RFC 9568 section 6.1)";
                self.issues.error(&lowered.place, "a priority to be lowered from 255", expected);
                None
            }
            (Some(lowered), false) => Some(TrackEffect::Lower(lowered.value)),
            (None, true) => Some(TrackEffect::Fault),
            (None, false) => {
                if !raw.priority.is_present() {
                    let expected = "`priority: -N`, or `fault: true`, beside it";
                    self.issues.error(&raw.place, "nothing that follows from it", expected);
                }
                None
            }
        }
    }
}
