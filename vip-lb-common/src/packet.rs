//! Bounds-checked access to the bytes of a packet.

use core::marker::PhantomData;

use crate::verdict::Verdict;

/// A packet being processed: a frame from its Ethernet header on.
///
/// # Safety
///
/// From `start` to `end` lie readable and writable bytes, for as long as `self` is not changed through `&mut`.
pub unsafe trait Packet {
    /// Address of the first byte.
    fn start(&self) -> usize;

    /// Address behind the last byte.
    fn end(&self) -> usize;

    /// Index of the interface it came in by.
    fn ingress(&self) -> u32;

    /// Makes room for `bytes` more in front. Fails where the driver left no headroom; all views are void after.
    fn grow_front(&mut self, bytes: usize) -> Result<(), Verdict>;

    /// Removes `bytes` from the front.
    fn shrink_front(&mut self, bytes: usize) -> Result<(), Verdict>;

    /// Cuts or pads the frame to `bytes`.
    fn set_len(&mut self, bytes: usize) -> Result<(), Verdict>;

    /// Bytes of the frame's first buffer: nearly always the whole frame.
    #[inline(always)]
    fn len(&self) -> usize {
        self.end() - self.start()
    }

    /// Bytes of the frame with those that lie apart. A driver may hold a large frame in several buffers (kernel 5.18): `start..end` is
    /// the first of them, and headers are looked for only there.
    #[inline(always)]
    fn total_len(&self) -> usize {
        self.len()
    }

    /// Whether the frame ends before `len` bytes from `offset` on. Nearly every frame is one buffer, so that is asked first.
    #[inline(always)]
    fn ends_before(&self, offset: usize, len: usize) -> bool {
        len > self.len() - offset && len > self.total_len() - offset
    }

    /// Whether the frame has no bytes.
    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `N` bytes from `offset` on, or `short` where the frame has not so many. The one bounds check: all access to a
    /// packet goes through it, in the form that the verifier recognises.
    #[inline(always)]
    fn view<const N: usize>(&self, offset: usize, short: Verdict) -> Result<View<'_, N>, Verdict> {
        let at = self.start() + offset;
        if at + N > self.end() {
            return Err(short);
        }
        Ok(View { at: at as *mut u8, packet: PhantomData })
    }
}

/// `N` bytes of a packet that are known to be there.
///
/// Accessors panic when asked beyond `N`; offsets are constants, so the compiler removes these checks.
#[derive(Clone, Copy)]
pub struct View<'p, const N: usize> {
    at: *mut u8,
    packet: PhantomData<&'p core::cell::Cell<u8>>,
}

impl<'p, const N: usize> View<'p, N> {
    /// `M` of the bytes, from `offset` on.
    #[inline(always)]
    pub fn part<const M: usize>(&self, offset: usize) -> View<'p, M> {
        assert!(offset + M <= N);
        View {
            // SAFETY: inside the bytes that are known to be there.
            at: unsafe { self.at.add(offset) },
            packet: PhantomData,
        }
    }

    /// The byte at `offset`.
    #[inline(always)]
    pub fn u8(&self, offset: usize) -> u8 {
        self.load(offset)
    }

    /// The big-endian 16-bit number at `offset`.
    #[inline(always)]
    pub fn be16(&self, offset: usize) -> u16 {
        u16::from_be(self.load(offset))
    }

    /// The big-endian 32-bit number at `offset`.
    #[inline(always)]
    pub fn be32(&self, offset: usize) -> u32 {
        u32::from_be(self.load(offset))
    }

    /// Four bytes as they lie in memory.
    #[inline(always)]
    pub fn word(&self, offset: usize) -> u32 {
        self.load(offset)
    }

    /// Two bytes as they lie in memory.
    #[inline(always)]
    pub fn half_word(&self, offset: usize) -> u16 {
        self.load(offset)
    }

    /// Writes a byte.
    #[inline(always)]
    pub fn set_u8(&self, offset: usize, value: u8) {
        self.store(offset, value);
    }

    /// Writes a 16-bit number in big-endian order.
    #[inline(always)]
    pub fn set_be16(&self, offset: usize, value: u16) {
        self.store(offset, value.to_be());
    }

    /// Writes a 32-bit number in big-endian order.
    #[inline(always)]
    pub fn set_be32(&self, offset: usize, value: u32) {
        self.store(offset, value.to_be());
    }

    /// Writes four bytes as they lie in memory.
    #[inline(always)]
    pub fn set_word(&self, offset: usize, value: u32) {
        self.store(offset, value);
    }

    /// Writes two bytes as they lie in memory.
    #[inline(always)]
    pub fn set_half_word(&self, offset: usize, value: u16) {
        self.store(offset, value);
    }

    #[inline(always)]
    fn load<T: Copy>(&self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= N);
        // SAFETY: `view` checked that N bytes from `at` on are there, and T is a plain integer.
        unsafe { load(self.at.add(offset)) }
    }

    #[inline(always)]
    fn store<T: Copy>(&self, offset: usize, value: T) {
        assert!(offset + size_of::<T>() <= N);
        // SAFETY: as in `load`; the bytes are only ever reached through views of this thread.
        unsafe { store(self.at.add(offset), value) }
    }
}

/// The same number, of which the verifier knows only that it is at most `mask`, which must cover it. Paths that differ in nothing but a
/// constant become one to the verifier where their constants pass through here, at the cost of two instructions.
#[inline(always)]
pub(crate) fn forget(number: usize, mask: u16) -> usize {
    // The verifier remembers what is stored at multiples of eight bytes, whatever its size.
    #[repr(C, align(8))]
    struct Memory([u16; 2]);

    let mut memory = Memory([0; 2]);
    let at = &raw mut memory.0[1];
    // SAFETY: a local of this function.
    let number = unsafe {
        at.write_volatile(number as u16);
        at.read_volatile()
    };
    (number & mask) as usize
}

/// Bytes as the words they are in memory, each read at once.
#[inline(always)]
pub(crate) fn words(bytes: &[u8; 12]) -> [u32; 3] {
    let at = bytes.as_ptr();
    // SAFETY: three words in twelve bytes.
    unsafe { [load(at), load(at.add(4)), load(at.add(8))] }
}

// IP headers lie at addresses that are 2 modulo 4. The machines that XDP programs are compiled for read those directly, and the
// verifier allows it where the kernel says so (HAVE_EFFICIENT_UNALIGNED_ACCESS: x86-64, arm64). LLVM does not know: told the truth about the
// alignment it reads byte by byte, ten instructions in place of one. So on BPF, and only there, the access claims to be aligned.

#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn load<T: Copy>(at: *const u8) -> T {
    // SAFETY: the caller's; alignment as said above.
    unsafe { *at.cast::<T>() }
}

#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn store<T: Copy>(at: *mut u8, value: T) {
    // SAFETY: the caller's; alignment as said above.
    unsafe { *at.cast::<T>() = value }
}

#[cfg(not(target_arch = "bpf"))]
unsafe fn load<T: Copy>(at: *const u8) -> T {
    // SAFETY: the caller's.
    unsafe { at.cast::<T>().read_unaligned() }
}

#[cfg(not(target_arch = "bpf"))]
unsafe fn store<T: Copy>(at: *mut u8, value: T) {
    // SAFETY: the caller's.
    unsafe { at.cast::<T>().write_unaligned(value) }
}
