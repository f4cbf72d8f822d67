//! Where the BPF objects come from.

use std::{borrow::Cow, fs, path::Path};

use anyhow::{Context as _, Result};
use vip_lb::dataplane::object;

/// The objects that a run loads.
#[derive(Clone, Debug)]
pub struct Objects {
    /// The load balancer.
    pub balancer: Cow<'static, [u8]>,
    /// Wrapper, null program and floors.
    pub bench: Cow<'static, [u8]>,
}

impl Objects {
    /// Those that were built with this program.
    pub fn built_in() -> Self {
        Self { balancer: object::BYTES.into(), bench: object::BENCH_BYTES.into() }
    }

    /// From a folder that holds both, `vip-lb` and `vip-lb-bench`: to compare one build with another.
    ///
    /// # Errors
    ///
    /// When one cannot be read.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).with_context(|| format!("read BPF object {}", path.display()))
        };
        Ok(Self { balancer: read("vip-lb")?.into(), bench: read("vip-lb-bench")?.into() })
    }
}
