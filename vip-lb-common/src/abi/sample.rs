//! What is known of flows that were chosen to be looked at closely.

use super::{Address, BackendRef};

/// Places of SAMPLES, a power of two: the most flows that are looked at closely at a time.
pub const SAMPLES: usize = 4096;

/// For how many nanoseconds the place of a flow that waits for an answer is its own. After that, another flow may have it.
pub const SAMPLE_KEPT: u64 = 1_500_000_000;

/// How far a sampled flow has come; the value of [`Sample::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SampleState {
    /// There is no flow.
    Free = 0,
    /// Its SYN was seen, and nothing that shows that it was answered.
    Handshake = 1,
    /// It is established, and waits for nothing.
    Established = 2,
    /// The client sent data, and nothing shows that it got an answer.
    Asked = 3,
    /// It is over.
    Over = 4,
}

impl SampleState {
    /// The state stored in a map; anything unknown counts as free.
    #[inline(always)]
    pub const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Handshake,
            2 => Self::Established,
            3 => Self::Asked,
            4 => Self::Over,
            _ => Self::Free,
        }
    }
}

/// A value of SAMPLES: what the client's side of a flow has shown.
///
/// Packets of one flow that two CPUs handle at once may leave a mixture, as may the reader's copy: it is evidence that is weighed, no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Sample {
    /// The client.
    pub source: Address,
    /// Both ports as they lie in packets.
    pub ports: u32,
    /// [`ServiceRef::id`](super::ServiceRef::id).
    pub service: u16,
    /// A [`SampleState`].
    pub state: u8,
    /// How often its SYN came again while it was not answered.
    pub syn_again: u8,
    /// Where its last packet was sent.
    pub backend: BackendRef,
    /// Sequence number of its SYN; later of its newest data.
    pub sequence: u32,
    /// The newest byte that the client has acknowledged, once it is established.
    pub acknowledged: u32,
    /// Microseconds from the SYN until the client acknowledged its answer, at least 1; 0 while it has not.
    pub shaken_after: u32,
    /// When its SYN came, in nanoseconds of CLOCK_MONOTONIC; 0 if that was not seen.
    pub begun: u64,
    /// When its newest data came, on the same clock; 0 before any.
    pub asked: u64,
    /// Microseconds from this data until the client acknowledged something new, at least 1; 0 while it has not.
    pub answered_after: u32,
    /// How often data came again since.
    pub data_again: u8,
    /// Zero.
    pub reserved: [u8; 3],
}
