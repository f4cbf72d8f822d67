//! Runs programs over packet sets, in the kernel.

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, ProgramArray},
    programs::{ProgramFd, TestRun as _, TestRunOptions, Xdp},
};

use super::{
    balancer::Plain,
    cases::{Floor, PORT, VIP},
};

const PACKET_ROOM: usize = 156;
const FLOOR_SLOTS: u32 = 65_537;
const FLOOR_BACKENDS: u32 = 10;

/// A value of BENCH_PACKETS.
#[derive(Clone, Copy)]
#[repr(C)]
struct BenchPacket {
    len: u32,
    frame: [u8; PACKET_ROOM],
}

/// The value of BENCH_STATE.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct BenchState {
    start: u64,
    now: u64,
    next: u32,
    packets: u32,
    errors: u64,
    iterations: u64,
}

/// The wrapper with one packet set.
#[derive(Debug)]
pub struct Wrapper {
    ebpf: Ebpf,
    packets: u32,
    longest: usize,
}

impl Wrapper {
    /// Loads it for a set of at least one packet.
    ///
    /// # Errors
    ///
    /// When the kernel does not take it, or a packet is longer than 156 bytes.
    pub fn load(object: &[u8], frames: &[Vec<u8>]) -> Result<Self> {
        let packets = u32::try_from(frames.len()).context("count the packets")?;
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("BENCH_PACKETS", packets)
            .load(object)
            .context("load the wrapper's maps")?;
        let mut set = Array::<_, Plain<BenchPacket>>::try_from(
            ebpf.map_mut("BENCH_PACKETS").context("find BENCH_PACKETS")?,
        )?;
        for (at, frame) in (0..).zip(frames) {
            let mut packet = BenchPacket { len: frame.len() as u32, frame: [0; PACKET_ROOM] };
            packet
                .frame
                .get_mut(..frame.len())
                .with_context(|| format!("packet {at} has {} bytes", frame.len()))?
                .copy_from_slice(frame);
            set.set(at, Plain(packet), 0).context("write a packet")?;
        }
        load_program(&mut ebpf, "bench_wrap")?;
        load_program(&mut ebpf, "bench_null")?;
        let longest = frames.iter().map(Vec::len).max().context("measure no packet")?;
        Ok(Self { ebpf, packets, longest })
    }

    /// Nanoseconds for each packet, wrapper included, over `iterations` packets. Without a program, of the wrapper alone. Always
    /// starts at the first packet.
    ///
    /// # Errors
    ///
    /// When a packet could not be restored: the time would be that of something else.
    pub fn time(&mut self, program: Option<&ProgramFd>, iterations: u32) -> Result<f64> {
        let null = program_of(&self.ebpf, "bench_null")?.fd()?.try_clone()?;
        ProgramArray::try_from(self.ebpf.map_mut("BENCH_TARGET").context("find BENCH_TARGET")?)?
            .set(0, program.unwrap_or(&null), 0)
            .context("put the program behind the wrapper")?;
        self.set_state(BenchState { packets: self.packets, ..BenchState::default() })?;
        let frame = vec![0; self.longest];
        let result = program_of(&self.ebpf, "bench_wrap")?
            .test_run(TestRunOptions { data_in: Some(&frame), repeat: iterations, ..TestRunOptions::new() })
            .context("run the wrapper")?;
        let state = self.state()?;
        ensure!(state.errors == 0, "{} packets could not be restored", state.errors);
        ensure!(
            state.iterations == u64::from(iterations),
            "the wrapper ran {} times in place of {iterations}",
            state.iterations
        );
        Ok(result.duration.as_nanos() as f64)
    }

    fn state(&self) -> Result<BenchState> {
        let map = self.ebpf.map("BENCH_STATE").context("find BENCH_STATE")?;
        Ok(Array::<_, Plain<BenchState>>::try_from(map)?.get(&0, 0)?.0)
    }

    fn set_state(&mut self, state: BenchState) -> Result<()> {
        let map = self.ebpf.map_mut("BENCH_STATE").context("find BENCH_STATE")?;
        Array::<_, Plain<BenchState>>::try_from(map)?.set(0, Plain(state), 0)?;
        Ok(())
    }
}

/// The floors, loaded and filled.
#[derive(Debug)]
pub struct Floors {
    ebpf: Ebpf,
}

impl Floors {
    /// Loads them for TCP to the IPv4 VIP.
    ///
    /// # Errors
    ///
    /// When the kernel does not take them.
    pub fn load(object: &[u8]) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(object).context("load the floors' maps")?;
        let std::net::IpAddr::V4(vip) = VIP else {
            bail!("the floors know IPv4 only");
        };
        let [a, b] = PORT.to_be_bytes();
        let service: [u8; 8] = {
            let [c, d, e, f] = vip.octets();
            [6, 0, a, b, c, d, e, f]
        };
        HashMap::<_, [u8; 8], [u8; 12]>::try_from(ebpf.map_mut("FLOOR_VIPS").context("find FLOOR_VIPS")?)?
            .insert(service, [0; 12], 0)?;
        let mut backends =
            Array::<_, [u8; 12]>::try_from(ebpf.map_mut("FLOOR_BACKENDS").context("find FLOOR_BACKENDS")?)?;
        for index in 0..FLOOR_BACKENDS {
            let number = (index + 1) as u8;
            backends.set(index, [2, 0, 0, 0, 1, number, 0, 0, number, 0, 0, 0], 0)?;
        }
        let mut ring = Array::<_, u32>::try_from(ebpf.map_mut("FLOOR_RING").context("find FLOOR_RING")?)?;
        for slot in 0..FLOOR_SLOTS {
            ring.set(slot, slot % FLOOR_BACKENDS, 0)?;
        }
        for floor in Floor::ALL {
            load_program(&mut ebpf, floor.name())?;
        }
        Ok(Self { ebpf })
    }

    /// A floor's program.
    ///
    /// # Errors
    ///
    /// Never after `load`.
    pub fn program(&self, floor: Floor) -> Result<&Xdp> {
        program_of(&self.ebpf, floor.name())
    }
}

fn load_program(ebpf: &mut Ebpf, name: &str) -> Result<()> {
    let program: &mut Xdp =
        ebpf.program_mut(name).with_context(|| format!("find program {name}"))?.try_into()?;
    program.load().with_context(|| format!("load program {name}"))
}

fn program_of<'e>(ebpf: &'e Ebpf, name: &str) -> Result<&'e Xdp> {
    Ok(ebpf.program(name).with_context(|| format!("find program {name}"))?.try_into()?)
}
