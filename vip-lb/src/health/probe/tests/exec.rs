//! Commands.

use super::*;

fn shell(script: &str) -> CheckKind {
    CheckKind::Exec(["/bin/sh", "-c", script].map(str::to_owned).to_vec())
}

async fn run(script: &str, timeout: Duration) -> Outcome {
    probed(&target("192.0.2.1:8080".parse().unwrap(), shell(script), timeout)).await
}

#[tokio::test]
async fn the_status_of_a_command_is_the_verdict() {
    assert_healthy(&run("exit 0", LONG).await, "status 0");
    for (script, reason) in [
        ("exit 3", "exit status 3"),
        ("echo; echo 'disk  full '; echo more; exit 1", "exit status 1: disk  full"),
        ("kill -9 $$", "killed by signal 9"),
        ("exec >&-; exit 4", "exit status 4"),
    ] {
        assert_eq!(run(script, LONG).await, unhealthy(reason), "{script}");
    }
}

#[tokio::test]
async fn a_command_gets_its_own_environment_only() {
    let names = "VIP_LB_ADDRESS VIP_LB_PORT VIP_LB_TIMEOUT_MS";
    let script = "echo $(env | sed 's/=.*//' | grep -v -e PWD -e SHLVL -e '^_$' | sort) $VIP_LB_ADDRESS \
                  $VIP_LB_PORT $VIP_LB_TIMEOUT_MS; exit 1";
    let expected = format!("exit status 1: LANG PATH {names} 192.0.2.1 8080 60000");
    assert_eq!(run(script, LONG).await, unhealthy(&expected));
}

#[tokio::test]
async fn a_late_command_is_killed_with_all_it_started() {
    let (writer, mut reader) = tokio::net::unix::pipe::pipe().unwrap();
    // The child holds the pipe open for as long as it lives.
    let fd = std::os::fd::AsRawFd::as_raw_fd(&writer);
    let script = format!("exec 3>/proc/{}/fd/{fd}; sleep 600 & sleep 600", std::process::id());
    let outcome = run(&script, SHORT).await;
    assert_eq!(outcome, unhealthy("/bin/sh did not end within 200ms"));
    drop(writer);
    let end = tokio::time::timeout(LONG, reader.read(&mut [0])).await;
    assert_eq!(end.expect("a process lives on").unwrap(), 0);
}

#[tokio::test]
async fn what_a_command_leaves_behind_does_not_delay_its_verdict() {
    assert_healthy(&run("sleep 600 & exit 0", LONG).await, "a child that holds the output");
}

#[tokio::test]
async fn much_output_does_not_block_a_command() {
    assert_healthy(&run("head -c 1000000 /dev/zero", LONG).await, "a megabyte");
}

#[tokio::test]
async fn a_command_that_is_not_there_counts_neither_way() {
    let kind = CheckKind::Exec(vec!["/nonexistent/check".to_owned()]);
    let outcome = probed(&target("192.0.2.1:80".parse().unwrap(), kind, LONG)).await;
    let reason = "cannot run /nonexistent/check: no such file or directory".to_owned();
    assert_eq!(outcome, Outcome::NotProbed { reason });
}
