//! Whose certificates a probe accepts, and until when.
//!
//! Whether a chain of certificates is good for a name depends on nothing but the chain, the name, the authorities and the
//! time; and on the time only through the periods for which the certificates were issued. So a chain that was found good
//! stays good until the first of its certificates ends, and need not be verified again at every tick: most servers send two
//! certificates or three, and a handshake has one signature less to verify for each. That the server holds the certificate's
//! private key is proven anew in every handshake.
//!
//! Not here: refusals. They are not remembered; a name that gets a better certificate is seen at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509CertificateParser;
use x509_parser::nom::Parser;

/// How many chains are remembered, at about 60 bytes each. When there are more, all are forgotten.
const CHAINS: usize = 50_000;

/// Verifies chains as rustls does, and remembers those that it found good.
#[derive(Debug)]
pub(super) struct CachingVerifier {
    verifier: Arc<WebPkiServerVerifier>,
    good: Mutex<HashMap<[u8; 32], Period>>,
}

/// From when a chain was verified until the first of its certificates ends, both included.
#[derive(Debug, Clone, Copy)]
struct Period {
    from: UnixTime,
    until: UnixTime,
}

impl Period {
    fn contains(self, now: UnixTime) -> bool {
        self.from <= now && now <= self.until
    }
}

impl CachingVerifier {
    pub(super) fn new(
        authorities: Arc<RootCertStore>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let verifier = WebPkiServerVerifier::builder_with_provider(authorities, Arc::clone(provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { verifier, good: Mutex::default() })
    }

    fn is_known(&self, chain: &[u8; 32], now: UnixTime) -> bool {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.get(chain).is_some_and(|period| period.contains(now))
    }

    fn remember(&self, chain: [u8; 32], period: Period) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        if good.len() >= CHAINS {
            good.clear();
        }
        good.insert(chain, period);
    }
}

impl ServerCertVerifier for CachingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = fingerprint(end_entity, intermediates, server_name);
        if self.is_known(&chain, now) {
            return Ok(ServerCertVerified::assertion());
        }
        let verified =
            self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        if let Some(until) = end_of_all(end_entity, intermediates) {
            self.remember(chain, Period { from: now, until });
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// One value for each name and chain; every part is preceded by its length, so that no two give the same bytes.
fn fingerprint(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    name: &ServerName<'_>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    let name = name.to_str();
    let certificates = std::iter::once(end_entity).chain(intermediates).map(AsRef::as_ref);
    for part in std::iter::once(name.as_bytes()).chain(certificates) {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// When the first of these certificates ends; nothing if one of them does not say so in a way that is understood.
fn end_of_all(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Option<UnixTime> {
    let ends: Option<Vec<Timestamp>> =
        std::iter::once(end_entity).chain(intermediates).map(|der| certificate_end(der)).collect();
    let first = ends?.into_iter().min()?;
    Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(first.as_second().try_into().ok()?)))
}

/// The end of validity of a DER certificate.
pub(super) fn certificate_end(der: &[u8]) -> Option<Timestamp> {
    let (_, certificate) = X509CertificateParser::new().with_deep_parse_extensions(false).parse(der).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
    use rustls::CertificateError;

    use super::*;

    /// A chain of a leaf for a.example (2020 to 2040) and an intermediate (to the start of `intermediate_ends`).
    fn chain(intermediate_ends: i32) -> (CachingVerifier, CertificateDer<'static>, CertificateDer<'static>) {
        let params = |name: &str, until| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
            params
        };
        let root = CertifiedIssuer::self_signed(params("root", 2050), KeyPair::generate().unwrap()).unwrap();
        let middle = params("middle", intermediate_ends);
        let middle = CertifiedIssuer::signed_by(middle, KeyPair::generate().unwrap(), &root).unwrap();
        let mut leaf = CertificateParams::new(vec!["a.example".to_owned(), "b.example".to_owned()]).unwrap();
        (leaf.not_before, leaf.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &middle).unwrap();
        let mut authorities = RootCertStore::empty();
        authorities.add(root.as_ref().der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = CachingVerifier::new(Arc::new(authorities), &provider).unwrap();
        (verifier, leaf.der().clone(), middle.as_ref().der().clone())
    }

    fn at(year: i16, month: i8) -> UnixTime {
        let second = jiff::civil::date(year, month, 1)
            .to_zoned(jiff::tz::TimeZone::UTC)
            .unwrap()
            .timestamp()
            .as_second();
        UnixTime::since_unix_epoch(Duration::from_secs(second.try_into().unwrap()))
    }

    fn known(verifier: &CachingVerifier) -> usize {
        verifier.good.lock().unwrap().len()
    }

    #[test]
    fn a_good_chain_is_remembered_for_its_name_alone() {
        let (verifier, leaf, middle) = chain(2039);
        let ask = |name: &'static str, intermediates: &[CertificateDer<'static>]| {
            let name = ServerName::try_from(name).unwrap();
            verifier.verify_server_cert(&leaf, intermediates, &name, &[], at(2026, 1))
        };
        let whole = [middle];
        assert!(ask("c.example", &whole).is_err() && ask("a.example", &[]).is_err());
        assert_eq!(known(&verifier), 0, "refusals are not remembered");
        ask("a.example", &whole).unwrap();
        let name = ServerName::try_from("a.example").unwrap();
        assert!(verifier.is_known(&fingerprint(&leaf, &whole, &name), at(2026, 1)));
        ask("a.example", &whole).unwrap();
        assert_eq!(known(&verifier), 1);
        // Neither what was refused is good now, nor is another name taken for this one.
        assert!(ask("c.example", &whole).is_err() && ask("a.example", &[]).is_err());
        ask("b.example", &whole).unwrap();
        assert_eq!(known(&verifier), 2);
    }

    #[test]
    fn what_is_remembered_ends_with_the_first_certificate_and_does_not_reach_back() {
        let (verifier, leaf, middle) = chain(2030);
        let name = ServerName::try_from("a.example").unwrap();
        let ask = |now| verifier.verify_server_cert(&leaf, std::slice::from_ref(&middle), &name, &[], now);
        ask(at(2026, 1)).unwrap();
        ask(at(2029, 12)).unwrap();
        for (now, what) in [(at(2030, 2), "the intermediate has ended"), (at(2019, 1), "not valid yet")] {
            let error = ask(now).unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::InvalidCertificate(
                        CertificateError::ExpiredContext { .. } | CertificateError::NotValidYetContext { .. }
                    )
                ),
                "{what}: {error:?}"
            );
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (verifier, ..) = chain(2039);
        let period = Period { from: at(2026, 1), until: at(2027, 1) };
        for number in 0..=CHAINS {
            let mut chain = [0; 32];
            chain[..8].copy_from_slice(&number.to_be_bytes());
            verifier.remember(chain, period);
            assert!(known(&verifier) <= CHAINS);
        }
        assert_eq!(known(&verifier), 1);
    }
}
