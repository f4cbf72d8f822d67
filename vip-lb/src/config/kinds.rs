//! The scalars of the file: how each is read and what an error says is allowed.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::{NonZeroU8, NonZeroU16},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use super::{
    decode::Kind,
    model::{
        AdminState, Affinity, AttachMode, BelowMin, Checksum, ForwardMode, Least, MetricsAccess, NodeState,
        OnDown, OnExit, Ownership, Passive, Ports, Preempt, Protocol, RingSize, Share, UnknownService, Watch,
        WatchdogAction,
    },
    ports,
    sketch::Shape,
    tree::{Node, Value},
};
use crate::ownership::vrrp::{Interval, Priority};

pub(super) mod check;

/// A duration with its unit.
const DURATION: Shape = Shape::Text("^[0-9]+(ms|s|m|h)$");
/// A share.
const PERCENT: &str = "^([0-9]|[1-9][0-9]|100)%$";
/// Two ports.
const RANGE: &str = "^[0-9]+-[0-9]+$";

pub(super) const NODE_NAME: Kind<String> =
    Kind::new("a name of 1 to 64 visible ASCII characters", Shape::Text("^[!-~]{1,64}$"), |node| {
        visible(node, 64)
    });

pub(super) const NAME: Kind<String> = Kind::new(
    "a name of 1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit",
    Shape::Text("^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"),
    |node| {
        let name = node.text()?;
        let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        (letters && begins && name.len() <= 63).then(|| name.to_owned())
    },
);

/// What the kernel takes for a device name (`dev_valid_name` in net/core/dev.c).
pub(super) const INTERFACE: Kind<String> = Kind::new(
    "the name of a network interface: 1 to 15 bytes, no slash, colon or blank, not . or ..",
    Shape::Text("^[^/:\\s]{1,15}$"),
    |node| {
        let name = node.text()?;
        let allowed = !name.contains(|c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control());
        let sized = (1..=15).contains(&name.len());
        (allowed && sized && name != "." && name != "..").then(|| name.to_owned())
    },
);

pub(super) const SEED: Kind<String> = Kind::secret(
    "a text in quotes, at least 8 characters, the same on every node and known to nobody else, because whoever knows it \
     can aim connections at one backend",
    Shape::Text("[^ ]"),
    |node| {
        let text = node.text()?;
        (text.trim().chars().count() >= 8).then(|| text.to_owned())
    },
);

pub(super) const ADDRESS: Kind<IpAddr> =
    Kind::new("an IPv4 or IPv6 address", Shape::Text("^[0-9A-Fa-f.:]+$"), |node| node.text()?.parse().ok());
pub(super) const ADDRESS_V4: Kind<Ipv4Addr> =
    Kind::new("an IPv4 address", Shape::Text("^[0-9.]+$"), |node| node.text()?.parse().ok());
pub(super) const ADDRESS_V6: Kind<Ipv6Addr> =
    Kind::new("an IPv6 address", Shape::Text("^[0-9A-Fa-f.:]+$"), |node| node.text()?.parse().ok());

pub(super) const SERVICE_PORT: Kind<Ports> = Kind::new(
    "a port between 0 and 65535, 0 meaning every port, or a range such as 8000-8999",
    Shape::IntegerOrText((0, 65_535), RANGE),
    |node| match &node.value {
        Value::Text(text) => Ports::from_range(text),
        _ => node.integer(0, 65_535).map(Ports::from_number),
    },
);
pub(super) const PORT: Kind<u16> =
    Kind::new("a port between 1 and 65535", Shape::Integer(1, 65_535), |node| node.integer(1, 65_535));
pub(super) const BACKEND_PORT: Kind<NonZeroU16> =
    Kind::new(PORT.expected, PORT.shape, |node| node.integer(1, 65_535).and_then(NonZeroU16::new));
pub(super) const PORT_RANGE: Kind<(u16, u16)> =
    Kind::new("a range of ports within 1 to 65535, such as 61000-65535", Shape::Text(RANGE), |node| {
        ports::range(node.text()?)
    });
/// From what every IPv4 host takes (RFC 9293 section 3.7.1) to what jumbo frames hold.
pub(super) const MSS: Kind<u16> =
    Kind::new("a number of bytes between 536 and 9000", Shape::Integer(536, 9000), |node| {
        node.integer(536, 9000)
    });
