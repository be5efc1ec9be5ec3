//! Which of a tenant's keys signs an UPDATE while one key follows another, and what the app's answer says about that.
//!
//! Whatever was lost on the way, one of the two keys is trusted: the app keeps the present key for an hour after it has
//! switched, and the backend until it knows of it. So the key that is more likely to be trusted signs first, and the other
//! one as soon as the app answers UNAUTHORIZED. Not here: who gets a new key (rotate-keys), and every private key.

use crate::key::TenantKey;
use crate::response::{CallbackResponse, ResponseCode};
use crate::tenant::{NextKey, Tenant};
use crate::tick::{Period, Tick};
use jiff::SignedDuration;

/// For how many periods of the alarm an app that refuses its next key is offered it all the same, or an unusable one tried:
/// `CallbacksRefused` asks for two of three.
const REFUSED_PERIODS: i32 = 3;
/// The shortest period of that alarm.
const SHORTEST_ALARM_PERIOD: SignedDuration = SignedDuration::from_mins(5);

/// Whether the app is to be told under its next key first. Not once its endorsement has ended, or when the app has refused
/// it for a while, or it was unusable for as long; rotate-keys endorses it anew in time.
pub fn is_tried_first(next: &NextKey, tick: Tick, period: Period) -> bool {
    let limit = period.duration().max(SHORTEST_ALARM_PERIOD) * REFUSED_PERIODS;
    let is_endorsed = next.is_accepted || tick.start() < next.endorsed_until;
    is_endorsed && next.refused_at.is_none_or(|since| tick.start().duration_since(since) < limit)
}

/// The tenant's keys in the order in which they sign.
pub fn order(tenant: &Tenant, tick: Tick, period: Period) -> impl Iterator<Item = &TenantKey> {
    let next = tenant.web_trigger().next_key.as_ref();
    let (first, second) = match next {
        Some(next) if is_tried_first(next, tick, period) => (&next.key, Some(&tenant.web_trigger().key)),
        _ => (&tenant.web_trigger().key, next.map(|next| &next.key)),
    };
    std::iter::once(first).chain(second)
}

/// Whether an answer can be another one under the tenant's other key.
pub fn may_be_the_key(answer: &CallbackResponse) -> bool {
    *answer == CallbackResponse::App(ResponseCode::Unauthorized)
}

/// What an answer says about the next key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextKeyOutcome {
    /// Nothing new.
    Nothing,
    /// The app trusts it; to be noted. Once is not enough: a registration that the app handles at the same moment can
    /// write over what it has just noted, and then it needs the endorsement again.
    Accepted(NextKey),
    /// The app trusts it for good: it is the tenant's key from now on.
    Settled(NextKey),
    /// The app trusts the present key and not this one; to be noted when it is the first time.
    Refused(NextKey),
    /// This one is not what its record names, so it can never sign; the app trusts the present key. Noted like a refusal,
    /// so that offering it ends.
    Unusable(NextKey),
}

/// Why a key that was tried did not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFailure {
    /// The app does not trust it.
    NotTrusted,
    /// It cannot be unwrapped, or is another one than its record names.
    Unusable,
}

/// What is known once the app has answered `answer` to an UPDATE that `signer` signed; `failed` was tried before it.
pub fn judge_next_key(
    tenant: &Tenant,
    signer: &TenantKey,
    failed: Option<(&TenantKey, KeyFailure)>,
    answer: &CallbackResponse,
    tick: Tick,
) -> NextKeyOutcome {
    let Some(next) = tenant.web_trigger().next_key.as_ref().filter(|_| answer.is_acceptance()) else {
        return NextKeyOutcome::Nothing;
    };
    let signed_by_next = *signer == next.key;
    match (signed_by_next, next.is_accepted) {
        (true, true) => NextKeyOutcome::Settled(next.clone()),
        (true, false) => {
            NextKeyOutcome::Accepted(NextKey { is_accepted: true, refused_at: None, ..next.clone() })
        }
        (false, _) => {
            let noted = NextKey { refused_at: next.refused_at.or(Some(tick.start())), ..next.clone() };
            match failed {
                Some((key, KeyFailure::NotTrusted)) if *key == next.key => {
                    NextKeyOutcome::Refused(NextKey { is_accepted: false, ..noted })
                }
                Some((key, KeyFailure::Unusable)) if *key == next.key => NextKeyOutcome::Unusable(noted),
                _ => NextKeyOutcome::Nothing,
            }
        }
    }
}
