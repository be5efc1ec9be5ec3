//! One tenant at one tick: read, probe, commit, then send.
//!
//! A kill at any instant is safe: what was not committed is done by the next tick, what was not sent is carried by it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{join, ready};
use futures::stream;
use jiff::{SignedDuration, Timestamp};
use shared::callback::http::{Deliver, Patience, deliver};
use shared::callback::message::{Update, UpdatedService, VERSION};
use shared::callback::token::{self, CallbackClaims};
use shared::callback::{Answer, Code};
use shared::clock::{Clock, whole_seconds};
use shared::id::{ServiceId, TenantId};
use shared::key::{KeyError, TenantKey, UnwrapKey};
use shared::probe::{Observation, Probe, Share};
use shared::service::{Activity, Service};
use shared::status::hold::Around;
use shared::status::{self, State, Status};
use shared::store::{Checks, Committed, Deliveries, StoreError, Watched};
use shared::telemetry::Chain;
use shared::tenant::{NextKey, Tenant, TenantStatus};
use shared::tick::Tick;
use tokio::time::{Instant, timeout_at};

use crate::bus::Publish;
use crate::event::StatusChanged;
use crate::handover::{self, Failure, Verdict};
use crate::news;
use crate::vantage::Vantage;
use crate::{CheckServices, Round};

/// How many services of one tenant are under way at once. No tenant gets more sockets (`probe::turns`), so more would only
/// take memory.
const SERVICES_AT_ONCE: usize = 24;

/// How long a tenant's services are probed at most: what fifty services on one host that hangs take, which are asked 16 at
/// once, each three times for ten seconds. What was not seen by then keeps its status.
const PROBING_TIME: Duration = Duration::from_mins(2);

/// How much of a tenant's time is kept for committing and telling.
const CALLBACK_TIME: Duration = Duration::from_secs(15);

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
    /// What the app was told.
    pub told: Told,
    /// Checks that found a service alive.
    pub alive: usize,
    /// Checks that did not.
    pub not_alive: usize,
    /// All services.
    pub services: usize,
    /// Services whose verdict is held.
    pub held: usize,
    /// Whether the app refused the tenant's next key, or that is unusable, and accepted the present one.
    pub next_key_refused: bool,
    /// Whether the tenant has failed for so long that it is to be suspended, with its services.
    pub give_up: Option<Vec<ServiceId>>,
}

/// Whether an app was told of a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The update was sent.
    Answered(Answer),
    /// It could not be signed or may not be sent. The next tick carries it.
    NotSent,
    /// There was nothing to tell.
    NotNeeded,
}

/// What became of an update that was due.
struct Sent {
    told: Told,
    next_key_refused: bool,
    give_up: Option<Vec<ServiceId>>,
}

impl Sent {
    fn nothing(told: Told) -> Self {
        Self { told, next_key_refused: false, give_up: None }
    }
}

/// An app's answer to an update.
struct Delivered {
    answer: Answer,
    /// Requests that it took, over both keys.
    attempts: u32,
    verdict: Verdict,
}

/// What a tick saw of one tenant's services.
#[derive(Default)]
struct Seen {
    /// Per service that was checked.
    observations: BTreeMap<ServiceId, Observation>,
    /// Services whose failure is no evidence: most unrelated hosts failed with it.
    doubted: BTreeSet<ServiceId>,
}

impl Seen {
    fn not_alive(&self) -> usize {
        self.observations.values().filter(|observation| !observation.is_alive()).count()
    }

    /// Services whose verdict is held in `state`.
    fn held(&self, state: &State) -> usize {
        state.services.iter().filter(|(id, since)| status::is_held(**since, id, &self.doubted)).count()
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

        let seen = if suspended {
            Seen::default()
        } else {
            let until = (Instant::now() + PROBING_TIME).min(end - CALLBACK_TIME);
            self.observe_all(id, &watched, &round.vantage, until).await
        };
        let mut state =
            status::advance(&watched.state, tick, &watched.services, &seen.observations, &seen.doubted);
        let (mode, period) = (self.settings.callback_mode, self.settings.period);
        let is_due = news::is_due(mode, &watched, &state, tick, period);
        if is_due {
            state.quiet_until = news::quiet_until(mode, &watched.tenant, tick, period);
        }
        if self.store.commit(id, watched.state.last_tick, &state).await? == Committed::Overtaken {
            tracing::info!(tenant.id = %id, %tick, "another invocation has this tick");
            return Ok(Outcome::Overtaken);
        }
        let tell = async {
            if is_due {
                return self.send(id, &watched, &state, &seen, tick, end).await;
            }
            log_checked(id, tick, &state, &seen, "NOT_NEEDED", 0);
            Sent::nothing(Told::NotNeeded)
        };
        let (sent, ()) = join(tell, self.announce(id, &watched, &state, tick)).await;
        let not_alive = seen.not_alive();
        Ok(Outcome::Done(Done {
            told: sent.told,
            alive: seen.observations.len() - not_alive,
            not_alive,
            services: state.services.len(),
            held: seen.held(&state),
            next_key_refused: sent.next_key_refused,
            give_up: sent.give_up,
        }))
    }

