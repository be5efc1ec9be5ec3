//! One tenant at one tick: read, probe, commit, then send.
//!
//! A kill at any instant is safe: what was not committed is done by the next tick, what was not sent is carried by it.

use std::time::Duration;

use aws::store::{Checks, FailureStreak, StoreError, TenantSnapshot, WriteOutcome};
use aws::telemetry::ErrorChain;
use callback::{Deliver, RetryPolicy, deliver};
use domain::clock::{Clock, whole_seconds};
use domain::id::{ServiceId, TenantId};
use domain::jws::{self, CallbackClaims};
use domain::key::{KeyError, TenantKey, UnwrapKey};
use domain::report::{Update, UpdatedService, VERSION};
use domain::response::{CallbackResponse, ResponseCode};
use domain::service::Service;
use domain::status::{self, Finding, State, TenantServices};
use domain::tenant::{NextKey, Tenant, TenantStatus};
use domain::tick::{Period, Tick};
use futures::future::join;
use jiff::{SignedDuration, Timestamp};
use probe::Probe;
use tokio::time::{Instant, timeout_at};

use crate::bus::Publish;
use crate::event::StatusChanged;
use crate::key_rotation::{self, KeyFailure, NextKeyVerdict};
use crate::observe::{Findings, observe_all};
use crate::{CheckServices, Round};

/// How much of a tenant's time is kept for committing and for the report.
const CALLBACK_TIME: Duration = Duration::from_secs(15);

/// How much of that is kept for storing what the response changes.
const SETTLING_TIME: Duration = Duration::from_secs(2);

/// A suspended tenant has one tick in so long.
const SUSPENDED_CYCLE: SignedDuration = SignedDuration::from_hours(24);

/// A trigger that answers 404 or 410 for so long is gone.
const GONE_FOR: SignedDuration = SignedDuration::from_hours(24);
/// A trigger that accepts nothing for so long is given up.
const FAILING_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What became of a tenant at a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Committed, and sent if it could be.
    Done(Done),
    /// Another invocation has this tick, or a later one.
    Overtaken,
    /// Gone, without services, or suspended and not due today.
    Nothing,
}

/// A tenant whose tick is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The app's response to the report.
    pub reported: Reported,
    /// Checks that found a service alive.
    pub alive: usize,
    /// Checks that did not.
    pub not_alive: usize,
    /// All services.
    pub services: usize,
    /// Services whose verdict is suppressed.
    pub suppressed: usize,
    /// Services on which this tick brought no verdict.
    pub unseen: usize,
    /// Services whose records cannot be read.
    pub unreadable: usize,
    /// Whether the app refused the tenant's next key, or that is unusable, and accepted the present one.
    pub next_key_refused: bool,
    /// A tenant that is to be suspended, since it has failed for so long, with its services.
    pub unreachable: Option<Box<(Tenant, Vec<ServiceId>)>>,
}

/// Whether an app got the report of a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// It was sent.
    Answered(CallbackResponse),
    /// It could not be signed, may not be sent, or there was no time. The next tick carries it.
    NotSent,
}

/// What became of a report.
struct Sent {
    reported: Reported,
    /// Requests that the answer took, over both keys.
    attempts: u32,
    next_key_refused: bool,
    is_unreachable: bool,
}

impl Sent {
    fn nothing() -> Self {
        Self { reported: Reported::NotSent, attempts: 0, next_key_refused: false, is_unreachable: false }
    }
}

/// An app's answer to an update.
struct Delivered {
    answer: CallbackResponse,
    /// Requests that it took, over both keys.
    attempts: u32,
    verdict: NextKeyVerdict,
}

/// How many services a tick saw in which way.
#[derive(Clone, Copy)]
struct Counts {
    alive: usize,
    not_alive: usize,
    suppressed: usize,
    unseen: usize,
}

