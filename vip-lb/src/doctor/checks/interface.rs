//! The interfaces that packets come in by.

use std::collections::BTreeSet;

use crate::{
    config::model::AttachMode,
    dataplane::Occupant,
    doctor::{Check, Finding, InterfaceFacts, Program},
    network::{Channels, Interface, InterfaceKind},
};

/// The largest MTU that every driver with XDP takes without support for several buffers.
const SAFE_MTU: u32 = 1500;

pub(super) fn all(interface: &InterfaceFacts, cpus: u32) -> Vec<Finding> {
    let device = match &interface.device {
        Ok(device) => device,
        Err(reason) => {
            return vec![Finding::problem(
                Check::Interface,
                reason.clone(),
                "the daemon attaches its program there, and does not start without; see `ip link` and `node.interfaces`",
            )];
        }
    };
    let mut findings = vec![state(device)];
    findings.extend(driver(interface, device));
    findings.extend(program(interface));
    findings.extend(queues(interface, cpus));
    findings.extend(spread(interface));
    findings.extend(offloads(interface));
    findings
}

fn state(device: &Interface) -> Finding {
    let Interface { name, mtu, kind, .. } = device;
    if !device.is_up {
        return Finding::problem(Check::Interface, format!("{name} is down"), "no packet comes in by it")
            .mended_by(format!("ip link set dev {name} up"));
    }
    if !device.has_carrier {
        return Finding::problem(
            Check::Interface,
            format!("{name} has no carrier"),
            "its cable is out, or the other end is down: no packet comes in by it",
        );
    }
    Finding::ok(Check::Interface, format!("{name} is up: {kind}, MTU {mtu}"))
}

fn driver(interface: &InterfaceFacts, device: &Interface) -> Option<Finding> {
    let name = &interface.name;
    // A bond has no program of its own; its members have.
    if matches!(device.kind, InterfaceKind::Bond(_)) {
        return None;
    }
    if interface.wanted == AttachMode::Generic {
        return Some(Finding::ok(Check::Driver, format!("{name} is to run the program in generic mode")));
    }
    let features = interface.features?;
    let mtu = device.mtu;
    let shortage = if !features.runs_programs() {
        format!("the driver of {name} has no native XDP as it is set up")
    } else if mtu > SAFE_MTU && !features.receives_fragments() {
        format!("the driver of {name} takes no frames in several buffers, which its MTU of {mtu} may need")
    } else {
        return Some(Finding::ok(Check::Driver, format!("{name} runs programs in its driver")));
    };
    let lowered = format!("ip link set dev {name} mtu {SAFE_MTU}");
    let finding = match interface.wanted {
        AttachMode::Native => Finding::problem(
            Check::Driver,
            shortage,
            "the configuration says `attach: native`: the daemon does not start",
        ),
        _ => Finding::warning(
            Check::Driver,
            shortage,
            "the program runs in generic mode, after a socket buffer was made, which costs several times as much",
        ),
    };
    Some(if features.runs_programs() { finding.mended_by(lowered) } else { finding })
}

fn program(interface: &InterfaceFacts) -> Option<Finding> {
    let name = &interface.name;
    let Some(Program { program, occupant }) = &interface.program else {
        return Some(Finding::ok(Check::Program, format!("no other XDP program is on {name}")));
    };
    let Occupant::Other { name: its_name, link } = occupant else {
        return Some(Finding::ok(Check::Program, format!("the XDP program on {name} is that of vip-lb")));
    };
    let its_name = its_name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
    let flag = if program.is_generic { "xdpgeneric" } else { "xdp" };
    let fix = match link {
        Some(link) => format!("bpftool link detach id {link}"),
        None => format!("ip link set dev {name} {flag} off"),
    };
    Some(
        Finding::problem(
            Check::Program,
            format!("another XDP program, number {}{its_name}, is attached to {name}", program.id),
            "an interface has one program: vip-lb cannot attach its own until that one is gone; whoever put it there may do so again",
        )
        .mended_by(fix),
    )
}

