//! What a bond's members say, and what follows.

use super::*;
use crate::network::BondMember;

const BOND: u32 = 5;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 5];

fn device(index: u32, kind: InterfaceKind) -> Interface {
    Interface { mac: MAC, kind, ..Interface::usual(index, &format!("eth{index}")) }
}

fn member(index: u32, is_active: bool, link_is_up: bool) -> Interface {
    let bond_member = Some(BondMember { bond: BOND, is_active, link_is_up });
    Interface { bond_member, ..device(index, InterfaceKind::Device) }
}

fn bond(policy: BondPolicy, members: Vec<Interface>) -> Bond {
    let wanted = model::Interface { name: "bond0".into(), attach: model::AttachMode::Auto };
    let device = Interface { name: "bond0".into(), ..device(BOND, InterfaceKind::Bond(policy)) };
    Bond::new(wanted, device, members)
}

fn changed(interface: Interface) -> NetworkEvent {
    NetworkEvent::LinkChanged { ifindex: interface.index, interface: Some(interface) }
}

fn interface(index: u32) -> String {
    format!("{:?}", Write::Interface { index, mac: LinkAddress::new(MAC) })
}

fn words(writes: &[Write]) -> Vec<String> {
    writes.iter().map(|write| format!("{write:?}")).collect()
}

#[test]
fn only_members_that_the_bond_uses_answer_and_a_fail_over_changes_them() {
    let mut bond = bond(BondPolicy::ActiveBackup, vec![member(2, true, true), member(3, false, true)]);
    assert_eq!(words(&bond.answers()), [interface(2)]);
    assert!(bond.answers().is_empty(), "nothing new");

    assert!(bond.apply(&changed(member(2, false, false))));
    assert!(bond.apply(&changed(member(3, true, true))));
    let removed = format!("{:?}", Write::RemoveInterface(2));
    assert_eq!(words(&bond.answers()), [removed, interface(3)]);

    let renumbered = Interface { mac: [2, 0, 0, 0, 0, 6], ..bond.device.clone() };
    assert!(bond.apply(&changed(renumbered)));
    assert_eq!(bond.answers().len(), 1, "the bond has another address");
}

#[test]
fn whether_a_member_carries_depends_on_how_the_bond_uses_it() {
    let off = Interface { has_carrier: false, ..member(2, true, true) };
    for (policy, of, carries) in [
        (BondPolicy::ActiveBackup, member(2, true, true), true),
        (BondPolicy::ActiveBackup, member(2, false, true), true),
        (BondPolicy::ActiveBackup, member(2, true, false), false),
        (BondPolicy::ActiveBackup, off.clone(), false),
        (BondPolicy::Balanced, member(2, true, true), true),
        // Not in the active aggregator.
        (BondPolicy::Balanced, member(2, false, true), false),
        (BondPolicy::Balanced, off, false),
    ] {
        let case = format!("{policy:?} {of:?}");
        let members = bond(policy, vec![of]).for_pacer(|_| false, |_| false);
        assert_eq!(members[0].carries, carries, "{case}");
    }
}

#[test]
fn members_come_and_go() {
    let mut bond = bond(BondPolicy::ActiveBackup, vec![member(2, true, true)]);
    assert!(!bond.apply(&changed(member(2, true, true))), "nothing new");
    assert!(!bond.apply(&changed(device(3, InterfaceKind::Device))), "no member");
    assert!(bond.apply(&changed(member(3, false, true))));
    assert_eq!(bond.members().count(), 2);
    assert!(bond.apply(&changed(device(3, InterfaceKind::Device))), "it left");
    assert!(bond.apply(&NetworkEvent::LinkChanged { ifindex: 2, interface: None }), "it is gone");
    assert_eq!(bond.problems(), ["bond0 has no members: nothing comes in until it has"]);
}

#[test]
fn a_member_that_does_not_take_the_program_holds_up_nobody_and_is_told() {
    let now = crate::control::daemon::now();
    let mut bond = bond(BondPolicy::ActiveBackup, vec![member(2, true, true), member(3, false, true)]);
    let next = bond.next(&BTreeSet::new(), &[], now);
    assert_eq!(next, Next::Attach { member: member(3, false, true), is_last_link: false });
    bond.fail(3, "no".into());
    let next = bond.next(&BTreeSet::new(), &[], now);
    assert!(matches!(next, Next::Attach { ref member, .. } if member.index == 2), "{next:?}");
    assert_eq!(bond.problems(), ["eth3, a member of bond0, is without the program: no"]);
    bond.retry();
    assert_eq!(bond.problems(), [""; 0]);
}

#[test]
fn what_was_pinned_or_is_generic_needs_no_pace() {
    let now = crate::control::daemon::now();
    let members = || vec![member(2, true, true), member(3, false, true)];
    let mut taken_over = bond(BondPolicy::ActiveBackup, members());
    let next = taken_over.next(&BTreeSet::new(), &["eth2".into()], now);
    assert_eq!(next, Next::Attach { member: member(2, true, true), is_last_link: false });

    let mut paced = bond(BondPolicy::ActiveBackup, members());
    paced.was_reset(3, now);
    assert_eq!(paced.next(&BTreeSet::from([3]), &[], now), Next::Rest, "the link of eth3 is awaited");
    let status = paced.status(|index| (index == 3).then_some(AttachedMode::Native));
    assert_eq!(status.members.iter().map(|member| member.awaited).collect::<Vec<_>>(), [false, true]);

    paced.wanted.attach = model::AttachMode::Generic;
    let next = paced.next(&BTreeSet::from([3]), &[], now);
    assert_eq!(next, Next::Attach { member: member(2, true, true), is_last_link: false });
}

#[test]
fn a_mode_that_xdp_cannot_send_by_is_told() {
    let problems = bond(BondPolicy::Unsupported, vec![member(2, true, true)]).problems();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("bond0 is in a mode that XDP cannot send by"), "{problems:?}");
}
