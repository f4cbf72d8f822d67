//! Dialogues over TCP.

use super::*;

/// What a probe makes of a server that greets, reads a line and answers with it reversed.
async fn talk(send: &str, expect: Option<&str>) -> (Outcome, Vec<u8>) {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 ready\r\n").await.unwrap();
        let mut line = Vec::new();
        while !line.ends_with(b"\n")
            && let Ok(byte) = stream.read_u8().await
        {
            line.push(byte);
        }
        let mut answer = line.clone();
        answer.reverse();
        // The probe may have read enough.
        let _ = stream.write_all(&answer).await;
        line
    });
    let expect = expect.map(|text| text.as_bytes().to_owned());
    let kind = CheckKind::Tcp(Dialogue { send: send.as_bytes().to_owned(), expect });
    let outcome = probed(&target(address, kind, LONG)).await;
    (outcome, server.await.unwrap())
}

#[tokio::test]
async fn what_is_expected_must_come() {
    for (name, send, expect, reason) in [
        ("a greeting", "", Some("220"), None),
        ("an answer behind the greeting", "PING\n", Some("GNIP"), None),
        ("nothing expected", "PING\n", None, None),
        (
            "another answer",
            "PING\n",
            Some("PONG"),
            Some("answered \"220 ready\\r\\n\\nGNIP\", expected \"PONG\""),
        ),
    ] {
        let (outcome, received) = talk(send, expect).await;
        match reason {
            None => assert_healthy(&outcome, name),
            Some(reason) => assert_eq!(outcome, unhealthy(reason), "{name}"),
        }
        assert_eq!(received, send.as_bytes(), "{name}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_unhealthy() {
    let (listener, address) = listener().await;
    let dialogue = Dialogue { send: b"PING\n".to_vec(), expect: Some(b"PONG".to_vec()) };
    let outcome = probed(&target(address, CheckKind::Tcp(dialogue), SHORT)).await;
    assert_eq!(outcome, unhealthy("no answer within 200ms"));
    drop(listener);
}
