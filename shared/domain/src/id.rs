//! Identifiers: parsed once at the edge, or derived here; never a bare `String` afterwards.
//!
//! Derivations are part of the wire contract (docs/protocol.md, section 1): the Forge app computes the same
//! `tenantId`. No identifier is random and none is chosen by a caller.

use std::fmt;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A text that is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind}: expected {expected}")]
pub struct InvalidId {
    kind: &'static str,
    expected: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Parses the canonical text.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId { kind: stringify!($name), expected: $expected })
                }
            }

            /// The canonical text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// One Atlassian site: a lower-case UUID.
    CloudId,
    "a lower-case UUID",
    is_lower_case_uuid
);

text_id!(
    /// One installation of the Forge app: 32 characters of lower-case base32, see [`TenantId::derive`].
    TenantId,
    "32 characters of lower-case base32",
    |text| is_base32(text, 32)
);

text_id!(
    /// One monitored endpoint of one tenant: 16 characters of lower-case base32, see [`ServiceId::derive`].
    ServiceId,
    "16 characters of lower-case base32",
    |text| is_base32(text, 16)
);

text_id!(
    /// Who added a service: an opaque label, 1 to 128 of `A-Z a-z 0-9 : . _ -`. The companion app sends a
    /// pseudonym; an Atlassian accountId fits as well.
    Owner,
    "1 to 128 of A-Z a-z 0-9 : . _ -",
    |text| {
        (1..=128).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'.' | b'_' | b'-'))
    }
);

text_id!(
    /// The RFC 7638 thumbprint of a public key: 43 characters of base64url.
    Kid,
    "43 characters of base64url",
    |text| text.len() == 43 && BASE64URL_NOPAD.decode(text.as_bytes()).is_ok()
);

text_id!(
    /// The SHA-256 of a hand-off's (`iss`, `jti`): 64 hexadecimal digits.
    HandoffId,
    "64 lower-case hexadecimal digits",
    |text| text.len() == 64 && HEXLOWER.decode(text.as_bytes()).is_ok()
);

impl TenantId {
    /// The first 160 bits of SHA-256 over site and trigger, so that a stranger who names another site with a
    /// trigger of their own gets a tenant of their own.
    #[must_use]
    pub fn derive(cloud_id: &CloudId, trigger_url: &str) -> Self {
        let digest = sha256(&["forge-health/tenant/v1", cloud_id.as_str(), trigger_url]);
        Self(base32(&digest[..20]))
    }

    /// An even spread over all tenants, for jitter. Nothing secret.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0.bytes().take(12).fold(0, |seed, byte| (seed << 5) | u64::from(byte & 31))
    }
}

impl ServiceId {
    /// The first 80 bits of SHA-256 over tenant and canonical URL: the same URL is the same service. 80 bits are
    /// plenty within one tenant's 50 services, and an attacker who finds a collision replaces only their own.
    #[must_use]
    pub fn derive(tenant_id: &TenantId, canonical_url: &str) -> Self {
        let digest = sha256(&["forge-health/service/v1", tenant_id.as_str(), canonical_url]);
        Self(base32(&digest[..10]))
    }
}

impl Kid {
    /// The RFC 7638 thumbprint of an Ed25519 public key.
    #[must_use]
    pub fn of_ed25519(public_key: &[u8; 32]) -> Self {
        // RFC 7638: the required members in lexicographic order, no white space.
        let x = BASE64URL_NOPAD.encode(public_key);
        let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        Self(BASE64URL_NOPAD.encode(&Sha256::digest(jwk.as_bytes())))
    }
}

impl HandoffId {
    /// Identifies a hand-off over all issuers.
    #[must_use]
    pub fn derive(issuer: &str, jti: &str) -> Self {
        Self(HEXLOWER.encode(&sha256(&["forge-health/handoff/v1", issuer, jti])))
    }
}

fn sha256(lines: &[&str]) -> [u8; 32] {
    Sha256::digest(lines.join("\n").as_bytes()).into()
}

fn base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

fn is_base32(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))
}

fn is_lower_case_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// Whether `text` is a lower-case UUID, the form of a [`CloudId`] and of a trigger host's first label.
#[must_use]
pub fn is_uuid(text: &str) -> bool {
    is_lower_case_uuid(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOUD: &str = "11111111-2222-4333-8444-555555555555";

    #[test]
    fn tenant_id_is_the_vector_that_the_typescript_tests_use() {
        let cloud = CloudId::parse(CLOUD).unwrap();
        let trigger = "https://99999999-8888-4777-8666-555555555555.hello.atlassian-dev.net/x1/abcDEF_-123";
        let id = TenantId::derive(&cloud, trigger);
        assert_eq!(id.as_str(), "ofv6g5lwodmdskei2zp2abn222gyepme");
        assert_eq!(ServiceId::derive(&id, "https://example.com/health").as_str(), "w4g76pj5y32txfsc");
    }

    #[test]
    fn kid_is_the_thumbprint_of_rfc_8037_appendix_a() {
        let x = BASE64URL_NOPAD.decode(b"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let kid = Kid::of_ed25519(&x.try_into().unwrap());
        assert_eq!(kid.as_str(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn another_site_or_another_trigger_is_another_tenant() {
        let (a, b) = (CloudId::parse(CLOUD).unwrap(), CloudId::parse(&CLOUD.replace('1', "2")).unwrap());
        assert_ne!(TenantId::derive(&a, "https://t/x1/1"), TenantId::derive(&b, "https://t/x1/1"));
        assert_ne!(TenantId::derive(&a, "https://t/x1/1"), TenantId::derive(&a, "https://t/x1/2"));
    }

    #[test]
    fn identifiers_refuse_everything_but_their_canonical_text() {
        for text in ["", "11111111-2222-4333-8444-55555555555", "11111111-2222-4333-8444-55555555555A", " "] {
            assert!(CloudId::parse(text).is_err(), "{text:?}");
        }
        for text in ["", "a b", "é", &"a".repeat(129), "a\n"] {
            assert!(Owner::parse(text).is_err(), "{text:?}");
        }
        assert!(Owner::parse("557058:f2a1b0c4-1234").is_ok());
        assert!(serde_json::from_str::<TenantId>("\"TENANT\"").is_err());
    }
}
