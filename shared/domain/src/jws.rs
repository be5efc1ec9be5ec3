//! Compact JWS (RFC 7515) with `EdDSA` (RFC 8037), as any JWT library verifies it.
//!
//! Our own lines because JWT crates do not fit a signer that is a network call; checked against `jose` by the
//! receiver's tests. Not here: every algorithm but `EdDSA`, and every header that names a key.

use data_encoding::BASE64URL_NOPAD;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{CloudId, Kid, TenantId};
use crate::key::{KeyError, PublicKey, Sign};

/// How long a callback token lives.
pub const TOKEN_LIFE: SignedDuration = SignedDuration::from_secs(300);

/// The longest compact JWS that is looked at: a hand-off has about 1.5 KB; 8 KB leaves room for long URLs.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The JOSE header. Unknown members are ignored, except `crit`, which promises semantics that nobody here has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Always `EdDSA`.
    pub alg: String,
    /// What the token is for, so that one kind never passes for another.
    pub typ: String,
    /// Thumbprint of the signing key.
    pub kid: String,
    /// Refused when present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crit: Option<serde_json::Value>,
}

/// Claims of a callback token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CallbackClaims<'a> {
    /// `BACKEND_URL`.
    pub iss: &'a str,
    /// The site.
    pub aud: &'a CloudId,
    /// The tenant.
    pub sub: &'a TenantId,
    /// Seconds since the epoch.
    pub iat: i64,
    /// `iat` + 300.
    pub exp: i64,
    /// The same over retries.
    pub jti: String,
    /// `health:register` or `health:update`.
    pub scope: &'static str,
    /// base64url SHA-256 of the exact body bytes.
    pub body_sha256: String,
}

/// What a callback's token is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub cloud_id: &'a CloudId,
    pub tenant_id: &'a TenantId,
    /// `health:register` or `health:update`.
    pub scope: &'static str,
}

impl<'a> CallbackClaims<'a> {
    /// The claims for `body`, valid from `now` for [`TOKEN_LIFE`].
    pub fn new(issuer: &'a str, subject: Subject<'a>, jti: String, body: &[u8], now: Timestamp) -> Self {
        Self {
            iss: issuer,
            aud: subject.cloud_id,
            sub: subject.tenant_id,
            iat: now.as_second(),
            exp: now.as_second() + TOKEN_LIFE.as_secs(),
            jti,
            scope: subject.scope,
            body_sha256: BASE64URL_NOPAD.encode(&Sha256::digest(body)),
        }
    }
}

/// Signs `claims` under a header of type `typ` that names the signer's key.
pub async fn sign(typ: &str, claims: &impl Serialize, signer: &impl Sign) -> Result<String, KeyError> {
    let kid = signer.public_key().await?.kid().to_string();
    let header = Header { alg: "EdDSA".to_owned(), typ: typ.to_owned(), kid, crit: None };
    let encode = |json: serde_json::Result<Vec<u8>>| {
        json.map(|bytes| BASE64URL_NOPAD.encode(&bytes)).map_err(|error| KeyError::Refused(Box::new(error)))
    };
    let input = format!("{}.{}", encode(serde_json::to_vec(&header))?, encode(serde_json::to_vec(claims))?);
    let signature = signer.sign(input.as_bytes()).await?;
    Ok(format!("{input}.{}", BASE64URL_NOPAD.encode(&signature)))
}

/// Why a token is not accepted. For logs; callers answer all of them alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Not three base64url parts of JSON within the size bound.
    #[error("not a compact JWS")]
    Shape,
    /// Another algorithm, type, or a critical extension.
    #[error("wrong algorithm or type")]
    Header,
    /// No trusted key has this `kid`.
    #[error("unknown key")]
    Key,
    /// The signature does not verify.
    #[error("wrong signature")]
    Signature,
    /// The claims are not of the expected form.
    #[error("malformed claims")]
    Claims,
}

/// The claims of `token`, if one of `keys` signed it as a `typ`.
pub fn verify<C: DeserializeOwned>(token: &str, typ: &str, keys: &[(Kid, PublicKey)]) -> Result<C, JwsError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(JwsError::Shape);
    }
    let (input, signature) = token.rsplit_once('.').ok_or(JwsError::Shape)?;
    let (header, claims) = input.split_once('.').ok_or(JwsError::Shape)?;
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| JwsError::Shape);
    let (header, claims, signature) = (decode(header)?, decode(claims)?, decode(signature)?);

    let header: Header = serde_json::from_slice(&header).map_err(|_| JwsError::Shape)?;
    if header.alg != "EdDSA" || header.typ != typ || header.crit.is_some() {
        return Err(JwsError::Header);
    }
    let (_, key) = keys.iter().find(|(kid, _)| kid.as_str() == header.kid).ok_or(JwsError::Key)?;
    let signature: [u8; 64] = signature.try_into().map_err(|_| JwsError::Signature)?;
    if !key.verifies(input.as_bytes(), &signature) {
        return Err(JwsError::Signature);
    }
    serde_json::from_slice(&claims).map_err(|_| JwsError::Claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    /// RFC 8037, appendix A.4: a JWS whose every part is printed in the RFC.
    #[test]
    fn the_signature_of_rfc_8037_verifies() {
        let seed = BASE64URL_NOPAD.decode(b"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let key = PrivateKey::from_seed(&seed.try_into().unwrap());
        let public = key.public_key().unwrap();
        let input = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature = BASE64URL_NOPAD
            .decode(b"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
            .unwrap();
        assert!(public.verifies(input.as_bytes(), &signature.try_into().unwrap()));
    }

    #[tokio::test]
    async fn a_token_verifies_only_as_what_it_is() {
        let key = PrivateKey::from_seed(&[7; 32]);
        let public = key.public_key().unwrap();
        let keys = [(public.kid(), public)];
        let token = sign("a+jwt", &serde_json::json!({"x": 1}), &key).await.unwrap();
        let verify = |token: &str, typ| verify::<serde_json::Value>(token, typ, &keys);
        assert_eq!(verify(&token, "a+jwt"), Ok(serde_json::json!({"x": 1})));
        assert_eq!(verify(&token, "b+jwt"), Err(JwsError::Header));
        assert_eq!(verify(&token[1..], "a+jwt"), Err(JwsError::Shape));
        assert_eq!(verify("", "a+jwt"), Err(JwsError::Shape));
        assert_eq!(verify(&"a.".repeat(5000), "a+jwt"), Err(JwsError::Shape));
        let (input, _) = token.rsplit_once('.').unwrap();
        let zero = BASE64URL_NOPAD.encode(&[0; 64]);
        assert_eq!(verify(&format!("{input}.{zero}"), "a+jwt"), Err(JwsError::Signature));
        let other = PrivateKey::from_seed(&[8; 32]);
        let foreign = sign("a+jwt", &serde_json::json!({"x": 1}), &other).await.unwrap();
        assert_eq!(verify(&foreign, "a+jwt"), Err(JwsError::Key));
    }
}
