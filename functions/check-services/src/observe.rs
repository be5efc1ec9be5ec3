//! What a tick finds out about the services of one tenant.

use std::pin::pin;
use std::time::Duration;

use domain::check::Observation;
use domain::id::TenantId;
use domain::service::{Lifecycle, Service};
use domain::snapshot::TenantSnapshot;
use domain::status::{self, Confirmation, Finding, MAX_SUPPRESSED, ServiceStatus, Status};
use domain::tick_plan::{Findings, TickContext};
use futures::StreamExt as _;
use futures::future::{Either, ready, select};
use futures::stream::FuturesUnordered;
use probe::{Attempt, AttemptKind, Probe, TenantQuota};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::Invocation;
use crate::control_endpoints::ControlEndpoints;

/// How long a tenant's services are probed at most. Fifty services on one host that hangs have had their first attempts by
/// then; the next tick confirms what this one could not.
const PROBING_TIME: Duration = Duration::from_mins(2);

/// What the attempts of one tenant have in common.
struct Observer<'a, P> {
    probe: &'a P,
    controls: &'a ControlEndpoints<'a, P>,
    confirm_after: &'a [Duration],
    context: TickContext,
    tenant: TenantId,
    snapshot: &'a TenantSnapshot,
    quota: TenantQuota,
    until: Instant,
}

/// Checks all active services of a tenant at once, as soon as there are places for them, and until `end` at the latest.
pub(crate) async fn observe_all<P: Probe>(
    invocation: &Invocation<'_, P>,
    snapshot: &TenantSnapshot,
    end: Instant,
) -> Findings {
    let active: Vec<_> =
        snapshot.services.iter().filter(|service| service.lifecycle == Lifecycle::Active).collect();
    // Out of time before it began: nothing was seen.
    let Ok(Some(mut places)) = timeout_at(end, places(&invocation.places, active.len())).await else {
        return Findings::new();
    };
    let observer = Observer {
        probe: invocation.probe,
        controls: &invocation.controls,
        confirm_after: invocation.confirm_after,
        context: invocation.context,
        quota: TenantQuota::new(snapshot.id().seed()),
        tenant: snapshot.id(),
        snapshot,
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
        let finding = finding.ok().or_else(|| Some(self.cut_off(service, failed_first?)));
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
        let before = status::current(&self.snapshot.state, service);
        let confirmation =
            status::confirmation(&self.snapshot.state, service, self.context.tick, self.context.period);
        let kind = match confirmation {
            Confirmation::Carried => AttemptKind::Carried,
            Confirmation::Attempts if before.status == Status::Alive => AttemptKind::Expected,
            Confirmation::Attempts | Confirmation::NotNeeded => AttemptKind::Doubtful,
        };
        let mut attempt = Attempt { kind, is_overdue: before.unseen > 0 };
        let mut waits = if confirmation == Confirmation::Attempts { self.confirm_after } else { &[] }.iter();
        let may_be_suppressed = may_be_suppressed(before);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let asks = waits.len() == 0 && may_be_suppressed;
            let (mut seen, is_ours) = self.attempt(service, attempt, asks).await;
            seen.attempts = attempts;
            if seen.is_alive() {
                return Finding::Verdict(seen);
            }
            if attempts == 1 && confirmation != Confirmation::NotNeeded {
                *failed_first = Some(seen.clone());
            }
            let Some(wait) = waits.next() else {
                // The failed attempt of the tick before counts as well.
                seen.attempts += u8::from(confirmation == Confirmation::Carried);
                return self.confirm_or_suppress(seen, may_be_suppressed, is_ours).await;
            };
            tokio::time::sleep(*wait).await;
            attempt = Attempt { kind: AttemptKind::Confirmation, is_overdue: false };
        }
    }

    /// One attempt, and whether our own network failed beside it, if that is asked. An answer waits for nothing.
    async fn attempt(&self, service: &Service, attempt: Attempt, asks: bool) -> (Observation, bool) {
        let attempted = pin!(self.probe.probe(&service.check, &self.quota, attempt));
        let most_fail = pin!(async { asks && self.controls.most_fail().await });
        match select(attempted, most_fail).await {
            Either::Left((seen, _)) if seen.is_alive() => (seen, false),
            Either::Left((seen, most_fail)) => (seen, most_fail.await),
            Either::Right((most_fail, attempted)) => (attempted.await, most_fail),
        }
    }

    /// A confirmed failure, unless our own network fails. Asked twice: beside the last attempt (`is_ours`), for an outage of
    /// ours that ends meanwhile, and after it, for one that begins meanwhile.
    async fn confirm_or_suppress(
        &self,
        seen: Observation,
        may_be_suppressed: bool,
        is_ours: bool,
    ) -> Finding {
        let is_ours = is_ours || may_be_suppressed && self.controls.most_fail_since(Instant::now()).await;
        if is_ours { Finding::Suppressed(seen) } else { Finding::Verdict(seen) }
    }

    /// A failure that there is no time to confirm. The next tick may do so, unless our own network failed in this one.
    fn cut_off(&self, service: &Service, seen: Observation) -> Finding {
        let before = status::current(&self.snapshot.state, service);
        if may_be_suppressed(before) && self.controls.have_failed() {
            Finding::Suppressed(seen)
        } else {
            Finding::Unconfirmed(seen)
        }
    }
}

/// Whether an outage of our own network can excuse a failure of this service.
fn may_be_suppressed(before: ServiceStatus) -> bool {
    before.status != Status::Down && before.suppressed < MAX_SUPPRESSED
}
