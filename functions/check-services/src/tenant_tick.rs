//! One tenant at one tick: read, check, commit, then send. What is decided is in `domain::tick_plan`; here it is carried out.
//!
//! A kill at any instant is safe: what was not committed is done by the next tick, what was not sent is carried by it.

use std::time::Duration;

use aws::store::{StoreError, WriteOutcome};
use aws::telemetry::ErrorChain;
use callback::{Callback, Deliver, RetryPolicy, deliver};
use domain::clock::whole_seconds;
use domain::id::{ServiceId, TenantId};
use domain::jws::{self, CallbackClaims, Subject};
use domain::key::{KeyError, TenantKey};
use domain::key_rotation::{self, KeyFailure, NextKeyOutcome};
use domain::report::Update;
use domain::response::CallbackResponse;
use domain::snapshot::TenantSnapshot;
use domain::tenant::Tenant;
use domain::tick::Tick;
use domain::tick_plan::{Counts, Delivered, Effect, Findings, TickPlan, Turn};
use futures::future::join;
use probe::Probe;
use tokio::time::{Instant, timeout_at};

use crate::event::StatusChanged;
use crate::observe::observe_all;
use crate::{CheckServices, Invocation};

/// How much of a tenant's time is kept for committing and for the report.
const CALLBACK_TIME: Duration = Duration::from_secs(15);

/// How much of that is kept for storing what the response changes.
const SETTLING_TIME: Duration = Duration::from_secs(2);

/// What became of a tenant at a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Committed, and sent if it could be.
    Done(Done),
    /// Another invocation has this tick, or the tenant is gone, without services, or suspended and not due.
    Skipped,
}

/// A tenant whose tick is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub counts: Counts,
    /// The app's response. `None`: the report could not be signed, may not be sent, or there was no time. The next tick
    /// carries it.
    pub response: Option<CallbackResponse>,
    /// Requests that the response took, over both keys.
    pub attempts: u32,
    /// Whether the app refused the tenant's next key, or that is unusable, and accepted the present one.
    pub next_key_refused: bool,
    /// A tenant that is to be suspended, since it has failed for so long, with its services.
    pub unreachable: Option<Box<(Tenant, Vec<ServiceId>)>>,
}

impl<K: Deliver, P: Probe> CheckServices<K, P> {
    /// Steps 3 to 5 of a tick.
    pub(crate) async fn check_tenant(
        &self,
        id: &TenantId,
        invocation: &Invocation<'_, P>,
    ) -> Result<Outcome, StoreError> {
        let (tick, end) = (invocation.context.tick, invocation.end);
        let Some(snapshot) = self.store.load(id, self.clock.now()).await? else {
            return Ok(Outcome::Skipped);
        };
        let findings = match invocation.context.turn(&snapshot) {
            Turn::Check => observe_all(invocation, &snapshot, end - CALLBACK_TIME).await,
            Turn::ReportOnly => Findings::new(),
            Turn::Nothing | Turn::Past => return Ok(Outcome::Skipped),
        };
        let plan = invocation.context.plan(&snapshot, &findings);
        if self.store.commit(id, snapshot.state.last_tick, &plan.state).await? == WriteOutcome::Conflict {
            tracing::info!(tenant.id = %id, %tick, "another invocation has this tick");
            return Ok(Outcome::Skipped);
        }
        let report = timeout_at(end, self.report(&snapshot, &plan, end));
        let announce = timeout_at(end, self.announce(&snapshot, &plan));
        let (reported, _) = join(report, announce).await;
        let done = reported.unwrap_or_else(|_| {
            tracing::error!(tenant.id = %id, %tick, "out of time for the report; the next tick carries it");
            Done::unsent(&plan)
        });
        log_checked(&plan, &done);
        Ok(Outcome::Done(done))
    }