pub(super) const ICMP_RATE: Kind<u16> =
    Kind::new("a number of packets per second between 0 and 65535", Shape::Integer(0, 65_535), |node| {
        node.integer(0, 65_535)
    });
pub(super) const WEIGHT: Kind<NonZeroU16> =
    Kind::new("a weight between 1 and 65535", Shape::Integer(1, 65_535), |node| {
        node.integer(1, 65_535).and_then(NonZeroU16::new)
    });
pub(super) const TABLE: Kind<u32> =
    Kind::new("a number of entries between 1024 and 16777216", Shape::Integer(1024, 16_777_216), |node| {
        node.integer(1024, 16_777_216)
    });
pub(super) const IDLE_TIMEOUT: Kind<Duration> =
    Kind::new("a duration from 1s to 24h, such as 10m", DURATION, |node| {
        duration_in(node, Duration::from_secs(1), Duration::from_hours(24))
    });
/// The daemon gives a sign of life every second, unless it has much to do: a shorter time would end what goes well. The packet path counts
/// seconds in 16 bits.
pub(super) const WATCHDOG_AFTER: Kind<Duration> =
    Kind::new("a duration from 5s to 12h, such as 30s", DURATION, |node| {
        duration_in(node, Duration::from_secs(5), Duration::from_hours(12))
    });

/// `sun_path` of a Unix socket's address holds 108 bytes, the last of which is 0.
pub(super) const SOCKET: Kind<PathBuf> =
    Kind::new("an absolute path of at most 107 bytes", Shape::Text("^/"), |node| absolute(node, 107));
pub(super) const PINS: Kind<PathBuf> =
    Kind::new("an absolute path of a folder on a bpffs, of at most 255 bytes", Shape::Text("^/"), |node| {
        absolute(node, 255)
    });

/// Over a network the token would be read by others: that is for a proxy with TLS.
pub(super) const LISTEN: Kind<SocketAddr> = Kind::new(
    "a loopback address with a port, such as 127.0.0.1:9177 or \"[::1]:9177\"",
    Shape::Text(":[0-9]+$"),
    |node| {
        let address: SocketAddr = node.text()?.parse().ok()?;
        (address.ip().is_loopback() && address.port() != 0).then_some(address)
    },
);
pub(super) const TOKEN_FILE: Kind<PathBuf> =
    Kind::new("an absolute path of at most 4095 bytes", Shape::Text("^/"), |node| absolute(node, 4095));
pub(super) const SECRET_FILE: Kind<PathBuf> =
    Kind::new(TOKEN_FILE.expected, TOKEN_FILE.shape, |node| absolute(node, 4095));
pub(super) const SHARE: Kind<Share> = Kind::new("one of orders, flows", Shape::Words(Share::NAMES), named);
pub(super) const STATE_DIR: Kind<PathBuf> =
    Kind::new("an absolute path of a folder, of at most 255 bytes", Shape::Text("^/"), |node| {
        absolute(node, 255)
    });

pub(super) const ATTACH: Kind<AttachMode> =
    Kind::new("one of auto, native, generic", Shape::Words(AttachMode::NAMES), named);
pub(super) const METRICS_ACCESS: Kind<MetricsAccess> =
    Kind::new("one of token, open", Shape::Words(MetricsAccess::NAMES), named);
pub(super) const MIN_HEALTHY: Kind<Least> = Kind::new(
    "a number of backends between 0 and 65535, or a share of them between 0% and 100%",
    Shape::IntegerOrText((0, 65_535), PERCENT),
    |node| match &node.value {
        Value::Integer(count) => u16::try_from(*count).ok().map(Least::Count),
        _ => percent(node).map(Least::Percent),
    },
);
pub(super) const TRACKED_HEALTHY: Kind<Least> = Kind::new(
    "a number of backends between 1 and 65535, or a share of them between 1% and 100%",
    Shape::IntegerOrText((1, 65_535), PERCENT),
    |node| (MIN_HEALTHY.read)(node).filter(|least| !matches!(least, Least::Count(0) | Least::Percent(0))),
);
/// By how much; what is written is what is added.
pub(super) const LOWERED: Kind<NonZeroU8> = Kind::new(
    "a number between -254 and -1, which is added to the priority",
    Shape::Integer(-254, -1),
    |node| match node.value {
        Value::Integer(added @ -254..=-1) => u8::try_from(-added).ok().and_then(NonZeroU8::new),
        _ => None,
    },
);
pub(super) const MAX_REMOVED: Kind<u8> =
    Kind::new("a share between 1% and 100%", Shape::Text(PERCENT), |node| {
        percent(node).filter(|percent| *percent > 0)
    });