impl Counts {
    fn of(watched: &TenantSnapshot, findings: &Findings, state: &State) -> Self {
        let alive = findings.values().filter(|finding| finding.observation().is_alive()).count();
        let is_suppressed = |finding: &&Finding| matches!(finding, Finding::Suppressed(_));
        let is_unseen = |service: &&Service| status::current(state, service).unseen > 0;
        // A suspended tenant is not checked on purpose.
        let is_checked = watched.tenant.status != TenantStatus::Suspended;
        Self {
            alive,
            not_alive: findings.len() - alive,
            suppressed: findings.values().filter(is_suppressed).count(),
            unseen: if is_checked { watched.services.iter().filter(is_unseen).count() } else { 0 },
        }
    }
}

impl<S, U, K, P, B, C> CheckServices<S, U, K, P, B, C>
where
    S: Checks,
    U: UnwrapKey,
    K: Deliver,
    P: Probe,
    B: Publish,
    C: Clock,
{
    /// Steps 3 to 5 of a tick.
    pub(crate) async fn check_tenant(
        &self,
        id: &TenantId,
        round: &Round<'_, P>,
    ) -> Result<Outcome, StoreError> {
        let (tick, end) = (round.tick, round.end);
        let Some(watched) = self.store.load(id, self.clock.now()).await? else { return Ok(Outcome::Nothing) };
        if watched.state.last_tick.is_some_and(|last| last >= tick) {
            return Ok(Outcome::Overtaken);
        }
        let suspended = watched.tenant.status == TenantStatus::Suspended;
        if suspended && tick.turn_from(id.seed(), SUSPENDED_CYCLE, self.settings.period) != tick {
            return Ok(Outcome::Nothing);
        }

        let findings = if suspended {
            Findings::new()
        } else {
            observe_all(round, id, &watched, end - CALLBACK_TIME).await
        };
        let services = TenantServices { services: &watched.services, unreadable: &watched.unreadable };
        let state = status::advance(&watched.state, tick, services, &findings);
        if self.store.commit(id, watched.state.last_tick, &state).await? == WriteOutcome::Conflict {
            tracing::info!(tenant.id = %id, %tick, "another invocation has this tick");
            return Ok(Outcome::Overtaken);
        }
        let counts = Counts::of(&watched, &findings, &state);
        let report = timeout_at(end, self.send(id, &watched, &state, &findings, tick, end));
        let announce = timeout_at(end, self.announce(id, &watched, &state, tick));
        let (sent, _) = join(report, announce).await;
        let sent = sent.unwrap_or_else(|_| {
            tracing::error!(tenant.id = %id, %tick, "out of time for the report; the next tick carries it");
            Sent::nothing()
        });
        log_checked(id, tick, &state, counts, &sent);
        let unreachable = sent.is_unreachable.then(|| {
            let services = watched.services.iter().map(|service| service.id.clone()).collect();
            Box::new((watched.tenant, services))
        });
        Ok(Outcome::Done(Done {
            reported: sent.reported,
            alive: counts.alive,
            not_alive: counts.not_alive,
            services: state.services.len(),
            suppressed: counts.suppressed,
            unseen: counts.unseen,
            unreadable: watched.unreadable.len(),
            next_key_refused: sent.next_key_refused,
            unreachable,
        }))
    }

    async fn send(
        &self,
        id: &TenantId,
        watched: &TenantSnapshot,
        state: &State,
        findings: &Findings,
        tick: Tick,
        end: Instant,
    ) -> Sent {
        let tenant = &watched.tenant;
        if self.settings.triggers.parse(tenant.trigger_url.as_str()).is_err() {
            tracing::error!(tenant.id = %id, %tick, "the stored trigger is not allowed (any more); nothing is sent there");
            return Sent::nothing();
        }
        let now = whole_seconds(self.clock.now());
        let update = self.update(id, watched, state, findings, tick, now);
        let Some(delivered) = self.deliver(watched, &update, tick, end, now).await else {
            return Sent::nothing();
        };
        let Delivered { answer, attempts, verdict } = delivered;
        let next_key_refused = matches!(verdict, NextKeyVerdict::Refused(_) | NextKeyVerdict::Unusable(_));
        let noted = self.note(id, tenant, tick, verdict).await;
        let settled = self.settle(id, watched, state, tick, &answer).await;
        let is_unreachable = noted.and(settled).unwrap_or_else(|error| {
            // What was to be noted is noted at the next tick: the app answers a repetition with DUPLICATE.
            tracing::error!(tenant.id = %id, %tick, error = %ErrorChain(&error), "the app's response could not be stored");
            false
        });
        Sent { reported: Reported::Answered(answer), attempts, next_key_refused, is_unreachable }
    }

    /// Sends `update` under the tenant's key; while another key follows it, under one of the two and then the other, if it
    /// is the first that the app does not trust. `None` when neither can sign.
    async fn deliver(
        &self,
        watched: &TenantSnapshot,
        update: &Update<'_>,
        tick: Tick,
        end: Instant,
        now: Timestamp,
    ) -> Option<Delivered> {
        let (tenant, id) = (&watched.tenant, update.tenant_id);
        let (mut delivered, mut failed) = (None::<Delivered>, None);
        for key in key_rotation::order(tenant, tick, self.settings.period) {
            let (token, body) = match self.sign(tenant, key, update, now).await {
                Ok(signed) => signed,
                Err(error) if tenant.next_key.is_some() => {
                    tracing::error!(tenant.id = %id, %tick, key.id = %key.public.kid(), error = %ErrorChain(&error), "one of the tenant's two keys cannot sign");
                    if matches!(error, KeyError::Mismatch) {
                        failed = Some((key, KeyFailure::Unusable));
                    }
                    continue;
                }
                Err(error) => {
                    tracing::error!(tenant.id = %id, %tick, error = %ErrorChain(&error), "the update could not be signed; the next tick carries it");
                    continue;
                }
            };
            let left = (end - SETTLING_TIME).saturating_duration_since(Instant::now());
            let retry_policy = RetryPolicy {
                total: RetryPolicy::UPDATE.total.min(left),
                is_expected: watched.failures.failing_since.is_none(),
                ..RetryPolicy::UPDATE
            };
            let (answer, attempts) =
                deliver(&self.callbacks, &tenant.trigger_url, &token, &body, retry_policy, id.seed()).await;
            let verdict = key_rotation::verdict(tenant, key, failed, &answer, tick);
            let attempts = attempts + delivered.map_or(0, |before| before.attempts);
            let is_final = !key_rotation::may_be_the_key(&answer);
            delivered = Some(Delivered { answer, attempts, verdict });
            if is_final {
                break;
            }
            failed = Some((key, KeyFailure::NotTrusted));
        }
        delivered
    }

    /// Stores what the answer says about the tenant's next key.
    async fn note(
        &self,
        id: &TenantId,
        tenant: &Tenant,
        tick: Tick,
        verdict: NextKeyVerdict,
    ) -> Result<(), StoreError> {
        let Some(found) = &tenant.next_key else { return Ok(()) };
        match verdict {
            NextKeyVerdict::Nothing => {}
            NextKeyVerdict::Accepted(next) => self.store.record_next_key_response(id, found, &next).await?,
            NextKeyVerdict::Settled(next) => {
                // An eventually consistent read may bring this here once more.
                if self.store.promote_next_key(tenant, &next).await? == WriteOutcome::Applied {
                    tracing::info!(tenant.id = %id, %tick, key.id = %next.key.public.kid(), "tenant key replaced");
                }
            }
            NextKeyVerdict::Refused(next) => {
                tracing::error!(
                    tenant.id = %id,
                    %tick,
                    key.id = %next.key.public.kid(),
                    "the app refuses its next key; reports go on under the present one"
                );
                self.record_refusal(id, found, &next).await?;
            }
            NextKeyVerdict::Unusable(next) => {
                tracing::error!(
                    tenant.id = %id,
                    %tick,
                    key.id = %next.key.public.kid(),
                    "the next key is unusable; reports go on under the present one"
                );
                self.record_refusal(id, found, &next).await?;
            }
        }
        Ok(())
    }

    /// Stores since when the next key does not do, unless that is known.
    async fn record_refusal(&self, id: &TenantId, found: &NextKey, next: &NextKey) -> Result<(), StoreError> {
        if found == next {
            return Ok(());
        }
        self.store.record_next_key_response(id, found, next).await
    }

    /// Publishes this tick's transitions on the bus. Best effort: the Forge app gets them with the report.
    async fn announce(&self, id: &TenantId, watched: &TenantSnapshot, state: &State, tick: Tick) {
        let changes: Vec<_> = state
            .transitions
            .iter()
            .filter(|transition| transition.tick == tick)
            .filter_map(|transition| {
                let service = watched.services.iter().find(|service| service.id == transition.service_id)?;
                Some(StatusChanged {
                    cloud_id: watched.tenant.cloud_id.clone(),
                    tenant_id: id.clone(),
                    service_name: service.name.clone(),
                    transition: transition.clone(),
                })
            })
            .collect();
        if changes.is_empty() {
            return;
        }
        if let Err(error) = self.bus.changes(&changes).await {
            tracing::warn!(tenant.id = %id, %tick, error = %ErrorChain(&error), "changes of status could not be announced");
        }
    }

    fn update<'a>(
        &self,
        id: &'a TenantId,
        watched: &'a TenantSnapshot,
        state: &'a State,
        findings: &'a Findings,
        tick: Tick,
        now: Timestamp,
    ) -> Update<'a> {
        Update {
            version: VERSION,
            cloud_id: &watched.tenant.cloud_id,
            tenant_id: id,
            sent_at: now,
            tick,
            // The next tick repeats a report that was not accepted.
            next_update_by: now + self.settings.period.duration() * 2,
            period_s: self.settings.period.duration().as_secs(),
            missed_ticks: missed_ticks(&watched.state, tick, self.settings.period),
            services: watched
                .services
                .iter()
                .map(|service| {
                    let current = status::current(state, service);
                    let finding = findings.get(&service.id);
                    UpdatedService {
                        id: &service.id,
                        name: &service.name,
                        url: service.check.url.as_str(),
                        added_by: &service.owner,
                        status: current.status,
                        since: current.since,
                        check: finding.map(Finding::observation),
                        held: status::is_suppressed(current, finding),
                        unseen_ticks: (current.unseen > 0).then_some(current.unseen),
                    }
                })
                .collect(),
            transitions: &state.transitions,
            transitions_dropped: state.transitions_dropped,
            key_endorsement: watched.tenant.next_key.as_ref().map(|next| next.endorsement.as_str()),
        }
    }

    async fn sign(
        &self,
        tenant: &Tenant,
        key: &TenantKey,
        update: &Update<'_>,
        now: Timestamp,
    ) -> Result<(String, Vec<u8>), KeyError> {
        let key = self.keys.key(tenant, key, now).await?;
        let body = serde_json::to_vec(update).map_err(|error| KeyError::Refused(Box::new(error)))?;
        let ids = (update.cloud_id, update.tenant_id);
        let jti = format!("{}.{}", update.tenant_id, update.tick);
        let claims = CallbackClaims::new(&self.settings.issuer, ids, "health:update", jti, &body, now);
        let token = jws::sign("forge-callback+jwt", &claims, key.as_ref()).await?;
        Ok((token, body))
    }

    /// Stores what the response changes; nothing in the steady state. Returns whether to suspend the tenant.
    async fn settle(
        &self,
        id: &TenantId,
        watched: &TenantSnapshot,
        state: &State,
        tick: Tick,
        answer: &CallbackResponse,
    ) -> Result<bool, StoreError> {
        let tenant_status = watched.tenant.status;
        let had_failed = watched.failures != FailureStreak::default();
        if answer.is_acceptance() {
            // A tenant without services is looked at no more once its app knows that.
            if !state.transitions.is_empty() || had_failed || state.services.is_empty() {
                self.store.acknowledge(id, tick).await?;
            }
            match tenant_status {
                TenantStatus::Suspended => {
                    let services: Vec<_> =
                        watched.services.iter().map(|service| service.id.clone()).collect();
                    if self.store.suspend(&watched.tenant, &services, None).await? == WriteOutcome::Applied {
                        tracing::info!(tenant.id = %id, "the app answers again; the tenant is checked from now on");
                    }
                }
                TenantStatus::Unregistered => {
                    self.store.mark(&watched.tenant, TenantStatus::Active).await?;
                }
                TenantStatus::Active | TenantStatus::Pending => {}
            }
            return Ok(false);
        }

        Self::report(id, tick, answer);
        if *answer == CallbackResponse::App(ResponseCode::StaleTick) {
            // The app is there and trusts us; only our tick is behind what it knows.
            if had_failed {
                self.store.record_failures(id, watched.failures, FailureStreak::default()).await?;
            }
            return Ok(false);
        }
        if *answer == CallbackResponse::App(ResponseCode::Unregistered)
            && tenant_status == TenantStatus::Active
        {
            self.store.mark(&watched.tenant, TenantStatus::Unregistered).await?;
        }
        let now = whole_seconds(self.clock.now());
        let failures = after_failure(watched.failures, answer, now);
        if failures != watched.failures {
            self.store.record_failures(id, watched.failures, failures).await?;
        }
        Ok(tenant_status != TenantStatus::Suspended && is_unreachable(failures, now))
    }

    fn report(id: &TenantId, tick: Tick, answer: &CallbackResponse) {
        match answer {
            refusal if refusal.is_refusal() => {
                tracing::error!(tenant.id = %id, %tick, callback.answer = answer.name(), "the app refuses our callback");
            }
            CallbackResponse::Platform { status, .. } => {
                tracing::warn!(tenant.id = %id, %tick, callback.http_status = status, "no answer of the app's own");
            }
            _ => {
                tracing::warn!(tenant.id = %id, %tick, callback.answer = answer.name(), "callback not accepted");
            }
        }
    }
}

