//! Who gets in, and who does not.

use proptest::prelude::*;
use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};

use super::*;

type Met = Result<Session<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>, Refusal>;

fn node(name: &str) -> Identity {
    Identity::new(name).unwrap()
}

fn secret(text: &str) -> Secret {
    Secret::of(text.as_bytes())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

/// What both ends come to: the one that connects, and the other.
fn meet(a: (&Identity, &str), b: (&Identity, &str)) -> (Met, Met) {
    let (one, other) = duplex(1 << 16);
    let ((from_b, to_b), (from_a, to_a)) = (split(one), split(other));
    let (secret_a, secret_b) = (secret(a.1), secret(b.1));
    block_on(async {
        // Whoever is done hangs up, as a task does that ends.
        let dialer = async { dial(from_b, to_b, &secret_a, a.0).await };
        let acceptor = async { accept(from_a, to_a, &secret_b, b.0).await };
        tokio::join!(dialer, acceptor)
    })
}

fn why(met: Met) -> &'static str {
    met.map_or_else(|refusal| refusal.name(), |_| "together")
}

#[test]
fn nodes_with_one_secret_get_together_and_know_each_other() {
    let (a, b) = (node("lb-1"), node("lb-2"));
    let (dialer, acceptor) = meet((&a, "one secret"), (&b, "one secret"));
    let (mut dialer, mut acceptor) = (dialer.ok().unwrap(), acceptor.ok().unwrap());
    assert_eq!((&dialer.peer, &acceptor.peer), (&b, &a));
    block_on(async {
        dialer.sender.send(b"from the dialer").await.unwrap();
        acceptor.sender.send(b"from the acceptor").await.unwrap();
        assert_eq!(acceptor.receiver.receive().await.unwrap(), b"from the dialer");
        assert_eq!(dialer.receiver.receive().await.unwrap(), b"from the acceptor");
    });
}

#[test]
fn whoever_does_not_belong_is_refused_and_both_know_why() {
    let (a, b) = (node("lb-1"), node("lb-2"));
    let twin = node("lb-1");
    for (case, met, expected) in [
        ("another secret", meet((&a, "one secret"), (&b, "another secret")), ["secret", "secret"]),
        ("the same name", meet((&a, "one secret"), (&twin, "one secret")), ["same_name", "same_name"]),
        ("itself", meet((&a, "one secret"), (&a, "one secret")), ["itself", "itself"]),
        ("the same name, another secret", meet((&a, "x"), (&twin, "y")), ["secret", "secret"]),
    ] {
        assert_eq!([why(met.0), why(met.1)], expected, "{case}");
    }
}

/// Whoever records all that a node says and says it again to another one.
#[test]
fn a_recording_is_worth_nothing() {
    let (a, b) = (node("lb-1"), node("lb-2"));
    let secret = secret("one secret");
    block_on(async {
        let mut recorded = hello(&a).unwrap();
        let theirs = hello(&b).unwrap();
        recorded.extend(secret.sign(Role::Dialer.signs(), &[&recorded, &theirs]));
        let (mut stranger, node) = duplex(1 << 16);
        let (from, to) = split(node);
        stranger.write_all(&recorded).await.unwrap();
        assert_eq!(why(accept(from, to, &secret, &b).await), "secret");
    });
}

/// Whoever sends a node's own words back to it.
#[test]
fn a_mirror_is_nobody() {
    let a = node("lb-1");
    let secret = secret("one secret");
    block_on(async {
        let (mirror, node) = duplex(1 << 16);
        let (from, to) = split(node);
        let (mut in_, mut out) = split(mirror);
        let reflect = async { drop(tokio::io::copy(&mut in_, &mut out).await) };
        let dialed = async { why(dial(from, to, &secret, &a).await) };
        tokio::select! {
            () = reflect => panic!("the node hung up without a word"),
            why = dialed => assert_eq!(why, "itself"),
        }
    });
}

#[test]
fn another_version_is_named_to_both() {
    let (a, b) = (node("lb-1"), node("lb-2"));
    let secret = secret("one secret");
    block_on(async {
        let (mut newer, node) = duplex(1 << 16);
        let (from, to) = split(node);
        newer.write_all(b"vip-lb/p\0\x07 what it says then is its own affair").await.unwrap();
        let refused = accept(from, to, &secret, &b).await.err().unwrap();
        assert!(matches!(refused, Refusal::Version(7)), "{refused}");
        let mut answer = [0; 10];
        newer.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"vip-lb/p\0\x01");

        let (mut older, node) = duplex(1 << 16);
        let (from, to) = split(node);
        older.write_all(b"vip-lb/p\0\0").await.unwrap();
        assert!(matches!(dial(from, to, &secret, &a).await, Err(Refusal::Version(0))));
    });
}

#[test]
fn nobody_is_waited_for_for_long() {
    let b = node("lb-2");
    let secret = secret("one secret");
    block_on(async {
        for said in ["", "v", "vip-lb/p", "vip-lb/p\0\x01\x04lb"] {
            let (mut stranger, node) = duplex(1 << 16);
            let (from, to) = split(node);
            stranger.write_all(said.as_bytes()).await.unwrap();
            assert_eq!(why(accept(from, to, &secret, &b).await), "silent", "{said:?}");
        }
        let (stranger, node) = duplex(1 << 16);
        drop(stranger);
        let (from, to) = split(node);
        assert_eq!(why(dial(from, to, &secret, &b).await), "broken");
    });
}

proptest! {
    #[test]
    fn whatever_strangers_say_they_stay_outside(
        prefix in proptest::sample::select(vec![&b""[..], b"vip-lb/p", b"vip-lb/p\0\x01", b"vip-lb/p\0\x01\x04lb-1"]),
        said in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let b = node("lb-2");
        let secret = secret("one secret");
        let all = [prefix, &said].concat();
        let met = block_on(async { accept(&all[..], tokio::io::sink(), &secret, &b).await.map(|_| ()) });
        prop_assert!(met.is_err());
        let met = block_on(async { dial(&all[..], tokio::io::sink(), &secret, &b).await.map(|_| ()) });
        prop_assert!(met.is_err());
    }
}