pub(super) const SLOW_START: Kind<Duration> = Kind::new("a duration between 0s and 1h", DURATION, |node| {
    duration_in(node, Duration::ZERO, Duration::from_secs(3600))
});
pub(super) const TIER: Kind<u8> =
    Kind::new("a tier between 0 and 9", Shape::Integer(0, 9), |node| match node.value {
        Value::Integer(tier) => u8::try_from(tier).ok().filter(|tier| *tier <= 9),
        _ => None,
    });
pub(super) const BELOW_MIN: Kind<BelowMin> =
    Kind::new("one of fail_open, fail_closed, backup", Shape::Words(BelowMin::NAMES), named);
pub(super) const NODE_STATE: Kind<NodeState> =
    Kind::new("one of enabled, drain", Shape::Words(NodeState::NAMES), named);
pub(super) const ON_EXIT: Kind<OnExit> = Kind::new("one of keep, unload", Shape::Words(OnExit::NAMES), named);
pub(super) const WATCHDOG_ACTION: Kind<WatchdogAction> =
    Kind::new("one of forward, pass", Shape::Words(WatchdogAction::NAMES), named);
pub(super) const WATCH: Kind<Watch> =
    Kind::new("one of never, safe, always", Shape::Words(Watch::NAMES), named);
pub(super) const OWNERSHIP: Kind<Ownership> =
    Kind::new("one of always, vrrp, route", Shape::Words(Ownership::NAMES), named);
/// The other end of a pair in its place has three bytes more, and a name of a device 15 in all.
pub(super) const ROUTE_DEVICE: Kind<String> = Kind::new(
    "the name of a network interface of at most 12 bytes, no slash, colon or blank, not . or ..",
    Shape::Text("^[^/:\\s]{1,12}$"),
    |node| (INTERFACE.read)(node).filter(|name| name.len() <= 12),
);
/// All but 0, which means none, and 255, where the host's own addresses are.
pub(super) const ROUTE_TABLE: Kind<u32> = Kind::new(
    "the number of a routing table between 1 and 4294967295, not 255",
    Shape::Integer(1, 4_294_967_295),
    |node| node.integer(1, u32::MAX.into()).filter(|table| *table != 255),
);
/// FRR takes the eight bits above for an administrative distance.
pub(super) const ROUTE_METRIC: Kind<u32> =
    Kind::new("a metric between 1 and 16777215", Shape::Integer(1, 16_777_215), |node| {
        node.integer(1, 16_777_215)
    });
/// Service managers give a daemon a minute and a half to end.
pub(super) const LINGER: Kind<Duration> =
    Kind::new("a duration between 0s and 1m, such as 5s", DURATION, |node| {
        duration_in(node, Duration::ZERO, Duration::from_mins(1))
    });
pub(super) const ROUTER_ID: Kind<NonZeroU8> =
    Kind::new("an identifier between 1 and 255", Shape::Integer(1, 255), |node| {
        node.integer::<u8>(1, 255).and_then(NonZeroU8::new)
    });
pub(super) const PREFIX_LENGTH: Kind<u8> =
    Kind::new("a number of bits between 1 and 128", Shape::Integer(1, 128), |node| node.integer(1, 128));
pub(super) const PRIORITY: Kind<Priority> =
    Kind::new("a priority between 1 and 255", Shape::Integer(1, 255), |node| {
        node.integer(1, 255).and_then(Priority::new)
    });
/// Hundredths of a second in twelve bits (RFC 9568 section 5.2.7).
pub(super) const ADVERT_INTERVAL: Kind<Interval> = Kind::new(
    "a duration of whole hundredths of a second from 10ms to 40950ms, such as 100ms",
    DURATION,
    |node| {
        let millis = duration(node.text()?)?.as_millis();
        let centis = u16::try_from(millis / 10).ok()?;
        Interval::from_centis(centis).filter(|_| millis.is_multiple_of(10))
    },
);
pub(super) const PREEMPT: Kind<Preempt> =
    Kind::new("one of higher, never", Shape::Words(Preempt::NAMES), named);
pub(super) const PREEMPT_DELAY: Kind<Duration> =
    Kind::new("a duration between 0s and 1h, such as 30s", DURATION, |node| {
        duration_in(node, Duration::ZERO, Duration::from_hours(1))
    });
