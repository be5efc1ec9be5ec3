//! Tenant keys that have grown old get a successor: made and wrapped by KMS, endorsed by the deployment key, and stored
//! beside the present key. check-services hands it over.
//!
//! Not here: every private key, and every callback. A run changes nothing that an app sees at once.

use std::pin::pin;
use std::sync::Arc;

use aws::kms::{DeploymentKey, WrappingKey};
use aws::store::{Store, StoreError, WriteOutcome};
use aws::telemetry::ErrorChain;
use domain::clock::{Clock, whole_seconds};
use domain::id::TenantId;
use domain::key::{KeyError, TenantKey};
use domain::key_endorsement::{ENDORSEMENT_LIFE, endorse_key};
use domain::tenant::{NextKey, Tenant};
use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::LambdaEvent;
use serde::Serialize;

pub mod config;
pub mod event;

use event::Event;

/// Tenants that are read at once. What is due is worked on one by one, which keeps KMS at a few calls a second and leaves
/// its quotas to registrations.
const READS_AT_ONCE: usize = 16;

/// No tenant is begun later than this before the Lambda deadline: four calls to AWS, each given up after ten seconds.
const RESERVE: SignedDuration = SignedDuration::from_secs(45);

/// Lambda never hands out an event past its deadline; `cargo lambda watch` counts its deadline from 1970.
const WITHOUT_DEADLINE: SignedDuration = SignedDuration::from_secs(300);

/// As many keys may always be replaced in one run.
const SMALL_RUN: usize = 100;

/// An endorsement with less time left than this is made anew.
const RENEWED_BELOW: SignedDuration = SignedDuration::from_hours(7 * 24);
const _: () = assert!(RENEWED_BELOW.as_secs() * 2 == ENDORSEMENT_LIFE.as_secs());

/// Replaces keys.
pub struct RotateKeys {
    /// Tenants.
    pub store: Store,
    /// Endorses keys.
    pub deployment_key: DeploymentKey,
    /// Makes tenant keys.
    pub tenant_keys: WrappingKey,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How old a key may be; `None` when no age is too old.
    pub key_lifetime: Option<SignedDuration>,
}

/// Why an invocation failed. Lambda runs a scheduled one once more; what is done stays done.
#[derive(Debug, thiserror::Error)]
pub enum InvocationError {
    /// The store. Also one tenant that cannot be read or written ends the run: it is no fault of that tenant's.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// KMS.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What a run did, for the log and for the operator who asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Tenants that were looked at.
    pub tenants: usize,
    /// Those that have a next key since.
    pub started: usize,
    /// Those whose next key was endorsed anew.
    pub renewed: usize,
    /// Those whose next key is on its way, and whose present key is one of those to be replaced.
    pub under_way: usize,
    /// Tenants that another run comes to: out of time, or as many as one run may replace.
    pub left: usize,
    /// Tenants with unusable records.
    pub corrupt: usize,
}

/// Whose keys a run replaces.
struct Run {
    /// Those made before this time.
    made_before: Timestamp,
    /// So many at most.
    at_most: usize,
    /// Whether an operator asked for it: then what an app refused is offered again as well.
    is_asked: bool,
    now: Timestamp,
}

/// What a tenant needs.
enum Need {
    Nothing,
    Successor,
    /// The next key that it has is on its way.
    Patience,
    /// The next key that it has, endorsed anew.
    NewEndorsement,
}

impl RotateKeys {
    /// One invocation by Lambda.
    pub async fn invoke(&self, event: LambdaEvent<Event>) -> Result<Summary, lambda_runtime::Error> {
        let deadline = event.context.deadline().try_into()?;
        // The runtime logs what is returned with `Debug`, which would show whole answers of AWS.
        self.handle(event.payload, deadline).await.map_err(|error| ErrorChain(&error).to_string().into())
    }

    /// One event; `deadline` is when Lambda ends this invocation.
    pub async fn handle(&self, event: Event, deadline: Timestamp) -> Result<Summary, InvocationError> {
        let now = whole_seconds(self.clock.now());
        let deadline = if deadline > now { deadline } else { now + WITHOUT_DEADLINE };
        let (ids, run) = match event {
            Event::Asked(asked) => {
                let ids = match asked.tenant_id {
                    Some(id) => vec![id],
                    None => self.store.tenants().await?,
                };
                // What lies ahead of the clock would be replaced again by every repetition.
                let made_before = asked.made_before.min(now);
                (ids, Run { made_before, at_most: usize::MAX, is_asked: true, now })
            }
            Event::Scheduled { .. } => {
                let mut ids = self.store.tenants().await?;
                let start = first_of(now, ids.len());
                ids.rotate_left(start);
                let made_before = self.key_lifetime.map_or(Timestamp::MIN, |lifetime| now - lifetime);
                let at_most = self.key_lifetime.map_or(0, |lifetime| at_most(ids.len(), lifetime));
                (ids, Run { made_before, at_most, is_asked: false, now })
            }
        };
        let summary = self.rotate(&ids, &run, deadline - RESERVE).await?;
        tracing::info!(
            tenants = summary.tenants,
            tenants.left = summary.left,
            tenants.corrupt = summary.corrupt,
            keys.started = summary.started,
            keys.renewed = summary.renewed,
            keys.under_way = summary.under_way,
            "keys rotated"
        );
        Ok(summary)
    }

