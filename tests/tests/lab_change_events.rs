//! Everything that may happen to a daemon, under traffic: nothing is lost, and nothing breaks but what was planned to.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use vip_lb_tests::{
    change::{Event, NO_PREVIOUS, SoakOptions, Stage, previous_binary, soak},
    lab::Mode,
};

/// Two labs with this much traffic at a time would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

macro_rules! events {
    ($($name:ident: $event:ident),+ $(,)?) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                loses_nothing(Event::$event)
            }
        )+

        #[test]
        fn all_events_are_played() {
            let played = [$(Event::$event),+];
            for event in Event::ALL {
                assert!(played.contains(&event), "{event:?} has no test");
            }
        }
    };
}

events! {
    a_reload_that_adds: ReloadAdd,
    a_reload_that_removes: ReloadRemove,
    a_reload_that_re_weights: ReloadReweight,
    a_reload_that_cuts_what_its_plan_says: ReloadDisable,
    a_hundred_reloads: Reloads100,
    invalid_reloads: ReloadInvalid,
    a_killed_daemon: Killed,
    a_restart: Restart,
    a_hand_over: HandOver,
    a_hand_over_that_fails: HandOverFailed,
    an_upgrade: Upgrade,
    a_downgrade: Downgrade,
    a_layout_mismatch: LayoutMismatch,
    a_full_pin_table: FullPinTable,
    a_full_disk: DiskFull,
    a_read_only_disk: DiskReadOnly,
    garbage_on_the_socket: SocketGarbage,
}

fn loses_nothing(event: Event) -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let previous = previous_binary();
    if previous.is_none() && event.needs_previous() {
        return without_previous();
    }
    let mut stage = Stage::start(Mode::L2, previous)?;
    let outcome = stage.play(event)?;
    print!("{}", outcome.describe());
    ensure!(outcome.is_as_planned(), "{}", outcome.describe());
    ensure!(outcome.broken_connections > 0 || !event.cuts(), "nothing was cut");
    stage.succeeded();
    Ok(())
}

/// `cargo xtask test` says why there is none, where there cannot be one.
fn without_previous() -> Result<()> {
    match std::env::var("VIP_LB_NO_PREVIOUS") {
        Ok(reason) => {
            println!("skipped: {reason}");
            Ok(())
        }
        Err(_) => bail!(NO_PREVIOUS),
    }
}

#[test]
fn tunnelled_and_translated_connections_live_through_a_hand_over() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for mode in [Mode::Ipip, Mode::Nat] {
        let mut stage = Stage::start(mode, None)?;
        let outcome = stage.play(Event::HandOver)?;
        ensure!(outcome.is_as_planned(), "{mode:?}: {}", outcome.describe());
        stage.succeeded();
    }
    Ok(())
}

#[test]
fn events_at_random_violate_nothing() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>()).transpose();
    let options = SoakOptions {
        time: Duration::from_secs(number("VIP_LB_TEST_SOAK_SECONDS")?.unwrap_or(30)),
        seed: number("VIP_LB_TEST_SEED")?.unwrap_or_else(|| u64::from(std::process::id())),
        previous: previous_binary(),
    };
    println!("VIP_LB_TEST_SEED={}", options.seed);
    let soak = soak(&options, |line| print!("{line}"))?;
    ensure!(soak.violations.is_empty(), "with seed {}: {:#?}", options.seed, soak.violations);
    ensure!(soak.events > 0, "no event was played");
    Ok(())
}

#[test]
fn the_count_sees_what_is_lost_and_what_breaks() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stage = Stage::start(Mode::L2, None)?;
    let outcome = stage.play(Event::Sabotage)?;
    print!("{}", outcome.describe());
    ensure!(outcome.lost_packets > 0, "a cable was pulled, and no packet is lost");
    ensure!(!outcome.is_as_planned(), "nobody planned it");
    stage.succeeded();
    Ok(())
}
