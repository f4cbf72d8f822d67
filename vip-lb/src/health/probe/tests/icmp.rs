//! Echo requests, for which the kernel has to let us.

use super::*;

/// Whether this process may send echo requests.
fn may_ask() -> bool {
    let dial = Dial::direct((Ipv4Addr::LOCALHOST, 0).into());
    !matches!(dial.icmp(), Err(Outcome::NotProbed { .. }))
}

#[tokio::test]
async fn a_host_answers_by_itself() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let outcome = probed(&target(address.parse().unwrap(), CheckKind::Icmp, LONG)).await;
        if may_ask() {
            assert_healthy(&outcome, address);
        } else {
            assert!(matches!(outcome, Outcome::NotProbed { .. }), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn an_address_without_a_host_is_unreachable() {
    // Loopback answers for all of 127/8, but not with a source that nobody has.
    let address = "[100::1]:0".parse().unwrap();
    let outcome = probed(&target(address, CheckKind::Icmp, SHORT)).await;
    if may_ask() {
        assert!(matches!(outcome, Outcome::Unreachable { .. }), "{outcome:?}");
    }
}
