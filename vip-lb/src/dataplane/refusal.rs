//! Why a driver does not take a program, in words, and what can be done: error numbers alone say little.
//!
//! Drivers put their reason into the answer of a netlink request, of which a link's creation has none (before kernel 6.5, at least); aya asks by
//! netlink where the number is EINVAL, the one that drivers use most. The rest is told from the MTU and from what the driver says of itself.

use std::{error::Error, io};

use super::attach::XdpMode;
use crate::{network::XdpFeatures, privileges};

/// The largest MTU that every driver with XDP takes without support for several buffers.
const SAFE_MTU: u32 = 1500;

/// What is known of the device that refuses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Device {
    /// Its MTU in bytes.
    pub(super) mtu: Option<u32>,
    /// What its driver says it can do (kernel 6.3).
    pub(super) features: Option<XdpFeatures>,
}

/// What may be done about a refusal with this error number; `None` where nothing is known.
pub(super) fn advice(mode: XdpMode, number: Option<i32>, device: &Device) -> Option<String> {
    if mode == XdpMode::Generic {
        return None;
    }
    let number = number?;
    // veth and some cards want a receive queue for each of the senders'. They then say that they have no XDP at all.
    if number == libc::ENOSPC {
        return Some(
            "its driver wants more queues: for a veth as many receive queues as its peer has for sending, for a card one \
             more for each CPU; see `ethtool -l`"
                .to_owned(),
        );
    }
    if device.features.is_some_and(|features| !features.runs_programs()) {
        return Some(
            "its driver has no native XDP as it is set up: `attach: generic` works there".to_owned(),
        );
    }
    match number {
        libc::EINVAL | libc::ERANGE | libc::EOPNOTSUPP | libc::EFBIG | libc::EMSGSIZE => too_large(device),
        _ => None,
    }
}

/// Where the MTU asks for frames of several buffers and the driver does not say that it has them.
fn too_large(device: &Device) -> Option<String> {
    let mtu = device.mtu.filter(|mtu| *mtu > SAFE_MTU)?;
    let support = match device.features {
        Some(features) if features.receives_fragments() => return None,
        Some(_) => "its driver has no XDP multi-buffer support, which that takes",
        None => "most likely its driver has no XDP multi-buffer support (kernel 5.18), which that takes",
    };
    Some(format!(
        "its MTU is {mtu}, and {support}: lower the MTU ({SAFE_MTU} suits every driver, about 3500 most), use \
         `attach: generic`, or another driver or kernel"
    ))
}

/// Which gate is closed, as the end of a message, if that is the error: EPERM. The verifier's EACCES is about the program.
pub(super) fn gates(error: &(dyn Error + 'static)) -> String {
    match os_error(error) {
        Some(libc::EPERM) => privileges::explain_refusal(),
        _ => String::new(),
    }
}

/// Why maps cannot be made or pinned, as the end of a message, where something is known of it.
pub(super) fn of_maps(error: &(dyn Error + 'static)) -> String {
    match os_error(error) {
        Some(libc::EROFS) => {
            ": the BPF file system is mounted read-only; nothing that is pinned was changed".to_owned()
        }
        Some(libc::ENOSPC | libc::ENOMEM) => {
            ": there is no memory for another map or pin (see the limits of the unit's control group); nothing that is \
             pinned was changed"
                .to_owned()
        }
        _ => gates(error),
    }
}

/// The number of the system call's error.
pub(super) fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    chain(error).find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())
}

/// What the kernel says: the driver's own words if there are any, the meaning of the number otherwise.
pub(super) fn words(error: &(dyn Error + 'static)) -> String {
    let said = chain(error).find_map(|cause| driver_words(&cause.to_string()));
    let last = chain(error).last().map(ToString::to_string).unwrap_or_default();
    said.unwrap_or(last)
}

/// aya shows the driver's words as `netlink error: ["veth: ..."]`.
fn driver_words(text: &str) -> Option<String> {
    let (_, words) = text.split_once("netlink error: [\"")?;
    let (words, _) = words.rsplit_once("\"]")?;
    Some(words.replace("\", \"", ", "))
}

fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause: &&'e (dyn Error + 'static)| {
        let cause: &'e (dyn Error + 'static) = *cause;
        cause.source()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: u64 = 0;
    const BASIC: u64 = 1;
    const FRAGMENTS: u64 = 1 | 32;

    #[test]
    fn a_refusal_is_explained_by_what_is_known_of_the_device() {
        use libc::{EINVAL, ENOMEM, ENOSPC, EOPNOTSUPP, ERANGE};

        for (number, mtu, features, expected) in [
            (
                EINVAL,
                9000,
                Some(BASIC),
                Some("its MTU is 9000, and its driver has no XDP multi-buffer support"),
            ),
            (ERANGE, 9000, None, Some("its MTU is 9000, and most likely its driver has no")),
            (EOPNOTSUPP, 1501, None, Some("its MTU is 1501")),
            (EOPNOTSUPP, 9000, Some(FRAGMENTS), None),
            (EINVAL, 1500, None, None),
            (EOPNOTSUPP, 9000, Some(NOTHING), Some("its driver has no native XDP")),
            (ENOSPC, 1500, Some(NOTHING), Some("its driver wants more queues")),
            (ENOMEM, 9000, Some(BASIC), None),
        ] {
            let device = Device { mtu: Some(mtu), features: features.map(XdpFeatures::from_bits) };
            let advice = advice(XdpMode::Native, Some(number), &device);
            let case = format!("errno {number}, MTU {mtu}, {features:?}: {advice:?}");
            match expected {
                Some(beginning) => assert!(advice.is_some_and(|text| text.starts_with(beginning)), "{case}"),
                None => assert_eq!(advice, None, "{case}"),
            }
            assert_eq!(super::advice(XdpMode::Generic, Some(number), &device), None, "{case}");
        }
        let unknown = Device { mtu: None, features: None };
        assert_eq!(advice(XdpMode::Native, Some(EINVAL), &unknown), None);
        assert_eq!(advice(XdpMode::Native, None, &unknown), None);
    }

    #[test]
    fn the_drivers_own_words_are_found() {
        for (text, expected) in [
            ("netlink error: [\"veth: MTU too large\"]", Some("veth: MTU too large")),
            ("netlink error: [\"one\", \"two\"]", Some("one, two")),
            ("netlink error: []", None),
            ("`bpf_link_create` failed", None),
        ] {
            assert_eq!(driver_words(text).as_deref(), expected, "{text}");
        }
        let plain = io::Error::from_raw_os_error(libc::ERANGE);
        assert_eq!(words(&plain), plain.to_string());
        assert_eq!(os_error(&plain), Some(libc::ERANGE));
    }
}
