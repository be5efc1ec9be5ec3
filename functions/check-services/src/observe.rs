//! What a tick finds out about the services of one tenant.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{join, ready};
use futures::stream::FuturesUnordered;
use shared::id::{ServiceId, TenantId};
use shared::probe::{AttemptKind, Observation, Probe, TenantQuota};
use shared::service::{Activity, Service};
use shared::status::{self, Confirmation, Finding, MAX_SUPPRESSED, Status};
use shared::store::Watched;
use shared::tick::{Period, Tick};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::Round;
use crate::control_endpoints::ControlEndpoints;

/// How long a tenant's services are probed at most. Fifty services on one host that hangs have had their first attempts by
/// then; the next tick confirms what this one could not.
const PROBING_TIME: Duration = Duration::from_mins(2);

/// What is found per service; one without a finding was not seen.
pub(crate) type Findings = BTreeMap<ServiceId, Finding>;

/// What the attempts of one tenant have in common.
struct Observer<'a, P> {
    probe: &'a P,
    controls: &'a ControlEndpoints<'a, P>,
    confirm_after: &'a [Duration],
    tick: Tick,
    period: Period,
    tenant: &'a TenantId,
    watched: &'a Watched,
    quota: TenantQuota,
    until: Instant,
}

/// Checks all active services of a tenant at once, as soon as there are places for them, and until `end` at the latest.
pub(crate) async fn observe_all<P: Probe>(
    round: &Round<'_, P>,
    tenant: &TenantId,
    watched: &Watched,
    end: Instant,
) -> Findings {
    let active: Vec<_> =
        watched.services.iter().filter(|service| service.activity == Activity::Active).collect();
    // Out of time before it began: nothing was seen.
    let Ok(Some(mut places)) = timeout_at(end, places(&round.places, active.len())).await else {
        return Findings::new();
    };
    let observer = Observer {
        probe: round.probe,
        controls: &round.controls,
        confirm_after: round.confirm_after,
        tick: round.tick,
        period: round.period,
        tenant,
        watched,
        quota: TenantQuota::default(),
        until: (Instant::now() + PROBING_TIME).min(end),
    };
    let observer = &observer;
    let checks: FuturesUnordered<_> = active
        .into_iter()
        .map(|service| {
            let place = places.split(1);
            async move {
                let finding = observer.observe(service).await;
                drop(place);
                Some((service.id.clone(), finding?))
            }
        })
        .collect();
    checks.filter_map(ready).collect().await
}

async fn places(semaphore: &Semaphore, count: usize) -> Option<SemaphorePermit<'_>> {
    semaphore.acquire_many(u32::try_from(count).ok()?).await.ok()
}

impl<P: Probe> Observer<'_, P> {
    /// One check, cut off when the time is up.
    async fn observe(&self, service: &Service) -> Option<Finding> {
        let mut failed_first = None;
        let finding = timeout_at(self.until, self.check(service, &mut failed_first)).await;
        let finding = finding.ok().or_else(|| failed_first.map(Finding::Unconfirmed));
        if let Some(finding) = &finding
            && let Some(failure) = finding.observation().failure
        {
            tracing::info!(
                tenant.id = %self.tenant,
                service.id = %service.id,
                probe.outcome = failure.as_str(),
                probe.attempts = finding.observation().attempts,
                probe.response_time_ms = finding.observation().response_time_ms,
                verdict = match finding {
                    Finding::Verdict(_) => "confirmed",
                    Finding::Unconfirmed(_) => "unconfirmed",
                    Finding::Suppressed(_) => "suppressed",
                },
                "service is not alive"
            );
        }
        finding
    }

    /// A failure that would change the status is confirmed by further attempts, each on a fresh connection and a while
    /// later, or by the tick before; an attempt that succeeds is the verdict.
    async fn check(&self, service: &Service, failed_first: &mut Option<Observation>) -> Finding {
        let state = &self.watched.state;
        let confirmation = status::confirmation(state, service, self.tick, self.period);
        let before = status::current(state, service);
        let may_be_suppressed = before.status != Status::Down && before.suppressed < MAX_SUPPRESSED;

        let is_carried = confirmation == Confirmation::Carried;
        let kind = if before.unseen > 0 { AttemptKind::Overdue } else { AttemptKind::First };
        let mut seen = self.probe.probe(&service.check, &self.quota, kind).await;
        if seen.is_alive() {
            return Finding::Verdict(seen);
        }
        if confirmation != Confirmation::NotNeeded {
            *failed_first = Some(seen.clone());
        }
        let waits = if confirmation == Confirmation::Attempts { self.confirm_after } else { &[] };
        if waits.is_empty() {
            // The failed attempt of the tick before counts as well.
            seen.attempts += u8::from(is_carried);
            return self.judge(seen, may_be_suppressed, false).await;
        }
        let mut is_ours = false;
        for (wait, attempts) in waits.iter().zip(2u8..) {
            tokio::time::sleep(*wait).await;
            let is_last = usize::from(attempts) > waits.len();
            let attempt = self.probe.probe(&service.check, &self.quota, AttemptKind::Confirmation);
            let ask = async { is_last && may_be_suppressed && self.controls.most_fail().await };
            let attempted;
            (attempted, is_ours) = join(attempt, ask).await;
            seen = Observation { attempts, ..attempted };
            if seen.is_alive() {
                return Finding::Verdict(seen);
            }
        }
        self.judge(seen, may_be_suppressed, is_ours).await
    }

    /// A confirmed failure, unless our own network fails. Asked twice: beside the last attempt (`is_ours`), for an outage of
    /// ours that ends meanwhile, and after it, for one that begins meanwhile.
    async fn judge(&self, seen: Observation, may_be_suppressed: bool, is_ours: bool) -> Finding {
        let is_ours = is_ours || may_be_suppressed && self.controls.most_fail_since(Instant::now()).await;
        if is_ours { Finding::Suppressed(seen) } else { Finding::Verdict(seen) }
    }
}
