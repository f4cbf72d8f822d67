//! Boots Debian's kernel 6.12. Needs QEMU and busybox, and the package lists when the kernel is not in the cache yet;
//! `cargo xtask setup` provides them.

use std::{path::Path, time::Duration};

use xtask::guest::{Guest, Kernel};

fn kernel() -> Kernel {
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/kernels");
    Kernel::debian("6.12", &cache).expect("a kernel of series 6.12")
}

/// One boot for all of it, because a boot takes most of the time.
#[test]
fn a_guest_runs_a_script_on_its_own_kernel_and_hands_back_its_results() {
    let kernel = kernel();
    let script = "uname -r\n\
                  ls -A /sys/fs/bpf && ls /sys/kernel/btf/vmlinux\n\
                  ip -n nowhere link 2>/dev/null; ip link add left type veth peer name right && echo veth works\n\
                  ls /sys/module/ipip > /dev/null && echo ipip works\n\
                  echo to standard error >&2\n\
                  printf 'raw\\r\\n\\001bytes' > /tmp/result\n\
                  exit 42";
    let output = Guest::new(&kernel)
        .binary(Path::new("/usr/sbin/ip"))
        .and_then(|guest| guest.module("veth")?.module("ipip"))
        .expect("a guest")
        .memory(512)
        .time_limit(Duration::from_secs(240))
        .collect("/tmp/result")
        .run(script)
        .expect("a run");
    let expected =
        format!("{}\n/sys/kernel/btf/vmlinux\nveth works\nipip works\nto standard error\n", kernel.release);
    assert_eq!((output.code, output.text.as_str()), (42, expected.as_str()), "console: {}", output.console);
    assert_eq!(output.collected, b"raw\r\n\x01bytes");
}

/// A loop that runs for a fixed number of instructions takes the same time in two boots, within the interrupts that
/// happen to fall into it.
#[test]
fn a_guest_that_counts_instructions_has_the_same_time_in_every_run() {
    let kernel = kernel();
    let script = "cat /sys/devices/system/clocksource/clocksource0/current_clocksource\n\
                  now() { tr . ' ' < /proc/uptime | cut -d' ' -f1,2; }\n\
                  set -- $(now); i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done\n\
                  set -- $1 $2 $(now); echo $((($3 - $1) * 100 + 1$4 - 1$2))";
    let measure = || {
        let output = Guest::new(&kernel).icount(true).time_limit(Duration::from_secs(240)).run(script);
        let output = output.expect("a run");
        let (clock, ticks) = output.text.trim().split_once('\n').expect("two lines");
        assert_eq!((output.code, clock), (0, "tsc"), "{output:?}");
        ticks.parse::<i32>().expect("hundredths of a second")
    };
    let (first, second) = (measure(), measure());
    assert!(first > 10 && (first - second).abs() <= 1 + first / 50, "{first} and {second} hundredths");
}

#[test]
fn a_guest_that_does_not_end_is_killed() {
    let error = Guest::new(&kernel()).time_limit(Duration::from_secs(1)).run("true").unwrap_err();
    assert!(format!("{error:#}").ends_with("the guest was killed after 1 s"), "{error:#}");
}
