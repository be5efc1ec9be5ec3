//! TLS for both HTTP clients, that of probes and that of callbacks.
//!
//! Not here: the AWS SDK's connections, which it sets up by itself.

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

/// The platform's certificate authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` change them, as with most tools). Reading them
/// is most of what a function does when it starts, so it is done once.
static AUTHORITIES: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Arc::new(authorities)
});

/// Why an HTTP client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The platform has no certificate authority.
    #[error("no certificate authorities")]
    NoAuthorities,
    /// The TLS library, or a given authority.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The HTTP client itself.
    #[error("the HTTP client cannot be set up")]
    Client(#[from] reqwest::Error),
}

/// The platform's certificate authorities, and the given ones (DER) beside them. Never none.
pub fn authorities(more: &[Vec<u8>]) -> Result<Arc<RootCertStore>, SetupError> {
    let mut authorities = Arc::clone(&AUTHORITIES);
    for der in more {
        Arc::make_mut(&mut authorities).add(der.clone().into())?;
    }
    if authorities.is_empty() { Err(SetupError::NoAuthorities) } else { Ok(authorities) }
}

/// A client of TLS 1.2 and 1.3 with this cryptography; what it trusts is still to be said.
pub fn client(
    provider: &Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, SetupError> {
    Ok(ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()?)
}