    /// Sends the report of a committed tick, and stores what the response changes.
    async fn report(&self, snapshot: &TenantSnapshot, plan: &TickPlan<'_>, end: Instant) -> Done {
        let unsent = Done::unsent(plan);
        if self.settings.triggers.parse(snapshot.tenant.web_trigger().url.as_str()).is_err() {
            tracing::error!(
                tenant.id = %plan.id(),
                tick = %plan.tick(),
                "the stored trigger is not allowed (any more); nothing is sent there"
            );
            return unsent;
        }
        let Some((delivered, attempts)) = self.deliver(snapshot, plan, end).await else { return unsent };
        let aftermath = plan.after(&delivered);
        log_response(plan, &delivered.response, &aftermath.next_key);
        let mut is_unreachable = aftermath.is_unreachable;
        for effect in aftermath.effects {
            if let Err(error) = self.apply(snapshot, plan, effect).await {
                // It is noted at the next tick: the app responds to a repetition with DUPLICATE.
                tracing::error!(
                    tenant.id = %plan.id(),
                    tick = %plan.tick(),
                    error = %ErrorChain(&error),
                    "the app's response could not be stored"
                );
                is_unreachable = false;
            }
        }
        let unreachable = is_unreachable.then(|| Box::new((snapshot.tenant.clone(), service_ids(snapshot))));
        let next_key_refused =
            matches!(aftermath.next_key, NextKeyOutcome::Refused(_) | NextKeyOutcome::Unusable(_));
        Done { response: Some(delivered.response), attempts, next_key_refused, unreachable, ..unsent }
    }

    /// Sends the report under the tenant's key. While another key follows it, under one of the two and then the other, if the
    /// app does not trust the first. `None` when neither can sign. Returns the requests that it took, too.
    async fn deliver<'a>(
        &self,
        snapshot: &'a TenantSnapshot,
        plan: &TickPlan<'a>,
        end: Instant,
    ) -> Option<(Delivered<'a>, u32)> {
        let now = whole_seconds(self.clock.now());
        let (tenant, report) = (&snapshot.tenant, plan.report(now));
        let (mut delivered, mut failed, mut attempts) = (None, None, 0);
        for key in plan.signing_keys() {
            let (token, body) = match self.sign(tenant, key, &report).await {
                Ok(signed) => signed,
                Err(error) => {
                    tracing::error!(
                        tenant.id = %plan.id(),
                        tick = %plan.tick(),
                        key.id = %key.public.kid(),
                        error = %ErrorChain(&error),
                        "a tenant's key cannot sign"
                    );
                    if matches!(error, KeyError::Mismatch) {
                        failed = Some((key, KeyFailure::Unusable));
                    }
                    continue;
                }
            };
            let left = (end - SETTLING_TIME).saturating_duration_since(Instant::now());
            let retry_policy =
                RetryPolicy { total: RetryPolicy::UPDATE.total.min(left), ..RetryPolicy::UPDATE };
            let callback = Callback {
                trigger: &tenant.web_trigger().url,
                token: &token,
                body: &body,
                is_expected: snapshot.failures.failing_since.is_none(),
            };
            let (response, made) = deliver(&self.callbacks, callback, retry_policy, plan.id().seed()).await;
            attempts += made;
            let is_final = !key_rotation::may_be_the_key(&response);
            delivered = Some(Delivered { response, signer: key, failed, now });
            if is_final {
                break;
            }
            failed = Some((key, KeyFailure::NotTrusted));
        }
        Some((delivered?, attempts))
    }

    async fn sign(
        &self,
        tenant: &Tenant,
        key: &TenantKey,
        report: &Update<'_>,
    ) -> Result<(String, Vec<u8>), KeyError> {
        let key = self.keys.key(tenant, key, report.sent_at).await?;
        let body = serde_json::to_vec(report).map_err(|error| KeyError::Refused(Box::new(error)))?;
        let jti = format!("{}.{}", report.tenant_id, report.tick);
        let subject =
            Subject { cloud_id: report.cloud_id, tenant_id: report.tenant_id, scope: "health:update" };
        let claims = CallbackClaims::new(&self.settings.issuer, subject, jti, &body, report.sent_at);
        let token = jws::sign("forge-callback+jwt", &claims, key.as_ref()).await?;
        Ok((token, body))
    }

    async fn apply(
        &self,
        snapshot: &TenantSnapshot,
        plan: &TickPlan<'_>,
        effect: Effect,
    ) -> Result<(), StoreError> {
        let (id, tick, tenant) = (plan.id(), plan.tick(), &snapshot.tenant);
        match effect {
            Effect::Acknowledge => self.store.acknowledge(id, tick).await,
            Effect::Mark(status) => self.store.mark(tenant, status).await.map(drop),
            Effect::RecordFailures(failures) => {
                self.store.record_failures(id, snapshot.failures, failures).await
            }
            Effect::Revive => {
                if self.store.suspend(tenant, &service_ids(snapshot), None).await? == WriteOutcome::Applied {
                    tracing::info!(tenant.id = %id, "the app answers again; the tenant is checked from now on");
                }
                Ok(())
            }
            Effect::RecordNextKeyResponse(next) => match &tenant.web_trigger().next_key {
                Some(found) => self.store.record_next_key_response(id, found, &next).await,
                None => Ok(()),
            },
            Effect::PromoteNextKey(next) => {
                // An eventually consistent read may bring this here once more.
                if self.store.promote_next_key(tenant, &next).await? == WriteOutcome::Applied {
                    let kid = next.key.public.kid();
                    tracing::info!(tenant.id = %id, %tick, key.id = %kid, "tenant key replaced");
                }
                Ok(())
            }
        }
    }

    /// Publishes this tick's transitions on the bus. Best effort: the Forge app gets them with the report.
    async fn announce(&self, snapshot: &TenantSnapshot, plan: &TickPlan<'_>) {
        let changes: Vec<_> = plan
            .transitions()
            .map(|(service_name, transition)| StatusChanged {
                cloud_id: snapshot.tenant.cloud_id.clone(),
                tenant_id: plan.id().clone(),
                service_name: service_name.clone(),
                transition: transition.clone(),
            })
            .collect();
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.bus.changes(&changes).await {
            let (id, tick) = (plan.id(), plan.tick());
            tracing::warn!(tenant.id = %id, %tick, error = %ErrorChain(&error), "changes of status could not be announced");
        }
    }
}

