//! Nodes on the loopback that speak with each other.

use std::net::Ipv4Addr;

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::*;
use crate::peering::statement::Statement;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const OTHER_SECRET: &[u8] = b"fedcba9876543210fedcba9876543210";

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 1, 0, last).into()
}

/// A port that nobody has at any of these addresses.
fn free_port() -> u16 {
    std::net::TcpListener::bind((address(1), 0)).unwrap().local_addr().unwrap().port()
}

struct Node {
    peering: Peering,
    events: mpsc::Receiver<PeerEvent>,
}

impl Node {
    /// Number `own` of a group in which it lists `others`.
    fn start(own: u8, others: &[u8], port: u16, secret: &[u8], name: &str) -> Self {
        let (told, events) = mpsc::channel(64);
        let setup = Setup {
            name: name.to_owned(),
            secret: Secret::of(secret),
            port,
            address: Some(address(own)),
            peers: others.iter().copied().map(address).collect(),
            share: [].into(),
        };
        Self { peering: Peering::start(setup, told).unwrap(), events }
    }

    async fn wait_for(&mut self, what: &str, mut done: impl FnMut(&mut Self, PeerEvent) -> bool) {
        let waiting = async {
            while let Some(event) = self.events.recv().await {
                if done(self, event) {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(30), waiting)
            .await
            .unwrap_or_else(|_| panic!("waited in vain for {what}"));
    }

    async fn wait_until_connected(&mut self) {
        let all = |node: &Self| node.peering.peers().iter().all(PeerView::is_connected);
        if !all(self) {
            self.wait_for("connections", |node, _| all(node)).await;
        }
    }

    /// Waits until both ways to its only peer say so.
    async fn wait_for_words(&mut self, words: &str) {
        let said = |node: &Self| {
            let [PeerView { tells, hears, .. }] = &node.peering.peers()[..] else { panic!("one peer") };
            [tells, hears].iter().all(|way| matches!(way, Way::Closed { why } if why.contains(words)))
        };
        if !said(self) {
            self.wait_for(words, |node, _| said(node)).await;
        }
    }

    /// Takes in what is said, until a statement of that node comes.
    async fn hear(&mut self, expected: &str) {
        self.wait_for(expected, |_, event| {
            let PeerEvent::Heard(heard) = event else { return false };
            let (message, taken) = heard.open();
            taken.tell();
            matches!(message, Message::Statement(statement) if statement.node == expected)
        })
        .await;
    }
}

fn statement(node: &str) -> Message {
    Message::Statement(Box::new(Statement { node: node.to_owned(), ..Statement::default() }))
}

#[tokio::test]
async fn what_is_told_is_heard_and_what_was_taken_in_is_known() {
    let port = free_port();
    let mut a = Node::start(1, &[2], port, SECRET, "a");
    assert_eq!(a.peering.tell(address(2), &statement("early")), Ok(Tell::Away));
    assert!(!a.peering.all_taken_in(address(2)).await, "there is nobody");
    let mut b = Node::start(2, &[1], port, SECRET, "b");
    a.wait_until_connected().await;
    b.wait_until_connected().await;
    let [peer] = &a.peering.peers()[..] else { panic!("one peer") };
    assert_eq!((peer.name.as_deref(), peer.address), (Some("b"), address(2)));
    assert_eq!(a.peering.tell(address(2), &statement("first")), Ok(Tell::Number(1)));
    let first = a.peering.all_taken_in(address(2));
    assert_eq!(a.peering.taken_in(address(2)), Some(0), "it was only sent");
    b.hear("first").await;
    assert!(first.await);
    assert_eq!(a.peering.taken_in(address(2)), Some(1));
    assert_eq!(b.peering.tell_all(&statement("back")), Ok(Vec::new()));
    a.hear("back").await;

    // It is gone, and comes back.
    assert_eq!(a.peering.tell(address(2), &statement("never taken in")), Ok(Tell::Number(2)));
    let never = a.peering.all_taken_in(address(2));
    b.peering.stop().await;
    assert!(!never.await);
    a.wait_for("the loss", |node, _| !node.peering.peers()[0].is_connected()).await;
    let mut b = Node::start(2, &[1], port, SECRET, "b");
    a.wait_for("its return", |_, event| matches!(event, PeerEvent::Connected { .. })).await;
    assert_eq!(a.peering.tell(address(2), &statement("again")), Ok(Tell::Number(1)));
    b.hear("again").await;
}

/// What this release did not understand was said to be taken in, and with it what it had not taken in yet.
#[tokio::test]
async fn what_is_not_understood_does_not_vouch_for_what_was_said_before() {
    let port = free_port();
    let mut a = Node::start(1, &[2], port, SECRET, "a");
    let mut b = Node::start(2, &[1], port, SECRET, "b");
    a.wait_until_connected().await;
    b.wait_until_connected().await;
    assert_eq!(a.peering.tell(address(2), &statement("first")), Ok(Tell::Number(1)));
    let mood = br#"{"number":2,"kind":"mood","body":"good"}"#.to_vec();
    let queue = |node: &Node| {
        let peers = node.peering.shared.peers();
        let queue = peers[&address(2)].queue.as_ref().unwrap();
        (queue.messages.clone(), queue.taken.clone())
    };
    let (messages, mut taken) = queue(&a);
    messages.send(mood).await.unwrap();
    let mut first = None;
    b.wait_for("what it does not understand", |_, event| match event {
        PeerEvent::Heard(heard) => {
            first = Some(heard);
            false
        }
        PeerEvent::NotUnderstood(_) => true,
        PeerEvent::Connected { .. } | PeerEvent::Changed => false,
    })
    .await;
    let (_, first) = first.expect("it was said before").open();
    assert_eq!(*taken.borrow_and_update(), 0);
    first.tell();
    taken.changed().await.unwrap();
    assert_eq!(*taken.borrow(), 1);
}

#[tokio::test]
async fn a_queue_takes_no_more_than_it_holds() {
    let port = free_port();
    let mut a = Node::start(1, &[2], port, SECRET, "a");
    // It hears, and takes nothing in: its daemon has no time.
    let mut b = Node::start(2, &[1], port, SECRET, "b");
    a.wait_until_connected().await;
    let long = statement(&"x".repeat(200_000));
    let mut told = 0;
    while let Tell::Number(_) = a.peering.tell(address(2), &long).unwrap() {
        told += 1;
        assert!(told < 10_000, "it takes whatever comes");
        tokio::task::yield_now().await;
    }
    assert_eq!(a.peering.tell(address(2), &long), Ok(Tell::Full));
    assert_eq!((a.peering.room(address(2)), a.peering.tell_all(&long)), (0, Ok(vec![address(2)])));
    let all = a.peering.all_taken_in(address(2));
    for _ in 0..told {
        b.hear(&"x".repeat(200_000)).await;
    }
    assert!(all.await);
    assert!(a.peering.room(address(2)) > 0);
    let too_long = a.peering.tell(address(2), &statement(&"x".repeat(1 << 20)));
    assert!(matches!(too_long, Err(TooLarge(bytes)) if bytes > 1 << 20), "{too_long:?}");
}

#[tokio::test]
async fn why_a_peer_is_none_is_known_to_both() {
    for (b, words) in [
        ((2, OTHER_SECRET, "b"), "its secret is another one"),
        ((2, SECRET, "a"), "it is called a as this node is"),
    ] {
        let port = free_port();
        let mut a = Node::start(1, &[2], port, SECRET, "a");
        let mut b = Node::start(b.0, &[1], port, b.1, b.2);
        a.wait_for_words(words).await;
        b.wait_for_words(words).await;
    }
    let mut alone = Node::start(1, &[1], free_port(), SECRET, "a");
    alone.wait_for_words("it is this node itself").await;
}

#[tokio::test]
async fn strangers_are_sent_away_and_disturb_nobody() {
    let port = free_port();
    let mut a = Node::start(1, &[2], port, SECRET, "a");
    let mut b = Node::start(2, &[1], port, SECRET, "b");
    a.wait_until_connected().await;
    b.wait_until_connected().await;
    // From an address that no peer has.
    let from = |last: u8| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address(last), 0).into()).unwrap();
        socket
    };
    let mut stranger = from(3).connect((address(1), port).into()).await.unwrap();
    let mut answer = [0; 1];
    let read = tokio::io::AsyncReadExt::read(&mut stranger, &mut answer).await;
    assert!(matches!(read, Ok(0) | Err(_)), "not even a word");
    // From one that a peer has: some say nothing, some say nonsense.
    let mut open: Vec<TcpStream> = Vec::new();
    for number in 0..100 {
        let mut knocking = from(2).connect((address(1), port).into()).await.unwrap();
        if number % 2 == 0 {
            // It may be turned away meanwhile.
            let _ = knocking.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
        }
        open.push(knocking);
    }
    while a.peering.refused().len() < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refused = a.peering.refused();
    assert_eq!(refused[&Refused::Stranger], 1);
    assert!(refused[&Refused::Said("malformed")] > 0 && refused[&Refused::Crowd] > 0, "{refused:?}");
    assert!(a.peering.peers()[0].is_connected());
    assert_eq!(b.peering.tell(address(1), &statement("all is well")), Ok(Tell::Number(1)));
    a.hear("all is well").await;

    // Nor do they keep a peer out.
    b.peering.stop().await;
    a.wait_for("the loss", |node, _| !node.peering.peers()[0].is_connected()).await;
    let b = Node::start(2, &[1], port, SECRET, "b");
    a.wait_until_connected().await;
    drop((open, b));
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let port = free_port();
    let _taken = std::net::TcpListener::bind((address(1), port)).unwrap();
    let setup = Setup {
        name: "a".to_owned(),
        secret: Secret::of(SECRET),
        port,
        address: Some(address(1)),
        peers: vec![address(2)],
        share: [].into(),
    };
    let error = Peering::start(setup, mpsc::channel(1).0).err().unwrap();
    assert!(
        format!("{error:#}").starts_with(&format!("cannot listen for peers on port {port}: ")),
        "{error:#}"
    );
}