    async fn observe_all(
        &self,
        id: &TenantId,
        watched: &Watched,
        vantage: &Vantage<'_, P>,
        until: Instant,
    ) -> Seen {
        let share = Share::default();
        let active = watched.services.iter().filter(|service| service.activity == Activity::Active);
        stream::iter(active)
            .map(async |service| {
                // Out of time is no observation, so no verdict.
                let observation = self.observe(id, &watched.state, service, vantage, &share);
                let observed = timeout_at(until, observation).await;
                let (observation, doubted) = observed.ok()?;
                if let Some(failure) = observation.failure {
                    tracing::info!(
                        tenant.id = %id,
                        service.id = %service.id,
                        probe.outcome = failure.as_str(),
                        probe.attempts = observation.attempts,
                        probe.response_time_ms = observation.response_time_ms,
                        verdict.doubted = doubted,
                        "service is not alive"
                    );
                }
                Some((service.id.clone(), observation, doubted))
            })
            .buffer_unordered(SERVICES_AT_ONCE)
            .filter_map(ready)
            .fold(Seen::default(), async |mut seen, (service, observation, doubted)| {
                if doubted {
                    seen.doubted.insert(service.clone());
                }
                seen.observations.insert(service, observation);
                seen
            })
            .await
    }

    /// One check, and whether its failure is doubted. A failure that would change the status is confirmed by further
    /// attempts, each on a fresh connection and a while later; one that succeeds is the verdict. Only what was alive
    /// before says anything about our own side.
    async fn observe(
        &self,
        id: &TenantId,
        state: &State,
        service: &Service,
        vantage: &Vantage<'_, P>,
        share: &Share,
    ) -> (Observation, bool) {
        let check = &service.check;
        let before = status::current(state, service);
        let was_down = before.status == Status::Down;
        let is_evidence = before.status == Status::Alive;
        let number = if is_evidence { vantage.begin(id, check) } else { vantage.here() };
        let attempt = async || {
            let observation = self.probe.probe(check, share).await;
            if is_evidence {
                vantage.note(number, observation.is_alive());
            }
            observation
        };
        let confirm = status::needs_confirmation(state, service);
        let waits: &[Duration] = if confirm { &self.settings.confirm_after } else { &[] };
        let mut around = Around::default();
        let mut observation = attempt().await;
        for (wait, attempts) in waits.iter().zip(2u8..) {
            if observation.is_alive() {
                break;
            }
            tokio::time::sleep(*wait).await;
            let is_last = usize::from(attempts) > waits.len();
            let look_around =
                async || if is_last && !was_down { vantage.look_around().await } else { around };
            let attempted;
            (attempted, around) = join(attempt(), look_around()).await;
            observation = Observation { attempts, ..attempted };
        }
        let doubted = !was_down && !observation.is_alive() && vantage.doubts(number, around, before.held);
        (observation, doubted)
    }

    async fn send(
        &self,
        id: &TenantId,
        watched: &Watched,
        state: &State,
        seen: &Seen,
        tick: Tick,
        end: Instant,
    ) -> Sent {
        let tenant = &watched.tenant;
        if self.settings.triggers.parse(tenant.trigger_url.as_str()).is_err() {
            tracing::error!(tenant.id = %id, %tick, "the stored trigger is not allowed (any more); nothing is sent there");
            self.carry(id, watched, state, tick).await;
            return Sent::nothing(Told::NotSent);
        }
        let now = whole_seconds(self.clock.now());
        let update = self.update(id, watched, state, seen, tick, now);
        let Some(delivered) = self.deliver(id, tenant, &update, tick, end, now).await else {
            self.carry(id, watched, state, tick).await;
            return Sent::nothing(Told::NotSent);
        };
        let Delivered { answer, attempts, verdict } = delivered;
        log_checked(id, tick, state, seen, answer.name(), attempts);
        let next_key_refused = matches!(verdict, Verdict::Refused(_) | Verdict::Unusable(_));
        let noted = self.note(id, tenant, tick, verdict).await;
        let settled = self.settle(id, watched, state, tick, &answer).await;
        let give_up = match noted.and(settled) {
            Ok(give_up) => {
                give_up.then(|| watched.services.iter().map(|service| service.id.clone()).collect())
            }
            Err(error) => {
                // What was to be noted is noted at the next tick: the app answers a repetition with DUPLICATE.
                tracing::error!(tenant.id = %id, %tick, error = %Chain(&error), "the app's answer could not be stored");
                None
            }
        };
        Sent { told: Told::Answered(answer), next_key_refused, give_up }
    }

