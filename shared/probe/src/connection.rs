//! One connection of a probe: TCP to an address that was judged, and TLS over it for HTTPS.
//!
//! Nothing here looks up a name: the caller hands in addresses, and no others can be reached.
//!
//! Not here: a pool, and TLS session resumption (a resumed session would not look at the certificate again).

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, CipherSuite, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use url::Host;

use super::certificates::{CachingVerifier, certificate_end};
use crate::tls;
use domain::target_url::TargetUrl;

/// What HTTP is spoken over: TCP, or TLS over it.
pub(super) type Transport = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection, and when the server's certificate ends (none without TLS).
pub(super) struct Connection {
    pub(super) transport: Transport,
    pub(super) certificate_end: Option<Timestamp>,
}

/// Why there is no connection.
pub(super) enum ConnectError {
    /// TCP broke off.
    Tcp,
    /// No certificate that can be trusted, or no TLS; and when the certificate ended, if that is the reason.
    Tls(Option<Timestamp>),
}

/// Opens connections. Make one and share it: it holds the certificate authorities.
pub(super) struct Connector {
    tls: TlsConnector,
}

impl Connector {
    /// `extra_authorities` (DER) are trusted beside the platform's.
    pub(super) fn new(extra_authorities: &[Vec<u8>]) -> Result<Self, tls::SetupError> {
        Ok(Self { tls: Arc::new(tls_config(extra_authorities)?).into() })
    }

    /// What HTTP is spoken over with `target`, once TCP stands.
    pub(super) async fn secure(
        &self,
        target: &TargetUrl,
        tcp: TcpStream,
    ) -> Result<Connection, ConnectError> {
        if !target.is_https() {
            return Ok(Connection { transport: Either::Left(tcp), certificate_end: None });
        }
        let name = server_name(target).ok_or(ConnectError::Tls(None))?;
        // The request must not wait until the server has acknowledged the end of the handshake.
        tcp.set_nodelay(true).map_err(|_| ConnectError::Tcp)?;
        let stream = self.tls.connect(name, tcp).await.map_err(|error| not_shaken(&error))?;
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate_end = certificates.and_then(|chain| certificate_end(chain.first()?));
        Ok(Connection { transport: Either::Right(Box::new(stream)), certificate_end })
    }
}

fn server_name(target: &TargetUrl) -> Option<ServerName<'static>> {
    match target.url().host()? {
        Host::Domain(name) => ServerName::try_from(name.to_owned()).ok(),
        Host::Ipv4(ip) => Some(IpAddr::from(ip).into()),
        Host::Ipv6(ip) => Some(IpAddr::from(ip).into()),
    }
}

fn tls_config(extra_authorities: &[Vec<u8>]) -> Result<ClientConfig, tls::SetupError> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // First the one that every server knows, in a hello that fits one packet: a probe has no secrets for an attacker with
    // a quantum computer to come, and pays for the key exchange that would keep them.
    provider.kx_groups = vec![X25519, SECP256R1, SECP384R1, X25519MLKEM768];
    // First, as browsers have it. It brings SHA-256, for which processors have instructions; with the SHA-384 of AES-256
    // the key schedule of TLS 1.3 is a multiple of the work.
    provider.cipher_suites.sort_by_key(|offered| offered.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let provider = Arc::new(provider);
    let verifier = CachingVerifier::new(tls::authorities(extra_authorities)?, &provider)?;
    let mut config = tls::client(&provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Why a handshake failed. Once TCP stands, only the handshake can end with the connection being broken off.
fn not_shaken(error: &io::Error) -> ConnectError {
    if let Some(tls) = tls_error(error) {
        return ConnectError::Tls(expired_at(tls));
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            ConnectError::Tls(None)
        }
        _ => ConnectError::Tcp,
    }
}

/// What TLS has to say in a chain of errors. From the types of errors, never from their texts.
pub(super) fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(tls) = current.downcast_ref() {
            return Some(tls);
        }
        // An io::Error's source() leaves out what it wraps.
        let wrapped = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map(|inner| inner as _).or_else(|| current.source());
    }
    None
}

/// When the certificate ended, if that is what is wrong.
fn expired_at(error: &rustls::Error) -> Option<Timestamp> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            Timestamp::from_second(i64::try_from(not_after.as_secs()).ok()?).ok()
        }
        _ => None,
    }
}
