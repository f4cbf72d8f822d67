//! What the development commands share with the labs and benchmarks: figures with their aims, and virtual machines
//! that boot other kernels.

pub mod figures;
pub mod guest;
