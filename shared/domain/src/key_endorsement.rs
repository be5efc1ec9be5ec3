//! Key introductions: the deployment key's word that one tenant key follows another. An UPDATE carries it.
//!
//! It proves itself, so an app believes it whichever of the two keys signed the UPDATE. Deliberately absent: who is to get
//! a new key, and when.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::id::{CloudId, Kid, TenantId};
use crate::jws;
use crate::key::{Jwk, KeyError, Sign, TenantKey};
use crate::tenant::{Introduction, NextKey, Tenant};

/// The `typ` of the token.
pub const INTRODUCTION_TYPE: &str = "forge-key+jwt";

/// How long an introduction can be used. One that leaks is of no use without the key that it names; that key's owner
/// cannot bring it back once another one has followed, since the app compares `currentKid`.
pub const INTRODUCTION_LIFE: SignedDuration = SignedDuration::from_hours(14 * 24);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Claims<'a> {
    sub: TenantId,
    aud: &'a CloudId,
    current_kid: Kid,
    jwk: Jwk,
    iat: i64,
    exp: i64,
}

/// Has `deployment_key` introduce `key` to the tenant's app as what follows its present key, from `now` (whole seconds) for
/// [`INTRODUCTION_LIFE`].
pub async fn introduce(
    tenant: &Tenant,
    key: TenantKey,
    deployment_key: &impl Sign,
    now: Timestamp,
) -> Result<NextKey, KeyError> {
    let introduced_until = now + INTRODUCTION_LIFE;
    let claims = Claims {
        sub: tenant.id(),
        aud: &tenant.cloud_id,
        current_kid: tenant.kid(),
        jwk: key.public.jwk(),
        iat: now.as_second(),
        exp: introduced_until.as_second(),
    };
    let introduction = Introduction::new(jws::sign(INTRODUCTION_TYPE, &claims, deployment_key).await?);
    Ok(NextKey { key, introduction, introduced_until, is_accepted: false, refused_at: None })
}