    /// Sends `update` under the tenant's key; while another key follows it, under one of the two and then the other, if it
    /// is the first that the app does not trust. `None` when neither can sign.
    async fn deliver(
        &self,
        id: &TenantId,
        tenant: &Tenant,
        update: &Update<'_>,
        tick: Tick,
        end: Instant,
        now: Timestamp,
    ) -> Option<Delivered> {
        let (mut delivered, mut failed) = (None::<Delivered>, None);
        for key in handover::order(tenant, tick, self.settings.period) {
            let (token, body) = match self.sign(tenant, key, update, now).await {
                Ok(signed) => signed,
                Err(error) if tenant.next_key.is_some() => {
                    tracing::error!(tenant.id = %id, %tick, key.id = %key.public.kid(), error = %Chain(&error), "one of the tenant's two keys cannot sign");
                    if matches!(error, KeyError::Mismatch) {
                        failed = Some((key, Failure::Unusable));
                    }
                    continue;
                }
                Err(error) => {
                    tracing::error!(tenant.id = %id, %tick, error = %Chain(&error), "the update could not be signed; the next tick carries it");
                    continue;
                }
            };
            let left = end.saturating_duration_since(Instant::now());
            let patience = Patience { total: Patience::UPDATE.total.min(left), ..Patience::UPDATE };
            let (answer, attempts) =
                deliver(&self.callbacks, &tenant.trigger_url, &token, &body, patience, id.seed()).await;
            let verdict = handover::verdict(tenant, key, failed, &answer, tick);
            let attempts = attempts + delivered.map_or(0, |before| before.attempts);
            let is_final = !handover::may_be_the_key(&answer);
            delivered = Some(Delivered { answer, attempts, verdict });
            if is_final {
                break;
            }
            failed = Some((key, Failure::NotTrusted));
        }
        delivered
    }

    /// Stores what the answer says about the tenant's next key.
    async fn note(
        &self,
        id: &TenantId,
        tenant: &Tenant,
        tick: Tick,
        verdict: Verdict,
    ) -> Result<(), StoreError> {
        match verdict {
            Verdict::Nothing => {}
            Verdict::Accepted(next) => self.store.record_reception(id, &next).await?,
            Verdict::Settled(next) => {
                // An eventually consistent read may bring this here once more.
                if self.store.promote(tenant, &next).await? == Committed::Yes {
                    tracing::info!(tenant.id = %id, %tick, key.id = %next.key.public.kid(), "tenant key replaced");
                }
            }
            Verdict::Refused(next) => {
                tracing::error!(
                    tenant.id = %id,
                    %tick,
                    key.id = %next.key.public.kid(),
                    "the app refuses its next key; reports go on under the present one"
                );
                self.note_refusal(id, tenant, &next).await?;
            }
            Verdict::Unusable(next) => {
                tracing::error!(
                    tenant.id = %id,
                    %tick,
                    key.id = %next.key.public.kid(),
                    "the next key is unusable; reports go on under the present one"
                );
                self.note_refusal(id, tenant, &next).await?;
            }
        }
        Ok(())
    }

    /// Stores since when the next key does not do, unless that is known.
    async fn note_refusal(&self, id: &TenantId, tenant: &Tenant, next: &NextKey) -> Result<(), StoreError> {
        if tenant.next_key.as_ref() == Some(next) {
            return Ok(());
        }
        self.store.record_reception(id, next).await
    }

    /// What was not sent is sent at the next tick, also to an app that may wait for its heartbeat.
    async fn carry(&self, id: &TenantId, watched: &Watched, state: &State, tick: Tick) {
        if state.quiet_until.is_none() || watched.deliveries != Deliveries::default() {
            return;
        }
        let now = whole_seconds(self.clock.now());
        let deliveries = Deliveries { failing_since: Some(now), gone_since: None };
        if let Err(error) = self.store.record_deliveries(id, deliveries).await {
            tracing::error!(tenant.id = %id, %tick, error = %Chain(&error), "that nothing was sent could not be stored");
        }
    }