pub(super) const REFRESH: Kind<Duration> =
    Kind::new("a duration between 1s and 1h, such as 30s", DURATION, |node| {
        duration_in(node, Duration::from_secs(1), Duration::from_hours(1))
    });
pub(super) const CHECKSUM: Kind<Checksum> =
    Kind::new("one of pseudo_header, plain", Shape::Words(Checksum::NAMES), named);
pub(super) const UNKNOWN_SERVICE: Kind<UnknownService> =
    Kind::new("one of drop, pass", Shape::Words(UnknownService::NAMES), named);
pub(super) const PROTOCOL: Kind<Protocol> =
    Kind::new("one of tcp, udp", Shape::Words(Protocol::NAMES), named);
pub(super) const AFFINITY: Kind<Affinity> =
    Kind::new("one of flow, source", Shape::Words(Affinity::NAMES), named);
pub(super) const PASSIVE: Kind<Passive> =
    Kind::new("one of off, observe, on", Shape::Words(Passive::NAMES), named);
pub(super) const PASSIVE_SAMPLE: Kind<u16> =
    Kind::new("a number of flows between 1 and 4096", Shape::Integer(1, 4096), |node| node.integer(1, 4096));
pub(super) const MODE: Kind<ForwardMode> =
    Kind::new("one of l2, ipip, gue, nat", Shape::Words(ForwardMode::NAMES), named);
pub(super) const STATE: Kind<AdminState> =
    Kind::new("one of enabled, drain, disabled", Shape::Words(AdminState::NAMES), named);
pub(super) const ON_DOWN: Kind<OnDown> =
    Kind::new("one of auto, cut, drain", Shape::Words(OnDown::NAMES), named);
pub(super) const RING: Kind<RingSize> =
    Kind::new("one of 16381, 65537, 131071", Shape::Numbers(&[16_381, 65_537, 131_071]), |node| {
        match node.value {
            Value::Integer(slots) => {
                RingSize::ALL.iter().copied().find(|ring| i128::from(ring.slots()) == slots)
            }
            _ => None,
        }
    });

/// A duration as the file writes it: a whole number and `ms`, `s`, `m` or `h`.
pub(crate) fn shown_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match UNITS.iter().rev().find(|(_, unit)| millis.is_multiple_of(u128::from(*unit))) {
        Some((name, unit)) if millis > 0 => format!("{}{name}", millis / u128::from(*unit)),
        _ => format!("{millis}ms"),
    }
}

/// Names of the units of time with their milliseconds, the shortest first.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// Reads what [`shown_duration`] writes.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, name) = text.split_at(end);
    let (_, unit) = UNITS.iter().find(|(known, _)| *known == name)?;
    number.parse::<u64>().ok()?.checked_mul(*unit).map(Duration::from_millis)
}

fn duration_in(node: &Node, low: Duration, high: Duration) -> Option<Duration> {
    duration(node.text()?).filter(|duration| (low..=high).contains(duration))
}

/// `50%`, without leading zeros, as a schema can say it.
fn percent(node: &Node) -> Option<u8> {
    let digits = node.text()?.strip_suffix('%')?;
    let percent: u8 = digits.parse().ok()?;
    (percent <= 100 && percent.to_string() == digits).then_some(percent)
}

fn named<T: FromStr>(node: &Node) -> Option<T> {
    node.text()?.parse().ok()
}

