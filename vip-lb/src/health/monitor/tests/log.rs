//! What is logged.

use std::io;

use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_logged_once_with_its_reason() {
    // With a single subscriber alive, tracing asks the thread that meets a log line first whether it is of interest,
    // which may be another test's.
    let _second_subscriber = tracing::Dispatch::new(tracing_subscriber::registry());
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_writer(log.clone()).without_time().with_ansi(false).with_target(false);
    let _guard = tracing::subscriber::set_default(subscriber.finish());

    let bad = |reason: &str| Outcome::Unhealthy { reason: reason.to_owned() };
    let none = |reason: &str| Outcome::NotProbed { reason: reason.to_owned() };
    let script = Mutex::new(
        [
            vec![healthy(), healthy()],
            vec![none("too many open files"), none("too many open files"), healthy()],
            vec![bad("status 500"), bad("status 500"), bad("status 503"), bad("status 503")],
            vec![unreachable("connection refused"); 4],
            vec![bad("no answer within 1s"); 4],
            vec![healthy(); 3],
        ]
        .concat()
        .into_iter(),
    );
    let (over, mut is_over) = unbounded_channel();
    let (monitor, _events, _calls) = scripted(move |_| {
        lock(&script).next().unwrap_or_else(|| {
            over.send(()).unwrap();
            healthy()
        })
    });
    monitor.set_targets(vec![target(1, SECOND)]);
    is_over.recv().await.unwrap();

    let log = String::from_utf8(lock(&log.0).clone()).unwrap();
    let lines: Vec<_> = log.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            r#"INFO backend is up backend=192.0.2.1:80 check="tcp""#,
            r#"WARN cannot probe backend, its state stays backend=192.0.2.1:80 reason=too many open files"#,
            r#"WARN backend is down backend=192.0.2.1:80 check="tcp" cause=unhealthy reason="status 503""#,
            r#"WARN backend is down and no longer answers backend=192.0.2.1:80 check="tcp" cause=unreachable reason="connection refused""#,
            r#"WARN backend is still down but answers again backend=192.0.2.1:80 check="tcp" cause=unhealthy reason="no answer within 1s""#,
            r#"INFO backend is up backend=192.0.2.1:80 check="tcp""#,
        ]
    );
}