fn queues(interface: &InterfaceFacts, cpus: u32) -> Option<Finding> {
    let name = &interface.name;
    let Channels { rx, combined, max_rx, max_combined } = interface.channels?;
    let (now, possible) = (rx + combined, max_rx.max(max_combined));
    let useful = possible.min(cpus);
    if now >= useful {
        return Some(Finding::ok(
            Check::Queues,
            format!("{name} receives by {now} queues, of {cpus} processors"),
        ));
    }
    let kind = if max_combined >= useful { "combined" } else { "rx" };
    Some(
        Finding::warning(
            Check::Queues,
            format!("{name} receives by {now} of {possible} queues, of {cpus} processors"),
            "a queue is served by one processor, and the others have nothing to do",
        )
        .mended_by(format!("ethtool -L {name} {kind} {useful}")),
    )
}

fn spread(interface: &InterfaceFacts) -> Option<Finding> {
    let name = &interface.name;
    let table: BTreeSet<u32> = interface.indirection.as_ref()?.iter().copied().collect();
    let Channels { rx, combined, .. } = interface.channels?;
    let (used, now) = (table.len() as u32, rx + combined);
    if used >= now {
        return Some(Finding::ok(Check::Spread, format!("{name} spreads packets over all of its queues")));
    }
    Some(
        Finding::warning(
            Check::Spread,
            format!("{name} spreads packets over {used} of {now} queues"),
            "queues that the table of the receive hash does not name get no packets, and their processors have nothing to do",
        )
        .mended_by(format!("ethtool -X {name} equal {now}")),
    )
}

