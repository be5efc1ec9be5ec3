//! Key endorsements: the deployment key's word that one tenant key follows another. An UPDATE carries it.
//!
//! It proves itself, so an app believes it whichever of the two keys signed the UPDATE. Not here: who is to get
//! a new key, and when.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::id::{CloudId, Kid, TenantId};
use crate::jws;
use crate::key::{Jwk, KeyError, Sign, TenantKey};
use crate::tenant::{KeyEndorsement, NextKey, Tenant};

/// The `typ` of the token.
pub const ENDORSEMENT_TYPE: &str = "forge-key+jwt";

/// How long an endorsement can be used. One that leaks is of no use without the key that it names; that key's owner
/// cannot bring it back once another one has followed, since the app compares `currentKid`.
pub const ENDORSEMENT_LIFE: SignedDuration = SignedDuration::from_hours(14 * 24);

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

/// Has `deployment_key` endorse `key` to the tenant's app as what follows its present key, from `now` (whole seconds) for
/// [`ENDORSEMENT_LIFE`].
pub async fn endorse_key(
    tenant: &Tenant,
    key: TenantKey,
    deployment_key: &impl Sign,
    now: Timestamp,
) -> Result<NextKey, KeyError> {
    let endorsed_until = now + ENDORSEMENT_LIFE;
    let claims = Claims {
        sub: tenant.id(),
        aud: &tenant.cloud_id,
        current_kid: tenant.kid(),
        jwk: key.public.jwk(),
        iat: now.as_second(),
        exp: endorsed_until.as_second(),
    };
    let endorsement = KeyEndorsement::new(jws::sign(ENDORSEMENT_TYPE, &claims, deployment_key).await?);
    Ok(NextKey { key, endorsement, endorsed_until, is_accepted: false, refused_at: None })
}