    /// Publishes this tick's transitions for whoever listens on the bus. Best effort: the Forge app is told by UPDATE.
    async fn announce(&self, id: &TenantId, watched: &Watched, state: &State, tick: Tick) {
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
            tracing::warn!(tenant.id = %id, %tick, error = %Chain(&error), "changes of status could not be announced");
        }
    }

    fn update<'a>(
        &self,
        id: &'a TenantId,
        watched: &'a Watched,
        state: &'a State,
        seen: &'a Seen,
        tick: Tick,
        now: Timestamp,
    ) -> Update<'a> {
        Update {
            version: VERSION,
            cloud_id: &watched.tenant.cloud_id,
            tenant_id: id,
            sent_at: now,
            tick,
            next_update_by: state
                .quiet_until
                .map(|until| news::next_update_by(now, tick, until, self.settings.period)),
            missed_ticks: news::missed_ticks(&watched.state, tick, self.settings.period),
            services: watched
                .services
                .iter()
                .map(|service| {
                    let current = status::current(state, service);
                    UpdatedService {
                        id: &service.id,
                        name: &service.name,
                        url: service.check.url.as_str(),
                        status: current.status,
                        since: current.since,
                        check: seen.observations.get(&service.id),
                        held: status::is_held(current, &service.id, &seen.doubted),
                    }
                })
                .collect(),
            transitions: &state.transitions,
            transitions_dropped: state.transitions_dropped,
            key_introduction: watched.tenant.next_key.as_ref().map(|next| next.introduction.as_str()),
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
        let token = token::sign("forge-callback+jwt", &claims, key.as_ref()).await?;
        Ok((token, body))
    }

    /// Stores what the answer changes; nothing in the steady state. Returns whether to give the tenant up.
    async fn settle(
        &self,
        id: &TenantId,
        watched: &Watched,
        state: &State,
        tick: Tick,
        answer: &Answer,
    ) -> Result<bool, StoreError> {
        let tenant_status = watched.tenant.status;
        let had_failed = watched.deliveries != Deliveries::default();
        if answer.is_acceptance() {
            // A tenant without services is looked at no more once its app knows that.
            if !state.transitions.is_empty() || had_failed || state.services.is_empty() {
                self.store.acknowledge(id, tick).await?;
            }
            match tenant_status {
                TenantStatus::Suspended => {
                    let services: Vec<_> =
                        watched.services.iter().map(|service| service.id.clone()).collect();
                    self.store.suspend(id, &services, None).await?;
                    tracing::info!(tenant.id = %id, "the app answers again; the tenant is checked from now on");
                }
                TenantStatus::Unregistered => self.store.mark(id, TenantStatus::Active).await?,
                TenantStatus::Active | TenantStatus::Pending => {}
            }
            return Ok(false);
        }

        Self::report(id, tick, answer);
        if *answer == Answer::App(Code::StaleTick) {
            // The app is there and trusts us; only our tick is behind what it knows.
            if had_failed {
                self.store.record_deliveries(id, Deliveries::default()).await?;
            }
            return Ok(false);
        }
        if *answer == Answer::App(Code::Unregistered) && tenant_status == TenantStatus::Active {
            self.store.mark(id, TenantStatus::Unregistered).await?;
        }
        let now = whole_seconds(self.clock.now());
        let deliveries = after_failure(watched.deliveries, answer, now);
        if deliveries != watched.deliveries {
            self.store.record_deliveries(id, deliveries).await?;
        }
        Ok(tenant_status != TenantStatus::Suspended && is_hopeless(deliveries, now))
    }

    fn report(id: &TenantId, tick: Tick, answer: &Answer) {
        match answer {
            refusal if refusal.is_refusal() => {
                tracing::error!(tenant.id = %id, %tick, callback.answer = answer.name(), "the app refuses our callback");
            }
            Answer::Platform { status, .. } => {
                tracing::warn!(tenant.id = %id, %tick, callback.http_status = status, "no answer of the app's own");
            }
            _ => {
                tracing::warn!(tenant.id = %id, %tick, callback.answer = answer.name(), "callback not accepted");
            }
        }
    }
}

/// A tenant's one line per tick.
fn log_checked(id: &TenantId, tick: Tick, state: &State, seen: &Seen, answer: &str, attempts: u32) {
    tracing::info!(
        tenant.id = %id,
        %tick,
        services = state.services.len(),
        services.not_alive = seen.not_alive(),
        services.held = seen.held(state),
        transitions = state.transitions.len(),
        callback.answer = answer,
        callback.attempts = attempts,
        "tenant checked"
    );
}

fn after_failure(before: Deliveries, answer: &Answer, now: Timestamp) -> Deliveries {
    Deliveries {
        failing_since: before.failing_since.or(Some(now)),
        gone_since: if answer.is_gone() { before.gone_since.or(Some(now)) } else { None },
    }
}

fn is_hopeless(deliveries: Deliveries, now: Timestamp) -> bool {
    let longer =
        |since: Option<Timestamp>, limit| since.is_some_and(|since| now.duration_since(since) >= limit);
    longer(deliveries.gone_since, GONE_FOR) || longer(deliveries.failing_since, FAILING_FOR)
}
