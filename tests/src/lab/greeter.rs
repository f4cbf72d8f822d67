//! A program on a node that says where it is to whoever connects, at whatever address.

use std::{
    io::{self, Read as _},
    net::{Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use super::{NamedThread, Namespace, Node};

/// The program. Dropped, it ends.
#[derive(Debug)]
pub struct Greeter {
    _thread: NamedThread,
}

impl Greeter {
    /// Listens on all addresses of its node, those to come as well.
    ///
    /// # Errors
    ///
    /// The port is taken.
    pub fn start(node: &Node, port: u16) -> Result<Self> {
        let name = node.name.clone();
        let (ready, bound) = std::sync::mpsc::channel();
        let thread = node.namespace.spawn(&format!("greeter on {name}"), move || async move {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await;
            let _ = ready.send(listener.as_ref().map(drop).map_err(ToString::to_string));
            let Ok(listener) = listener else { return };
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(name.as_bytes()).await;
            }
        })?;
        bound.recv().context("the greeter ended at once")?.map_err(anyhow::Error::msg)?;
        Ok(Self { _thread: thread })
    }

    /// The name of the node that a new connection reaches; the inner error is the connection's.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered.
    pub fn reached(from: &Namespace, target: SocketAddr) -> Result<io::Result<String>> {
        from.enter(|| {
            let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            let mut name = String::new();
            stream.read_to_string(&mut name).map(|_| name)
        })
    }
}
