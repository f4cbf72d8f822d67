//! TLS: whose certificates are good, and which name is asked for.

use std::{io::Write as _, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::model::{TlsCheck, Trust};

/// An authority with its certificate in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = std::env::temp_dir().join(format!("vip-lb-test-{}-{name}.pem", std::process::id()));
        std::fs::File::create(&file).unwrap().write_all(issuer.pem().as_bytes()).unwrap();
        Self { issuer, file }
    }

    fn trust(&self) -> Trust {
        Trust::File(self.file.clone())
    }

    /// A server with a certificate for `name` that has expired at the begin of `until`.
    fn server(&self, name: &str, until: i32, alpn: &[&str]) -> TlsAcceptor {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_owned()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Serves one connection. Returns the name that was asked for, if the handshake succeeds.
async fn serve(acceptor: TlsAcceptor) -> (SocketAddr, oneshot::Receiver<Option<String>>) {
    let (listener, address) = listener().await;
    let (told, name) = oneshot::channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = acceptor.accept(stream).await else { return };
        told.send(stream.get_ref().1.server_name().map(str::to_owned)).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|length| length > 0)
        {
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        let _closed = stream.shutdown().await;
    });
    (address, name)
}

fn https(trust: Trust, server_name: &str) -> HttpCheck {
    let tls = TlsCheck { trust, server_name: server_name.to_owned() };
    HttpCheck { tls: Some(tls), ..HttpCheck::get("/", "a") }
}

#[tokio::test]
async fn a_certificate_must_be_trusted_valid_and_for_the_name() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let system = "the certificate is of an unknown authority";
    for (name, trust, asked, until, reason) in [
        ("www.example.net", ours.trust(), "www.example.net", 2100, None),
        ("10.1.2.3", ours.trust(), "10.1.2.3", 2100, None),
        ("www.example.net", ours.trust(), "b.example", 2100, Some("the certificate is not for b.example")),
        ("www.example.net", ours.trust(), "www.example.net", 2020, Some("the certificate has expired")),
        ("www.example.net", other.trust(), "www.example.net", 2100, Some(system)),
        ("www.example.net", Trust::Anything, "b.example", 2020, None),
    ] {
        let (address, sni) = serve(ours.server(name, until, &[])).await;
        let outcome = probed(&target(address, CheckKind::Http(https(trust, asked)), LONG)).await;
        match reason {
            None => {
                assert_healthy(&outcome, asked);
                let expected = (!asked.starts_with("10.")).then(|| asked.to_owned());
                assert_eq!(sni.await.unwrap(), expected, "an address is no SNI");
            }
            Some(reason) => assert_eq!(outcome, unhealthy(reason)),
        }
    }
}

#[tokio::test]
async fn http2_needs_an_agreement() {
    let ours = Authority::new("alpn");
    let check = HttpCheck { http2: true, ..https(ours.trust(), "a.example") };
    let (address, _name) = serve(ours.server("a.example", 2100, &[])).await;
    let outcome = probed(&target(address, CheckKind::Http(check.clone()), LONG)).await;
    assert_eq!(outcome, unhealthy("the TLS handshake did not agree on HTTP/2"));

    let (address, _name) = serve(ours.server("a.example", 2100, &["http/1.1"])).await;
    let outcome = probed(&target(address, CheckKind::Http(check), LONG)).await;
    assert_eq!(outcome, unhealthy("TLS alert NoApplicationProtocol"));
}

#[tokio::test]
async fn a_server_without_tls_is_unhealthy() {
    let check = CheckKind::Http(https(Trust::Anything, "a.example"));
    let (plain, address) = listener().await;
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _closed = stream.read_to_end(&mut Vec::new()).await;
    });
    let outcome = probed(&target(address, check.clone(), LONG)).await;
    assert_eq!(outcome, unhealthy("not a TLS answer"));
    let (_listener, address) = listener().await;
    let outcome = probed(&target(address, check, SHORT)).await;
    assert_eq!(outcome, unhealthy("no TLS handshake within 200ms"));
}

#[tokio::test]
async fn authorities_that_cannot_be_read_count_neither_way() {
    let (_listener, address) = listener().await;
    let trust = Trust::File("/nonexistent/ca.pem".into());
    let outcome = probed(&target(address, CheckKind::Http(https(trust, "a.example")), LONG)).await;
    assert!(
        matches!(&outcome, Outcome::NotProbed { reason } if reason.starts_with("cannot read /nonexistent/ca.pem")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_renewed_file_is_read_within_a_minute() {
    let (ours, other) = (Authority::new("renewed"), Authority::new("renewing"));
    let probes = Probes::default();
    let check = CheckKind::Http(https(ours.trust(), "a.example"));
    let probe = async |acceptor| {
        let (address, _name) = serve(acceptor).await;
        probes.probe(&target(address, check.clone(), LONG), &Dial::direct(address)).await
    };
    assert_healthy(&probe(ours.server("a.example", 2100, &[])).await, "the first");
    std::fs::copy(&other.file, &ours.file).unwrap();
    let unknown = unhealthy("the certificate is of an unknown authority");
    assert_eq!(probe(other.server("a.example", 2100, &[])).await, unknown, "not read again yet");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    assert_healthy(&probe(other.server("a.example", 2100, &[])).await, "the second");
}