fn offloads(interface: &InterfaceFacts) -> Vec<Finding> {
    let name = &interface.name;
    let on: Vec<_> = interface.offloads.iter().filter(|offload| offload.is_on).collect();
    if on.is_empty() {
        return vec![Finding::ok(Check::Offloads, format!("{name} hands packets on as they came"))];
    }
    on.into_iter()
        .map(|offload| {
            let finding = Finding::warning(
                Check::Offloads,
                format!("{name} joins packets before XDP sees them: {} is on", offload.name),
                "joined packets are larger than any MTU on their way out: drivers refuse the program, or packets are dropped",
            );
            match offload.is_changeable {
                true => finding.mended_by(format!("ethtool -K {name} {} off", offload.name)),
                false => finding,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::Level,
        network::{Offload, XdpFeatures, XdpProgram},
    };

    const RUNS: u64 = 1;
    const RUNS_FRAGMENTS: u64 = 1 | 32;

    fn interface() -> InterfaceFacts {
        InterfaceFacts {
            name: "eth0".into(),
            wanted: AttachMode::Auto,
            device: Ok(Interface::usual(2, "eth0")),
            features: Some(XdpFeatures::from_bits(RUNS)),
            program: None,
            channels: Some(Channels { rx: 0, combined: 4, max_rx: 0, max_combined: 8 }),
            indirection: Some(vec![0, 1, 2, 3, 0, 1, 2, 3]),
            offloads: vec![Offload { name: "rx-lro", is_on: false, is_changeable: true }],
        }
    }

    fn program(link: Option<u32>, is_generic: bool) -> Option<Program> {
        let occupant = Occupant::Other { name: Some("x".into()), link };
        Some(Program { program: XdpProgram { id: 7, is_generic }, occupant })
    }

    #[test]
    fn an_interface_as_it_should_be_has_nothing_but_good_news() {
        let findings = all(&interface(), 4);
        assert_eq!(findings.len(), 6);
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
    }

    #[test]
    fn each_fault_is_found_by_its_check_alone() {
        type Break = fn(&mut InterfaceFacts);
        let cases: [(Check, Level, Option<&str>, Break); 15] = [
            (Check::Interface, Level::Problem, None, |i| {
                i.device = Err("interface `eth0` does not exist".into());
            }),
            (Check::Interface, Level::Problem, Some("ip link set dev eth0 up"), |i| {
                i.device.as_mut().unwrap().is_up = false;
            }),
            (Check::Interface, Level::Problem, None, |i| i.device.as_mut().unwrap().has_carrier = false),
            (Check::Driver, Level::Warning, None, |i| i.features = Some(XdpFeatures::from_bits(0))),
            (Check::Driver, Level::Problem, None, |i| {
                i.features = Some(XdpFeatures::from_bits(0));
                i.wanted = AttachMode::Native;
            }),
            (Check::Driver, Level::Warning, Some("ip link set dev eth0 mtu 1500"), |i| {
                i.device.as_mut().unwrap().mtu = 9000;
            }),
            (Check::Program, Level::Problem, Some("ip link set dev eth0 xdp off"), |i| {
                i.program = program(None, false);
            }),
            (Check::Program, Level::Problem, Some("ip link set dev eth0 xdpgeneric off"), |i| {
                i.program = program(None, true);
            }),
            (Check::Program, Level::Problem, Some("bpftool link detach id 9"), |i| {
                i.program = program(Some(9), false);
            }),
            (Check::Queues, Level::Warning, Some("ethtool -L eth0 combined 4"), |i| {
                i.channels.as_mut().unwrap().combined = 1;
                i.indirection = None;
            }),
            (Check::Queues, Level::Warning, Some("ethtool -L eth0 rx 3"), |i| {
                i.channels = Some(Channels { rx: 1, combined: 0, max_rx: 3, max_combined: 0 });
            }),
            (Check::Spread, Level::Warning, Some("ethtool -X eth0 equal 4"), |i| {
                i.indirection = Some(vec![0, 1, 0, 1]);
            }),
            (Check::Offloads, Level::Warning, Some("ethtool -K eth0 rx-lro off"), |i| {
                i.offloads[0].is_on = true;
            }),
            (Check::Offloads, Level::Warning, None, |i| {
                i.offloads[0] = Offload { name: "rx-gro-hw", is_on: true, is_changeable: false };
            }),
            (Check::Interface, Level::Problem, Some("ip link set dev eth0 up"), |i| {
                let device = i.device.as_mut().unwrap();
                (device.is_up, device.has_carrier) = (false, false);
            }),
        ];
        for (check, level, fix, make_wrong) in cases {
            let mut interface = interface();
            make_wrong(&mut interface);
            let bad: Vec<_> =
                all(&interface, 4).into_iter().filter(|finding| finding.level != Level::Ok).collect();
            assert_eq!(bad.len(), 1, "{check:?}: {bad:?}");
            assert_eq!((bad[0].check, bad[0].level, bad[0].fix.as_deref()), (check, level, fix));
        }
    }

    #[test]
    fn what_the_configuration_asks_for_decides_what_a_driver_must_do() {
        let mut interface = interface();
        interface.features = Some(XdpFeatures::from_bits(0));
        interface.wanted = AttachMode::Generic;
        assert!(all(&interface, 4).iter().all(|finding| finding.level == Level::Ok));
        interface.wanted = AttachMode::Auto;
        interface.features = Some(XdpFeatures::from_bits(RUNS_FRAGMENTS));
        interface.device.as_mut().unwrap().mtu = 9000;
        assert!(all(&interface, 4).iter().all(|finding| finding.level == Level::Ok));
    }

    #[test]
    fn what_is_not_known_is_not_spoken_of_and_own_programs_are_no_strangers() {
        let mut interface = interface();
        (interface.features, interface.channels, interface.indirection) = (None, None, None);
        let program = XdpProgram { id: 7, is_generic: false };
        interface.program = Some(Program { program, occupant: Occupant::Ours });
        let findings = all(&interface, 4);
        let checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
        assert_eq!(checks, [Check::Interface, Check::Program, Check::Offloads]);
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
    }
}