impl Done {
    fn unsent(plan: &TickPlan<'_>) -> Self {
        Self {
            counts: plan.counts(),
            response: None,
            attempts: 0,
            next_key_refused: false,
            unreachable: None,
        }
    }
}

fn service_ids(snapshot: &TenantSnapshot) -> Vec<ServiceId> {
    snapshot.services.iter().map(|service| service.id.clone()).collect()
}

/// A tenant's one line per tick, if its app was asked.
fn log_checked(plan: &TickPlan<'_>, done: &Done) {
    let Some(response) = &done.response else { return };
    tracing::info!(
        tenant.id = %plan.id(),
        tick = %plan.tick(),
        services = done.counts.services,
        services.not_alive = done.counts.not_alive,
        services.suppressed = done.counts.suppressed,
        services.unseen = done.counts.unseen,
        transitions = plan.state.transitions.len(),
        callback.response = response.name(),
        callback.attempts = done.attempts,
        "tenant checked"
    );
}

fn log_response(plan: &TickPlan<'_>, response: &CallbackResponse, next_key: &NextKeyOutcome) {
    let (id, tick): (&TenantId, Tick) = (plan.id(), plan.tick());
    match response {
        accepted if accepted.is_acceptance() => {}
        refusal if refusal.is_refusal() => {
            tracing::error!(tenant.id = %id, %tick, callback.response = response.name(), "the app refuses our callback");
        }
        CallbackResponse::Platform { status, .. } => {
            tracing::warn!(tenant.id = %id, %tick, callback.http_status = status, "no answer of the app's own");
        }
        _ => {
            tracing::warn!(tenant.id = %id, %tick, callback.response = response.name(), "callback not accepted");
        }
    }
    match next_key {
        NextKeyOutcome::Refused(next) => {
            let kid = next.key.public.kid();
            tracing::error!(tenant.id = %id, %tick, key.id = %kid, "the app refuses its next key; reports go on under the present one");
        }
        NextKeyOutcome::Unusable(next) => {
            let kid = next.key.public.kid();
            tracing::error!(tenant.id = %id, %tick, key.id = %kid, "the next key is unusable; reports go on under the present one");
        }
        NextKeyOutcome::Nothing | NextKeyOutcome::Accepted(_) | NextKeyOutcome::Settled(_) => {}
    }
}
