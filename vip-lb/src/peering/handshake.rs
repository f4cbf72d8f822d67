//! How two nodes find out whether they have the same secret, without showing it.
//!
//! Each says who it is and adds random bytes; then each signs, with the secret, its own part and all that both have said. The one who connected
//! signs first, so that nobody who merely asks gets anything to guess the secret by. The keys of what follows come from all that was said, too:
//! what was recorded of one connection means nothing in another.
//!
//! ```text
//! HELLO     "vip-lb/p" | version: u16 | length of the name: u8 | name | instance: 16 bytes | random: 32 bytes
//! dialer -> HELLO;  acceptor -> HELLO;  dialer -> signature;  acceptor -> verdict: u8 | signature
//! ```
//!
//! Integers are in network order. A version that changes what follows it here changes the number.

use std::{io, time::Duration};

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    channel::{Receiver, Sender},
    secret::{Secret, TAG},
};

/// Of what nodes say to each other.
pub const VERSION: u16 = 1;
/// How long it may take in all.
pub const LIMIT: Duration = Duration::from_secs(5);

const MAGIC: [u8; 8] = *b"vip-lb/p";
/// Longest name of a node, as the configuration has it.
const LONGEST_NAME: u8 = 64;
const SIGNED: u8 = 0;
const WRONG_SECRET: u8 = 1;

/// Who a node says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name in the configuration.
    pub name: String,
    /// Tells its daemon from all others, whatever they are called.
    pub instance: [u8; 16],
}

impl Identity {
    /// This daemon's, under the name of its node.
    ///
    /// # Errors
    ///
    /// The system has no randomness.
    pub fn new(name: &str) -> io::Result<Self> {
        Ok(Self { name: name.to_owned(), instance: random()? })
    }
}

/// Why two nodes do not get together.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It speaks another version of the protocol.
    #[error("it speaks version {0} of the protocol between peers, and this node version {VERSION}")]
    Version(u16),
    /// It signs with another secret.
    #[error("its secret is another one (`node.peering.secret_file`)")]
    Secret,
    /// It is called as this node is.
    #[error("it is called {0} as this node is: give each node a name of its own (`node.name`)")]
    SameName(String),
    /// It is this very daemon.
    #[error("it is this node itself: `node.peers` lists the other nodes")]
    Itself,
    /// What it says is nothing that a node says.
    #[error("what it says is not the protocol between peers")]
    Malformed,
    /// It ended the connection before it said anything.
    #[error(
        "it closed the connection at once: does its `node.peers` list the address that this node has there?"
    )]
    Unwanted,
    /// It took too long.
    #[error("it did not say who it is within {} s", LIMIT.as_secs())]
    Silent,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
}

impl Refusal {
    /// In a word, as counters name it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Version(_) => "version",
            Self::Secret => "secret",
            Self::SameName(_) => "same_name",
            Self::Itself => "itself",
            Self::Malformed => "malformed",
            Self::Unwanted | Self::Broken(_) => "broken",
            Self::Silent => "silent",
        }
    }
}

/// Two nodes that trust each other.
pub struct Session<R, W> {
    /// The other one.
    pub peer: Identity,
    /// What it says from here on.
    pub receiver: Receiver<R>,
    /// What it is told.
    pub sender: Sender<W>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Dialer,
    Acceptor,
}

impl Role {
    const fn signs(self) -> &'static str {
        match self {
            Self::Dialer => "vip-lb peering 1: the dialer has the secret",
            Self::Acceptor => "vip-lb peering 1: the acceptor has the secret",
        }
    }

    const fn sends(self) -> &'static str {
        match self {
            Self::Dialer => "vip-lb peering 1: what the dialer says",
            Self::Acceptor => "vip-lb peering 1: what the acceptor says",
        }
    }
}

/// Gets together with a node that this one has connected to.
///
/// # Errors
///
/// They do not belong together, or the connection is no good: see [`Refusal`].
pub async fn dial<R, W>(from: R, to: W, secret: &Secret, own: &Identity) -> Result<Session<R, W>, Refusal>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    within(async {
        let (mut from, mut to) = (from, to);
        let mine = hello(own)?;
        to.write_all(&mine).await?;
        let theirs = read_hello(&mut from, own).await?;
        let said: [&[u8]; 2] = [&mine, &theirs.bytes];
        to.write_all(&secret.sign(Role::Dialer.signs(), &said)).await?;
        if read_byte(&mut from).await? == WRONG_SECRET {
            return Err(Refusal::Secret);
        }
        let mut signature = [0; TAG];
        from.read_exact(&mut signature).await?;
        if !secret.is_signed(&signature, Role::Acceptor.signs(), &said) {
            return Err(Refusal::Secret);
        }
        begin(from, to, secret, Role::Dialer, said, theirs.identity, own)
    })
    .await
}

