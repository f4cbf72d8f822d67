//! Whether each fault is noticed in each mode, and how soon.

use anyhow::{Context as _, Result};
use xtask::figures::Figure;

use super::{
    TROUBLED,
    fault::{Fault, Scene},
    moments::{Change, Moment, wait},
    start,
};
use crate::lab::{Mode, interrupt};

/// `health.noticed.MODE.FAULT_ms` of each, and `health.modes_detected`: how many of them were noticed, and forgiven when they were mended.
///
/// # Errors
///
/// A lab cannot be built, or a backend does not return.
pub fn modes(modes: &[Mode], tell: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let (mut figures, mut detected, mut played) = (Vec::new(), 0, 0);
    for &mode in modes {
        let mut site = start(mode)?;
        let mut scene = Scene::prepare(&mut site)?;
        let name = format!("{mode:?}").to_lowercase();
        for fault in Fault::ALL.into_iter().filter(|fault| fault.is_of(mode)) {
            interrupt::check()?;
            played += 1;
            let noticed = play(&mut scene, fault).with_context(|| format!("{} in {name}", fault.name()))?;
            match noticed {
                Some(ms) => {
                    detected += 1;
                    tell(&format!("{name:4} {:16} noticed after {ms:.0} ms", fault.name()));
                    figures.push(Figure::new(
                        &format!("health.noticed.{name}.{}_ms", fault.name()),
                        ms,
                        "ms",
                    ));
                }
                None => tell(&format!("{name:4} {:16} not noticed", fault.name())),
            }
        }
        drop(scene);
        site.succeeded();
    }
    tell(&format!("{detected} of {played} faults were noticed"));
    let figure = Figure::new("health.modes_detected", f64::from(detected), "faults");
    figures.push(figure.aim(&format!(">= {played}"))?);
    Ok(figures)
}

/// Makes a fault and mends it; tells after how many milliseconds it was noticed, if it was.
fn play(scene: &mut Scene<'_>, fault: Fault) -> Result<Option<f64>> {
    scene.begin(fault)?;
    let began = Moment::now()?;
    scene.make(fault)?;
    let noticed = wait(scene.site(), TROUBLED, Change::Removal, began).ok();
    let mended = Moment::now()?;
    scene.mend(fault)?;
    if noticed.is_some() {
        wait(scene.site(), TROUBLED, Change::Return, mended)?;
    }
    scene.end(fault)?;
    Ok(noticed.map(|at| at.since(began)))
}