fn visible(node: &Node, most: usize) -> Option<String> {
    let text = node.text()?;
    let sized = (1..=most).contains(&text.len());
    (sized && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
}

fn absolute(node: &Node, most: usize) -> Option<PathBuf> {
    let text = node.text()?;
    let sized = text.len() <= most && !text.contains('\0');
    (sized && text.starts_with('/')).then(|| PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{CheckName, DnsCode, DnsRecord, HttpMethod, StartState};

    fn read<T>(kind: &Kind<T>, text: &str) -> Option<T> {
        let node = super::super::tree::read(text).unwrap();
        (kind.read)(&node)
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, millis) in [
            ("500ms", Some(500)),
            ("2s", Some(2000)),
            ("10m", Some(600_000)),
            ("1h", Some(3_600_000)),
            ("0s", Some(0)),
            ("2", None),
            ("", None),
            ("s", None),
            ("1.5s", None),
            ("-2s", None),
            ("2 s", None),
            ("2S", None),
            ("1d", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for text in ["500ms", "1500ms", "2s", "90s", "10m", "1h", "36h", "0ms"] {
            assert_eq!(shown_duration(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn the_names_that_an_error_lists_are_the_ones_that_are_read() {
        fn names<T: FromStr + Copy>(kind: &Kind<T>, all: &[T], name: fn(T) -> &'static str) {
            let listed = kind.expected.trim_start_matches("one of ");
            let expected: Vec<&str> = all.iter().map(|value| name(*value)).collect();
            assert_eq!(listed, expected.join(", "));
            for name in expected {
                assert!(read(kind, name).is_some(), "{name}");
            }
            assert!(read(kind, "nonsense").is_none());
        }
        names(&ATTACH, AttachMode::ALL, AttachMode::as_str);
        names(&METRICS_ACCESS, MetricsAccess::ALL, MetricsAccess::as_str);
        names(&WATCHDOG_ACTION, WatchdogAction::ALL, WatchdogAction::as_str);
        names(&NODE_STATE, NodeState::ALL, NodeState::as_str);
        names(&ON_EXIT, OnExit::ALL, OnExit::as_str);
        names(&WATCH, Watch::ALL, Watch::as_str);
        names(&OWNERSHIP, Ownership::ALL, Ownership::as_str);
        names(&PREEMPT, Preempt::ALL, Preempt::as_str);
        names(&CHECKSUM, Checksum::ALL, Checksum::as_str);
        names(&UNKNOWN_SERVICE, UnknownService::ALL, UnknownService::as_str);
        names(&SHARE, Share::ALL, Share::as_str);
        names(&PROTOCOL, Protocol::ALL, Protocol::as_str);
        names(&AFFINITY, Affinity::ALL, Affinity::as_str);
        names(&MODE, ForwardMode::ALL, ForwardMode::as_str);
        names(&STATE, AdminState::ALL, AdminState::as_str);
        names(&BELOW_MIN, BelowMin::ALL, BelowMin::as_str);
        names(&ON_DOWN, OnDown::ALL, OnDown::as_str);
        names(&RING, RingSize::ALL, RingSize::as_str);
        names(&check::CHECK, CheckName::ALL, CheckName::as_str);
        names(&check::START, StartState::ALL, StartState::as_str);
        names(&check::METHOD, HttpMethod::ALL, HttpMethod::as_str);
        names(&check::RECORD, DnsRecord::ALL, DnsRecord::as_str);
        names(&check::TRANSPORT, Protocol::ALL, Protocol::as_str);
        names(&check::CODE, DnsCode::ALL, DnsCode::as_str);
    }

    #[test]
    fn shares_are_whole_percents() {
        for (text, expected) in [
            ("2", Some(Least::Count(2))),
            ("0", Some(Least::Count(0))),
            ("0%", Some(Least::Percent(0))),
            ("50%", Some(Least::Percent(50))),
            ("100%", Some(Least::Percent(100))),
            ("101%", None),
            ("07%", None),
            ("+7%", None),
            ("50.5%", None),
            ("-1", None),
            ("65536", None),
            ("half", None),
        ] {
            assert_eq!(read(&MIN_HEALTHY, text), expected, "{text}");
        }
        for text in ["0", "0%", "-1"] {
            assert_eq!(read(&TRACKED_HEALTHY, text), None, "{text}");
        }
        assert_eq!(read(&TRACKED_HEALTHY, "50%"), Some(Least::Percent(50)));
        assert_eq!(
            (read(&LOWERED, "-50"), read(&LOWERED, "-254")),
            (NonZeroU8::new(50), NonZeroU8::new(254))
        );
        for text in ["0", "50", "-255", "-1%"] {
            assert_eq!(read(&LOWERED, text), None, "{text}");
        }
        assert_eq!((read(&MAX_REMOVED, "0%"), read(&MAX_REMOVED, "1%")), (None, Some(1)));
        assert_eq!((read(&TIER, "9"), read(&TIER, "10")), (Some(9), None));
    }

    #[test]
    fn interface_names_are_the_kernels() {
        for name in ["eth0", "enp3s0f0np0", "a", "br-lan.100", "exactly15bytes_"] {
            assert_eq!(read(&INTERFACE, name).as_deref(), Some(name));
        }
        for name in ["\"\"", "sixteen_bytes_xx", "a/b", "\"a b\"", "eth0:1", "..", "\".\"", "\"a\\tb\"", "1"]
        {
            assert_eq!(read(&INTERFACE, name), None, "{name}");
        }
    }
}