/// Gets together with a node that has connected to this one.
///
/// # Errors
///
/// As of [`dial`].
pub async fn accept<R, W>(from: R, to: W, secret: &Secret, own: &Identity) -> Result<Session<R, W>, Refusal>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    within(async {
        let (mut from, mut to) = (from, to);
        let mine = hello(own)?;
        let theirs = read_hello(&mut from, own).await;
        if matches!(theirs, Ok(_) | Err(Refusal::Version(_) | Refusal::Itself)) {
            // It finds out the same by this.
            to.write_all(&mine).await?;
        }
        let theirs = theirs?;
        let said: [&[u8]; 2] = [&theirs.bytes, &mine];
        let mut signature = [0; TAG];
        from.read_exact(&mut signature).await?;
        if !secret.is_signed(&signature, Role::Dialer.signs(), &said) {
            to.write_all(&[WRONG_SECRET]).await?;
            return Err(Refusal::Secret);
        }
        to.write_all(&[SIGNED]).await?;
        to.write_all(&secret.sign(Role::Acceptor.signs(), &said)).await?;
        begin(from, to, secret, Role::Acceptor, said, theirs.identity, own)
    })
    .await
}

async fn within<T>(talk: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    timeout(LIMIT, talk).await.unwrap_or(Err(Refusal::Silent))
}

fn begin<R, W>(
    from: R,
    to: W,
    secret: &Secret,
    own_role: Role,
    said: [&[u8]; 2],
    peer: Identity,
    own: &Identity,
) -> Result<Session<R, W>, Refusal>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    // Only now is it known that it is one of the group.
    if peer.name == own.name {
        return Err(Refusal::SameName(peer.name));
    }
    let other_role = if own_role == Role::Dialer { Role::Acceptor } else { Role::Dialer };
    Ok(Session {
        peer,
        receiver: Receiver::new(from, secret.derive(other_role.sends(), &said)),
        sender: Sender::new(to, secret.derive(own_role.sends(), &said)),
    })
}

struct Hello {
    identity: Identity,
    bytes: Vec<u8>,
}

fn hello(own: &Identity) -> Result<Vec<u8>, Refusal> {
    let name = own.name.as_bytes();
    let length = u8::try_from(name.len()).ok().filter(|length| *length <= LONGEST_NAME);
    let length = length.ok_or_else(|| io::Error::other("the name of this node is too long"))?;
    let mut hello = MAGIC.to_vec();
    hello.extend_from_slice(&VERSION.to_be_bytes());
    hello.push(length);
    hello.extend_from_slice(name);
    hello.extend_from_slice(&own.instance);
    hello.extend_from_slice(&random::<32>()?);
    Ok(hello)
}

async fn read_hello(from: &mut (impl AsyncRead + Unpin), own: &Identity) -> Result<Hello, Refusal> {
    let mut bytes = vec![0; MAGIC.len()];
    bytes[0] = read_byte(from).await?;
    from.read_exact(&mut bytes[1..]).await?;
    if bytes != MAGIC {
        return Err(Refusal::Malformed);
    }
    let version = from.read_u16().await?;
    if version != VERSION {
        return Err(Refusal::Version(version));
    }
    bytes.extend_from_slice(&version.to_be_bytes());
    let length = from.read_u8().await?;
    if length == 0 || length > LONGEST_NAME {
        return Err(Refusal::Malformed);
    }
    bytes.push(length);
    let mut name = vec![0; length.into()];
    from.read_exact(&mut name).await?;
    bytes.extend_from_slice(&name);
    let name = String::from_utf8(name).ok().filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic()));
    let name = name.ok_or(Refusal::Malformed)?;
    let (mut instance, mut salt) = ([0; 16], [0; 32]);
    from.read_exact(&mut instance).await?;
    from.read_exact(&mut salt).await?;
    bytes.extend_from_slice(&instance);
    bytes.extend_from_slice(&salt);
    if instance == own.instance {
        return Err(Refusal::Itself);
    }
    Ok(Hello { identity: Identity { name, instance }, bytes })
}

/// The first of what it says next; a connection that ends instead was not wanted.
async fn read_byte(from: &mut (impl AsyncRead + Unpin)) -> Result<u8, Refusal> {
    from.read_u8().await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Refusal::Unwanted,
        _ => Refusal::Broken(error),
    })
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system has no random bytes"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
