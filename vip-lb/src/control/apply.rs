//! Carries out what was planned.

use super::engine::Engine;
use crate::dataplane::{Dataplane, Publication, Write};

/// Rings that are published at a time: enough to share the kernel's wait, few enough to hold the replaced ones in memory.
const TOGETHER: usize = 64;

/// Carries out writes in their order, and tells the engine what packets wrote into the rings that were replaced. Goes on after an
/// error, and returns them all.
pub fn apply(writes: Vec<Write>, dataplane: &mut Dataplane, engine: &mut Engine) -> Vec<anyhow::Error> {
    let mut errors = Vec::new();
    let mut rings = Vec::new();
    for write in writes {
        match write {
            Write::Ring(ring) => {
                rings.push(ring);
                if rings.len() == TOGETHER {
                    publish(&mut rings, dataplane, engine, &mut errors);
                }
            }
            write => {
                publish(&mut rings, dataplane, engine, &mut errors);
                let result = dataplane.write(&write).and_then(|()| clear_stats(&write, dataplane));
                errors.extend(result.err());
            }
        }
    }
    publish(&mut rings, dataplane, engine, &mut errors);
    errors
}

fn publish(
    rings: &mut Vec<Publication>,
    dataplane: &mut Dataplane,
    engine: &mut Engine,
    errors: &mut Vec<anyhow::Error>,
) {
    if rings.is_empty() {
        return;
    }
    let results = dataplane.publish(rings);
    // The engine shares the slots, and changes them when it hears of the replaced ones.
    let services: Vec<u16> = rings.drain(..).map(|ring| ring.service).collect();
    for (service, result) in services.into_iter().zip(results) {
        match result {
            Ok(Some(replaced)) => engine.replaced(service, &replaced),
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
}

/// Whoever gets a freed number begins to count at zero.
fn clear_stats(write: &Write, dataplane: &mut Dataplane) -> anyhow::Result<()> {
    match write {
        Write::Backend { index, backend } if backend.identity == 0 => dataplane.clear_backend_stats(*index),
        Write::RemoveRing { service, .. } => dataplane.clear_service_stats(*service),
        _ => Ok(()),
    }
}
