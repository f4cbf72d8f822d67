//! Frames: what is sent is received, and nothing else.

use proptest::prelude::*;

use super::*;

fn key(text: &str) -> Secret {
    Secret::of(text.as_bytes())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Each as it goes over the wire.
fn frames(contents: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut sender = Sender::new(Vec::new(), key("this way"));
    let mut frames = Vec::new();
    for content in contents {
        block_on(sender.send(content)).unwrap();
        frames.push(std::mem::take(&mut sender.to));
    }
    frames
}

/// All that is taken of these bytes, and why no more is.
fn received(bytes: &[u8]) -> (Vec<Vec<u8>>, FrameError) {
    let mut receiver = Receiver::new(bytes, key("this way"));
    let mut contents = Vec::new();
    block_on(async {
        loop {
            match receiver.receive().await {
                Ok(content) => contents.push(content),
                Err(error) => return (contents, error),
            }
        }
    })
}

#[test]
fn what_is_sent_is_received_in_order() {
    let large = vec![7; LARGEST];
    let sent: [&[u8]; 4] = [b"one", b"", &large, b"three"];
    let (contents, end) = received(&frames(&sent).concat());
    assert_eq!(contents, sent);
    assert!(matches!(end, FrameError::Closed));
}

#[test]
fn whoever_changes_the_order_of_frames_is_found_out() {
    let all = frames(&[b"one", b"two", b"three"]);
    let other_way = {
        let mut sender = Sender::new(Vec::new(), key("the other way"));
        block_on(sender.send(b"one")).unwrap();
        sender.to
    };
    for (case, bytes, taken) in [
        ("repeated", [&all[0][..], &all[0]].concat(), 1),
        ("left out", [&all[0][..], &all[2]].concat(), 1),
        ("swapped", [&all[1][..], &all[0]].concat(), 0),
        ("turned around", other_way, 0),
    ] {
        let (contents, end) = received(&bytes);
        assert_eq!(contents.len(), taken, "{case}");
        assert!(matches!(end, FrameError::Forged(number) if number == taken as u64 + 1), "{case}: {end}");
    }
}

#[test]
fn what_is_too_large_is_neither_sent_nor_waited_for() {
    let mut sender = Sender::new(Vec::new(), key("this way"));
    let error = block_on(sender.send(&vec![0; LARGEST + 1])).unwrap_err();
    assert_eq!(error.to_string(), "a frame of 1048577 bytes is too large");
    assert!(sender.to.is_empty());
    assert!(matches!(received(&[0, 0x10, 0, 1]).1, FrameError::TooLarge(1_048_577)));
    assert!(matches!(received(&[0xff; 64]).1, FrameError::TooLarge(u32::MAX)));
}

#[test]
fn half_a_frame_is_none() {
    let whole = &frames(&[b"all of it"])[0];
    for length in 1..whole.len() {
        let (contents, end) = received(&whole[..length]);
        assert!(contents.is_empty(), "{length}");
        assert!(matches!(end, FrameError::Closed | FrameError::Broken(_)), "{length}: {end}");
    }
}

proptest! {
    #[test]
    fn nothing_but_what_was_sent_is_taken(bytes in proptest::collection::vec(any::<u8>(), 0..2000), small in any::<bool>()) {
        let mut bytes = bytes;
        if small && bytes.len() >= 4 {
            // Such that its length fits more often.
            bytes[..3].fill(0);
        }
        prop_assert!(received(&bytes).0.is_empty());
    }

    #[test]
    fn one_changed_bit_is_found(content in proptest::collection::vec(any::<u8>(), 0..200), at in any::<proptest::sample::Index>(), bit in 0..8) {
        let mut bytes = frames(&[&content]).concat();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        prop_assert!(received(&bytes).0.is_empty());
    }
}
