//! Two network namespaces joined by a veth pair, for one test.

use std::{
    fs::File,
    os::fd::AsRawFd,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use vip_lb::network::{Monitor, NetworkEvent};

/// The name of the veth pair's end in either namespace.
pub(crate) const DEVICE: &str = "v0";
/// The hardware addresses of the two ends.
pub(crate) const NEAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// See [`NEAR_MAC`].
pub(crate) const FAR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// How long anything awaited may take before the test fails. Only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The two namespaces. `near`, where tests run, holds 192.0.2.1/24 and 2001:db8::1/64, `far` the .2 and ::2.
pub(crate) struct Lab {
    near: Namespace,
    far: Namespace,
}

struct Namespace(String);

impl Drop for Namespace {
    fn drop(&mut self) {
        // A panic in here, while another one unwinds, would abort and leave the other namespace behind.
        let removed = Command::new("ip").args(["netns", "del", &self.0]).status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!("cannot remove network namespace {}", self.0);
        }
    }
}

impl Lab {
    pub(crate) fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let create = |role: &str| {
            let name = format!("viplb-net-{}-{number}-{role}", process::id());
            run("ip", &["netns", "add", &name]);
            Namespace(name)
        };
        let lab = Self { near: create("near"), far: create("far") };
        let Self { near: Namespace(near), far: Namespace(far) } = &lab;
        run_words(&format!(
            "ip link add name {DEVICE} netns {near} address 02:00:00:00:00:01 type veth \
             peer name {DEVICE} netns {far} address 02:00:00:00:00:02"
        ));
        for (end, host) in [(near, 1), (far, 2)] {
            for command in [
                "link set lo up".to_owned(),
                format!("address add 192.0.2.{host}/24 dev {DEVICE}"),
                format!("address add 2001:db8::{host}/64 dev {DEVICE} nodad"),
                format!("link set {DEVICE} up"),
            ] {
                run_words(&format!("ip -n {end} {command}"));
            }
        }
        lab
    }

    /// Runs `ip` in the near namespace and returns what it prints.
    pub(crate) fn near(&self, command: &str) -> String {
        run_words(&format!("ip -n {} {command}", self.near.0))
    }

    /// Runs `ip` in the far namespace.
    pub(crate) fn far(&self, command: &str) -> String {
        run_words(&format!("ip -n {} {command}", self.far.0))
    }

    /// Runs any program in the near namespace.
    pub(crate) fn near_exec(&self, command: &str) -> String {
        run_words(&format!("ip netns exec {} {command}", self.near.0))
    }

    /// Runs any program in the far namespace.
    pub(crate) fn far_exec(&self, command: &str) -> String {
        run_words(&format!("ip netns exec {} {command}", self.far.0))
    }

    /// Sets a sysctl of the far namespace.
    pub(crate) fn far_sysctl(&self, setting: &str) {
        run_words(&format!("ip netns exec {} sysctl -q -w {setting}", self.far.0));
    }

    /// The index of the near end.
    pub(crate) fn ifindex(&self) -> u32 {
        let line = self.near(&format!("-o link show dev {DEVICE}"));
        line.split(':').next().unwrap().parse().unwrap()
    }

    /// Runs a test in the near namespace: on a thread of its own, with a runtime that stays on it.
    pub(crate) fn run<F: AsyncFnOnce() + Send>(&self, test: F) {
        self.run_blocking(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::time::timeout(PATIENCE, test()).await.expect("what the test awaits never came");
            });
        });
    }

    /// Like [`Self::run`], without a runtime.
    pub(crate) fn run_blocking<F: FnOnce() + Send>(&self, test: F) {
        let namespace = File::open(format!("/run/netns/{}", self.near.0)).unwrap();
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                // SAFETY: the descriptor is open; only this thread changes its namespace.
                let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
                assert_eq!(entered, 0, "setns needs root: {}", std::io::Error::last_os_error());
                test();
            });
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

/// Waits for the event that the test is about and returns it.
pub(crate) async fn await_event(
    monitor: &mut Monitor,
    mut is_it: impl FnMut(&NetworkEvent) -> bool,
) -> NetworkEvent {
    loop {
        let event = monitor.next().await.unwrap();
        if is_it(&event) {
            return event;
        }
    }
}

fn run_words(command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    run(words[0], &words[1..])
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Lets only a future through that a task of a multi-threaded runtime may run.
pub(crate) fn spawnable<F: Future + Send>(future: F) -> F {
    future
}
