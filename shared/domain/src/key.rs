//! Ed25519 keys: the public half, the wrapped private half, and the private half in memory.
//!
//! Two layers: the deployment key never leaves KMS and endorses tenants; a tenant key signs that tenant's updates.
//! Not here: any way to print, copy or serialise a private key (invariant 4).

use std::fmt;
use std::future::Future;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::id::{CloudId, Kid, TenantId};

/// An Ed25519 public key, not of small order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// The bytes are no usable Ed25519 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a usable Ed25519 public key")]
pub struct KeyFormatError;

/// The `SubjectPublicKeyInfo` prefix of an Ed25519 key (RFC 8410), before its 32 bytes.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A public JSON Web Key (RFC 8037).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// Always `OKP`.
    pub kty: String,
    /// Always `Ed25519`.
    pub crv: String,
    /// The 32 bytes, base64url.
    pub x: String,
    /// The thumbprint; recomputed on reading, never trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// `EdDSA` when present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    /// `sig` when present.
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
}

/// A set of public keys (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    /// The keys.
    pub keys: Vec<Jwk>,
}

impl PublicKey {
    /// From the 32 bytes of RFC 8032. A key of small order is refused: it accepts signatures that nobody made. So is one
    /// whose coordinate is not reduced: it would be the same key under a second `kid`.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyFormatError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyFormatError)?;
        if key.is_weak() || !is_reduced(bytes) { Err(KeyFormatError) } else { Ok(Self(key)) }
    }

    /// From the DER `SubjectPublicKeyInfo` that KMS returns, 44 bytes.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyFormatError> {
        let bytes = der.strip_prefix(&SPKI_PREFIX).ok_or(KeyFormatError)?;
        Self::from_bytes(bytes.try_into().map_err(|_| KeyFormatError)?)
    }

    /// From a JSON Web Key. Its `kid` is ignored.
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, KeyFormatError> {
        let bytes = BASE64URL_NOPAD.decode(jwk.x.as_bytes()).map_err(|_| KeyFormatError)?;
        let kind_fits = jwk.kty == "OKP" && jwk.crv == "Ed25519";
        let use_fits = jwk.alg.as_deref().is_none_or(|alg| alg == "EdDSA" || alg == "Ed25519")
            && jwk.usage.as_deref().is_none_or(|usage| usage == "sig");
        if !kind_fits || !use_fits {
            return Err(KeyFormatError);
        }
        Self::from_bytes(&bytes.try_into().map_err(|_| KeyFormatError)?)
    }

    /// The 32 bytes of RFC 8032.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The RFC 7638 thumbprint.
    #[must_use]
    pub fn kid(&self) -> Kid {
        Kid::of_ed25519(self.as_bytes())
    }

    /// As a JSON Web Key with its thumbprint.
    #[must_use]
    pub fn jwk(&self) -> Jwk {
        Jwk {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: BASE64URL_NOPAD.encode(self.as_bytes()),
            kid: Some(self.kid().to_string()),
            alg: Some("EdDSA".to_owned()),
            usage: Some("sig".to_owned()),
        }
    }

    /// Whether `signature` is this key's over `message`, by the strict rules (no malleability, no small order).
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }
}

/// Whether the y coordinate, little-endian below the sign of x, is less than the field's prime 2^255 - 19.
fn is_reduced(point: &[u8; 32]) -> bool {
    point[0] < 0xed || point[1..31].iter().any(|&byte| byte != 0xff) || point[31] & 0x7f != 0x7f
}

/// A tenant's private key as it is stored: encrypted by KMS under the tenant's context.
#[derive(Clone, PartialEq, Eq)]
pub struct WrappedKey(Vec<u8>);

impl WrappedKey {
    /// Takes the ciphertext.
    #[must_use]
    pub fn new(ciphertext: Vec<u8>) -> Self {
        Self(ciphertext)
    }

    /// The ciphertext, for KMS and the store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for WrappedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrappedKey(..)")
    }
}

/// A tenant's key pair as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantKey {
    /// The public half.
    pub public: PublicKey,
    /// The private half.
    pub wrapped: WrappedKey,
    /// When KMS made it.
    pub made_at: Timestamp,
}

/// A private key in memory. No `Debug`, `Clone` or `Serialize`; zeroized on drop.
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// Reads the PKCS#8 that KMS made, 48 bytes, and forgets them.
    pub fn from_pkcs8(der: &Zeroizing<Vec<u8>>) -> Result<Self, KeyFormatError> {
        SigningKey::from_pkcs8_der(der).map(Self).map_err(|_| KeyFormatError)
    }

    /// From the 32-byte seed of RFC 8032 (tests and fixed vectors; KMS makes PKCS#8).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn public_key(&self) -> Result<PublicKey, KeyFormatError> {
        PublicKey::from_bytes(self.0.verifying_key().as_bytes())
    }
}

/// What a wrapped key is bound to: KMS refuses to unwrap it under another context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyContext {
    /// The Atlassian site.
    pub cloud_id: CloudId,
    /// The tenant.
    pub tenant_id: TenantId,
}

/// Why a key operation failed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// KMS throttles or does not answer; the same call may succeed later.
    #[error("KMS throttles or does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The key material does not belong to the record that holds it: moved, tampered with or of another key.
    #[error("the wrapped key does not belong to this tenant")]
    Mismatch,
    /// Everything else: a disabled or deleted key, a missing permission.
    #[error("KMS refused")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Signs with one Ed25519 key, wherever it lives.
pub trait Sign: Send + Sync {
    /// The public half of the signing key.
    fn public_key(&self) -> impl Future<Output = Result<PublicKey, KeyError>> + Send;
    /// The 64-byte signature over `message`.
    fn sign(&self, message: &[u8]) -> impl Future<Output = Result<[u8; 64], KeyError>> + Send;
}

impl Sign for PrivateKey {
    async fn public_key(&self) -> Result<PublicKey, KeyError> {
        Self::public_key(self).map_err(|_| KeyError::Mismatch)
    }

    async fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        Ok(self.0.sign(message).to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_small_order_are_refused() {
        let mut neutral = [0u8; 32];
        neutral[0] = 1;
        for bytes in [[0u8; 32], neutral] {
            assert_eq!(PublicKey::from_bytes(&bytes), Err(KeyFormatError));
        }
    }

    #[test]
    fn a_jwk_of_another_kind_is_refused() {
        let good = PrivateKey::from_seed(&[7; 32]).public_key().unwrap().jwk();
        assert!(PublicKey::from_jwk(&good).is_ok());
        for jwk in [
            Jwk { kty: "EC".into(), ..good.clone() },
            Jwk { crv: "X25519".into(), ..good.clone() },
            Jwk { x: "AAAA".into(), ..good.clone() },
            Jwk { alg: Some("RS256".into()), ..good.clone() },
            Jwk { usage: Some("enc".into()), ..good },
        ] {
            assert_eq!(PublicKey::from_jwk(&jwk), Err(KeyFormatError));
        }
    }

    #[test]
    fn a_wrapped_key_does_not_show_itself() {
        assert_eq!(format!("{:?}", WrappedKey::new(vec![1, 2, 3])), "WrappedKey(..)");
    }
}
