//! TLS for probes: what certificates are verified by, and the handshake.

use std::{collections::HashMap, io, path::Path, sync::Arc, time::Duration};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{
    net::TcpStream,
    sync::Mutex,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Limit, io_reason};
use crate::{
    config::model::{TlsCheck, Trust},
    health::Outcome,
};

/// For how long authorities are used before they are read again: a file may be renewed at any time.
const FRESH: Duration = Duration::from_secs(60);

const HTTP1: &[u8] = b"http/1.1";
const HTTP2: &[u8] = b"h2";

/// The authorities that were read, as clients that verify by them.
#[derive(Debug, Default)]
pub(super) struct Authorities {
    clients: Mutex<HashMap<(Trust, bool), Known>>,
}

#[derive(Debug)]
struct Known {
    client: Arc<ClientConfig>,
    read: Instant,
}

impl Authorities {
    /// A client that verifies by `trust`. Files are read by another thread, at most once a minute; whoever asks meanwhile
    /// waits for it.
    pub(super) async fn client(&self, trust: &Trust, http2: bool) -> Result<Arc<ClientConfig>, Outcome> {
        let key = (trust.clone(), http2);
        let mut clients = self.clients.lock().await;
        let now = Instant::now();
        if let Some(known) = clients.get(&key)
            && now - known.read < FRESH
        {
            return Ok(Arc::clone(&known.client));
        }
        let of_trust = key.clone();
        let read = tokio::task::spawn_blocking(move || client(&of_trust.0, of_trust.1));
        let client = read.await.map_err(|error| Outcome::NotProbed { reason: error.to_string() })?;
        let client = client.map_err(|reason| Outcome::NotProbed { reason })?;
        // What is no longer asked for is forgotten by and by.
        clients.retain(|_, known| now - known.read < 10 * FRESH);
        clients.insert(key, Known { client: Arc::clone(&client), read: now });
        Ok(client)
    }
}

/// Proves that the backend holds a certificate that is trusted. The connection stands already, so whatever goes wrong
/// is [`Outcome::Unhealthy`].
pub(super) async fn handshake(
    stream: TcpStream,
    client: Arc<ClientConfig>,
    check: &TlsCheck,
    http2: bool,
    limit: Limit,
) -> Result<TlsStream<TcpStream>, Outcome> {
    let name = ServerName::try_from(check.server_name.clone())
        .map_err(|_| Outcome::NotProbed { reason: format!("{:?} is no server name", check.server_name) })?;
    let connecting = TlsConnector::from(client).connect(name, stream);
    let unhealthy = |reason| Outcome::Unhealthy { reason };
    let connected = timeout_at(limit.deadline, connecting).await;
    let stream = connected
        .map_err(|_| unhealthy(format!("no TLS handshake within {:?}", limit.timeout)))?
        .map_err(|error| unhealthy(reason(&error, &check.server_name)))?;
    if http2 && stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
        return Err(unhealthy("the TLS handshake did not agree on HTTP/2".to_owned()));
    }
    Ok(stream)
}

fn client(trust: &Trust, http2: bool) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anything => Arc::new(Unverified(Arc::clone(&provider))),
        Trust::System => verifier(system()?, Arc::clone(&provider))?,
        Trust::File(path) => verifier(file(path)?, Arc::clone(&provider))?,
    };
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    // A resumed session shows no certificate.
    client.resumption = Resumption::disabled();
    client.alpn_protocols = vec![if http2 { HTTP2 } else { HTTP1 }.to_owned()];
    Ok(Arc::new(client))
}

fn verifier(
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map(|verifier| verifier as Arc<dyn ServerCertVerifier>).map_err(|error| error.to_string())
}

fn system() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Old certificates of a system that nobody can read are not this check's.
    roots.add_parsable_certificates(found.certs);
    match (roots.is_empty(), found.errors.first()) {
        (false, _) => Ok(roots),
        (true, None) => Err("this system trusts no certificate authority".to_owned()),
        (true, Some(error)) => Err(format!("cannot read this system's certificate authorities: {error}")),
    }
}

fn file(path: &Path) -> Result<RootCertStore, String> {
    let cannot = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| cannot(&error))? {
        let certificate = certificate.map_err(|error| cannot(&error))?;
        roots.add(certificate).map_err(|error| cannot(&error))?;
    }
    if roots.is_empty() {
        return Err(cannot(&"no certificate in it"));
    }
    Ok(roots)
}

fn reason(error: &io::Error, name: &str) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => "closed during the TLS handshake".to_owned(),
            _ => io_reason(error),
        };
    };
    let certificate = match tls {
        Error::InvalidCertificate(certificate) => certificate,
        Error::AlertReceived(alert) => return format!("TLS alert {alert:?}"),
        Error::InvalidMessage(_) => return "not a TLS answer".to_owned(),
        other => return format!("TLS: {other}"),
    };
    match certificate {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the certificate is not valid yet".to_owned()
        }
        CertificateError::UnknownIssuer => "the certificate is of an unknown authority".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("the certificate is not for {name}")
        }
        other => format!("the certificate is not valid: {other:?}"),
    }
}

/// Takes any certificate, by the operator's choice; that the server has its key is verified all the same.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