/// A tenant's one line per tick, if its app was asked.
fn log_checked(id: &TenantId, tick: Tick, state: &State, counts: Counts, sent: &Sent) {
    let Reported::Answered(answer) = &sent.reported else { return };
    tracing::info!(
        tenant.id = %id,
        %tick,
        services = state.services.len(),
        services.not_alive = counts.not_alive,
        services.suppressed = counts.suppressed,
        services.unseen = counts.unseen,
        transitions = state.transitions.len(),
        callback.answer = answer.name(),
        callback.attempts = sent.attempts,
        "tenant checked"
    );
}

/// How many ticks before this one did not check the tenant; none while it had no services.
fn missed_ticks(before: &State, tick: Tick, period: Period) -> u32 {
    let last = before.last_tick.filter(|_| !before.services.is_empty());
    last.map_or(0, |last| tick.missed_since(last, period))
}

fn after_failure(before: FailureStreak, answer: &CallbackResponse, now: Timestamp) -> FailureStreak {
    FailureStreak {
        failing_since: before.failing_since.or(Some(now)),
        gone_since: if answer.is_gone() { before.gone_since.or(Some(now)) } else { None },
    }
}

fn is_unreachable(failures: FailureStreak, now: Timestamp) -> bool {
    let longer =
        |since: Option<Timestamp>, limit| since.is_some_and(|since| now.duration_since(since) >= limit);
    longer(failures.gone_since, GONE_FOR) || longer(failures.failing_since, FAILING_FOR)
}