    async fn rotate(
        &self,
        ids: &[TenantId],
        run: &Run,
        last_start: Timestamp,
    ) -> Result<Summary, InvocationError> {
        let mut summary = Summary::default();
        let reads = stream::iter(ids).map(async |id| (id, self.store.tenant(id, run.now).await));
        let mut tenants = pin!(reads.buffered(READS_AT_ONCE));
        while let Some((id, read)) = tenants.next().await {
            if self.clock.now() >= last_start {
                summary.left += ids.len() - summary.tenants;
                tracing::warn!(tenants.left = summary.left, "out of time; the next run comes to the rest");
                break;
            }
            summary.tenants += 1;
            let tenant = match read {
                Ok(Some(tenant)) => tenant,
                Ok(None) => continue,
                Err(error @ StoreError::Corrupt(_)) => {
                    tracing::error!(tenant.id = %id, error = %ErrorChain(&error), "tenant passed over");
                    summary.corrupt += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match need(&tenant, run) {
                Need::Nothing => {}
                Need::Patience => summary.under_way += 1,
                Need::Successor if summary.started >= run.at_most => summary.left += 1,
                Need::Successor => summary.started += usize::from(self.offer(&tenant, run.now).await?),
                Need::NewEndorsement => summary.renewed += usize::from(self.offer(&tenant, run.now).await?),
            }
        }
        Ok(summary)
    }

    /// Has the tenant's next key endorsed, a new one if there is none, and stores it. False if the tenant has changed
    /// meanwhile: another delivery of the same event was faster, a registration began anew, or the key was handed over.
    async fn offer(&self, tenant: &Tenant, now: Timestamp) -> Result<bool, InvocationError> {
        let (key, is_accepted) = if let Some(next) = &tenant.web_trigger().next_key {
            (next.key.clone(), next.is_accepted)
        } else {
            let (public, wrapped) = self.tenant_keys.make_key(&tenant.key_context()).await?;
            (TenantKey { public, wrapped, made_at: now }, false)
        };
        let endorsed = endorse_key(tenant, key, &self.deployment_key, now).await?;
        let next = NextKey { is_accepted, ..endorsed };
        let is_stored = self.store.store_next_key(tenant, &next).await? == WriteOutcome::Applied;
        if is_stored {
            tracing::info!(tenant.id = %tenant.id(), key.id = %next.key.public.kid(), "next tenant key endorsed");
        }
        Ok(is_stored)
    }
}

fn need(tenant: &Tenant, run: &Run) -> Need {
    let is_due = tenant.web_trigger().key.made_at < run.made_before;
    match &tenant.web_trigger().next_key {
        None if is_due => Need::Successor,
        None => Need::Nothing,
        Some(next) => {
            let is_ending = next.endorsed_until.duration_since(run.now) < RENEWED_BELOW;
            if is_ending || run.is_asked && is_due && next.refused_at.is_some() {
                Need::NewEndorsement
            } else if is_due {
                Need::Patience
            } else {
                Need::Nothing
            }
        }
    }
}

/// How many keys a scheduled run replaces at most: twice what falls due in a day when all are of different age. Many of
/// one age are through in half a lifetime, so that a mistake in what apps trust is met by few of them first.
fn at_most(tenants: usize, lifetime: SignedDuration) -> usize {
    let days = usize::try_from(lifetime.as_hours() / 24).unwrap_or(1).max(1);
    SMALL_RUN.max(tenants.saturating_mul(2).div_ceil(days))
}

/// Where the run of this day begins in the list of tenants: each day elsewhere, and in time close before everybody, so that
/// whom one run had no time for is early in another one. Steps of the golden ratio leave no large gap for long.
fn first_of(now: Timestamp, tenants: usize) -> usize {
    let day = now.as_second().div_euclid(86_400).unsigned_abs();
    let place = u128::from(day.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    usize::try_from((place * tenants as u128) >> 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_run_replaces_twice_what_falls_due_in_a_day_and_a_hundred_in_any_case() {
        let days = |days: i64| SignedDuration::from_hours(days * 24);
        for (tenants, lifetime, expected) in [
            (0, 90, 100),
            (1_000, 90, 100),
            (10_000, 90, 223),
            (100_000, 90, 2_223),
            (100_000, 1, 200_000),
            (usize::MAX, 1, usize::MAX),
        ] {
            assert_eq!(at_most(tenants, days(lifetime)), expected, "{tenants} tenants, {lifetime} days");
        }
    }

    #[test]
    fn whom_a_run_of_a_tenth_has_no_time_for_is_reached_by_others_within_three_weeks() {
        let tenants = 1_000;
        let reached = |days: std::ops::Range<i64>| -> BTreeSet<usize> {
            days.flat_map(|day| {
                let start = first_of(Timestamp::from_second(day * 86_400).unwrap(), tenants);
                (start..start + tenants / 10).map(move |at| at % tenants)
            })
            .collect()
        };
        for first in [0, 20_000, 20_777] {
            assert_eq!(reached(first..first + 21).len(), tenants);
        }
        assert_eq!(first_of(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24), 0), 0);
    }
}
