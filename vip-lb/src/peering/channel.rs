//! Frames between two nodes that trust each other: nobody in between can change, add, leave out, repeat or turn around one without being found out.
//! They are signed, not encrypted.
//!
//! ```text
//! length of the content: u32 | content | HMAC-SHA256 over the frame's number in its direction: u64, and the content
//! ```
//!
//! Integers are in network order; each direction has a key of its own.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::secret::{Secret, TAG};

/// Most bytes in a frame.
pub const LARGEST: usize = 1 << 20;

const PURPOSE: &str = "frame";

/// Why nothing more can be received.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other end is gone.
    #[error("it closed the connection")]
    Closed,
    /// Nobody sends such a frame.
    #[error("it sent a frame of {0} bytes, of which {LARGEST} are allowed")]
    TooLarge(u32),
    /// Somebody without the secret has to do with it.
    #[error("its {0}. frame is not as it was sent")]
    Forged(u64),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
}

/// The end that sends.
pub struct Sender<W> {
    to: W,
    key: Secret,
    next: u64,
}

impl<W: AsyncWrite + Unpin> Sender<W> {
    pub(super) fn new(to: W, key: Secret) -> Self {
        Self { to, key, next: 0 }
    }

    /// Sends a frame. Whatever interrupts it, the connection is of no use after that.
    ///
    /// # Errors
    ///
    /// The connection is broken, or the content larger than [`LARGEST`], of which nothing is sent.
    pub async fn send(&mut self, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len()).ok().filter(|_| content.len() <= LARGEST);
        let length = length.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a frame of {} bytes is too large", content.len()),
            )
        })?;
        let tag = self.key.sign(PURPOSE, &[&self.next.to_be_bytes(), content]);
        self.next += 1;
        let mut frame = Vec::with_capacity(4 + content.len() + TAG);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(content);
        frame.extend_from_slice(&tag);
        self.to.write_all(&frame).await
    }
}

/// The end that receives.
pub struct Receiver<R> {
    from: R,
    key: Secret,
    next: u64,
}

impl<R: AsyncRead + Unpin> Receiver<R> {
    pub(super) fn new(from: R, key: Secret) -> Self {
        Self { from, key, next: 0 }
    }

    /// The content of the next frame. Whatever interrupts it, the connection is of no use after that.
    ///
    /// # Errors
    ///
    /// See [`FrameError`]; none of them passes.
    pub async fn receive(&mut self) -> Result<Vec<u8>, FrameError> {
        let length = match self.from.read_u32().await {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(FrameError::Closed),
            Err(error) => return Err(error.into()),
        };
        if length as usize > LARGEST {
            return Err(FrameError::TooLarge(length));
        }
        let mut content = vec![0; length as usize];
        let mut tag = [0; TAG];
        self.from.read_exact(&mut content).await?;
        self.from.read_exact(&mut tag).await?;
        let number = self.next;
        if !self.key.is_signed(&tag, PURPOSE, &[&number.to_be_bytes(), &content]) {
            return Err(FrameError::Forged(number + 1));
        }
        self.next += 1;
        Ok(content)
    }
}

#[cfg(test)]
mod tests;
