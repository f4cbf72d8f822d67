//! The BPF object, built into the binary.

/// The ELF file with both XDP programs and all maps.
pub static BYTES: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vip-lb"));

/// The ELF file with the programs of the benchmark: no part of the load balancer, and in no binary that does not ask for it.
pub static BENCH_BYTES: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vip-lb-bench"));
