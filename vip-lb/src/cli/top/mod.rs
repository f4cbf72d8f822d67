//! `vip-lb top`: the status as a view that moves.
//!
//! [`view`] is the pure machine, [`rows`], [`draw`] and [`detail`] what it looks like; this file has the terminal, the clock and the daemon.

mod curve;
mod detail;
mod draw;
mod history;
mod rows;
mod view;

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc as blocking,
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event as Input, KeyEventKind},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use self::{
    draw::draw,
    history::Reading,
    view::{View, Wish},
};
use super::{
    arguments::TopArgs,
    exit::{Exit, UsageError},
    render::Style,
};
use crate::api::{Client, ClientError};

/// How often the thread that waits for keys looks whether it is still wanted.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Shows the view until a key or a signal ends it. The terminal is as before then, also after a panic.
pub(super) async fn top(client: &Client, args: &TopArgs) -> anyhow::Result<Exit> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(UsageError("top needs a terminal; `vip-lb status` does not".to_owned()).into());
    }
    // Before the terminal changes: whoever cannot reach the daemon is told so in plain lines.
    let mut view = View::new(read(client).await?);
    let style = Style::of_stdout();
    let mut terminal = ratatui::try_init().context("cannot take over the terminal")?;
    let result = run(&mut terminal, client, args, &mut view, style).await;
    let restored = ratatui::try_restore().context("cannot give the terminal back as it was");
    result.and(restored).map(|()| Exit::Success)
}

async fn run(
    terminal: &mut DefaultTerminal,
    client: &Client,
    args: &TopArgs,
    view: &mut View,
    style: Style,
) -> anyhow::Result<()> {
    let mut inputs = Inputs::listen();
    let mut ticks = interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, and the first reading is there.
    ticks.tick().await;
    let on = |kind| signal(kind).context("cannot handle signals");
    let mut ends = [on(SignalKind::terminate())?, on(SignalKind::hangup())?, on(SignalKind::interrupt())?];
    loop {
        terminal.draw(|frame| draw(frame, view, style)).context("cannot draw")?;
        let [terminate, hang_up, interrupt] = &mut ends;
        tokio::select! {
            input = inputs.next() => match input {
                Some(Ok(Input::Key(key))) if key.kind != KeyEventKind::Release => {
                    if view.press(key) == Wish::Quit {
                        return Ok(());
                    }
                }
                // A new size is found when it is drawn.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("cannot read keys"),
                None => return Ok(()),
            },
            _ = ticks.tick() => {
                let reading = read(client).await;
                view.read(reading.map_err(|error| error.to_string()));
            }
            _ = terminate.recv() => return Ok(()),
            _ = hang_up.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the terminal's edge is where the clock is read")]
async fn read(client: &Client) -> Result<Reading, ClientError> {
    let (status, counters) = (client.status().await?, client.counters().await?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    Ok(Reading { status, counters, now })
}

/// What comes from the terminal, read by a thread, because the kernel has no other way to wait for both that and the daemon.
struct Inputs {
    received: mpsc::UnboundedReceiver<io::Result<Input>>,
    wanted: Arc<AtomicBool>,
    /// Disconnected when the thread has ended.
    ended: blocking::Receiver<()>,
}

impl Inputs {
    fn listen() -> Self {
        let (sender, received) = mpsc::unbounded_channel();
        let wanted = Arc::new(AtomicBool::new(true));
        let still_wanted = wanted.clone();
        let (ends, ended) = blocking::channel();
        thread::spawn(move || {
            let _ends: blocking::Sender<()> = ends;
            while still_wanted.load(Ordering::Relaxed) {
                let input = match event::poll(LOOK_UP) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                let failed = input.is_err();
                if sender.send(input).is_err() || failed {
                    return;
                }
            }
        });
        Self { received, wanted, ended }
    }

    async fn next(&mut self) -> Option<io::Result<Input>> {
        self.received.recv().await
    }
}

impl Drop for Inputs {
    /// The thread must not read what is typed for the shell. Where the terminal is gone, it never returns from reading
    /// the end of it, and is not waited for.
    fn drop(&mut self) {
        self.wanted.store(false, Ordering::Relaxed);
        let _ = self.ended.recv_timeout(3 * LOOK_UP);
    }
}

#[cfg(test)]
mod tests;
