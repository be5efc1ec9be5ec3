//! A tick of one tenant as a plan: what is stored, sent and announced, and what follows from the app's response.
//!
//! Nothing here waits or fails. check-services reads, checks, stores and sends as the plan says.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::id::{ServiceId, TenantId};
use crate::key::TenantKey;
use crate::key_rotation::{self, KeyFailure, NextKeyOutcome};
use crate::report::{Update, UpdatedService, VERSION};
use crate::response::{CallbackResponse, ResponseCode};
use crate::service::{Service, ServiceName};
use crate::snapshot::{FailureStreak, TenantSnapshot};
use crate::status::{self, Finding, State, TenantServices, Transition};
use crate::tenant::{NextKey, TenantStatus};
use crate::tick::{Period, Tick};

/// A suspended tenant has one tick in this time.
const SUSPENDED_CYCLE: SignedDuration = SignedDuration::from_hours(24);

/// What is found per service; a service without a finding was not seen.
pub type Findings = BTreeMap<ServiceId, Finding>;

/// Which tick it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickContext {
    pub tick: Tick,
    pub period: Period,
}

/// Whether a tenant has its turn at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Its services are checked, and its app gets a report.
    Check,
    /// It is suspended: its app gets a report without checks, once a day.
    ReportOnly,
    /// It is suspended, and this tick is not its one of the day.
    Nothing,
    /// Another invocation has committed this tick or a later one.
    Past,
}

impl TickContext {
    pub fn turn(self, snapshot: &TenantSnapshot) -> Turn {
        if snapshot.state.last_tick.is_some_and(|last| last >= self.tick) {
            Turn::Past
        } else if snapshot.tenant.status != TenantStatus::Suspended {
            Turn::Check
        } else if self.tick.turn_from(snapshot.id().seed(), SUSPENDED_CYCLE, self.period) == self.tick {
            Turn::ReportOnly
        } else {
            Turn::Nothing
        }
    }

    pub fn plan<'a>(self, snapshot: &'a TenantSnapshot, findings: &'a Findings) -> TickPlan<'a> {
        let services = TenantServices { services: &snapshot.services, unreadable: &snapshot.unreadable };
        let state = status::advance(&snapshot.state, self.tick, services, findings);
        TickPlan { context: self, id: snapshot.id(), snapshot, findings, state }
    }
}

/// What a tick does to one tenant.
#[derive(Debug)]
pub struct TickPlan<'a> {
    context: TickContext,
    id: TenantId,
    snapshot: &'a TenantSnapshot,
    findings: &'a Findings,
    /// Stored before anything is sent, if the last committed tick is still the snapshot's.
    pub state: State,
}

/// How many services a tick saw in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All services.
    pub services: usize,
    /// Checks that found a service alive.
    pub alive: usize,
    /// Checks that did not.
    pub not_alive: usize,
    /// Services whose verdict is suppressed.
    pub suppressed: usize,
    /// Services on which this tick brought no verdict. None for a suspended tenant, which is not checked on purpose.
    pub unseen: usize,
    /// Services whose records cannot be read.
    pub unreadable: usize,
}

/// The response to the report of a tick.
#[derive(Debug)]
pub struct Delivered<'a> {
    pub response: CallbackResponse,
    /// The key that signed what was responded to.
    pub signer: &'a TenantKey,
    /// The key that was tried before it, and why it did not do.
    pub failed: Option<(&'a TenantKey, KeyFailure)>,
    pub now: Timestamp,
}

/// One thing to store after the response. Each is a conditional write of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Everything up to this tick has reached the app.
    Acknowledge,
    /// Its services are checked again, and nothing of it expires.
    Revive,
    Mark(TenantStatus),
    RecordFailures(FailureStreak),
    RecordNextKeyResponse(NextKey),
    PromoteNextKey(NextKey),
}

/// What follows from a response.
#[derive(Debug, PartialEq, Eq)]
pub struct Aftermath {
    /// In this order. Nothing in the steady state.
    pub effects: Vec<Effect>,
    pub next_key: NextKeyOutcome,
    /// Whether the tenant has failed for long enough to be suspended.
    pub is_unreachable: bool,
}

impl<'a> TickPlan<'a> {
    pub fn id(&self) -> &TenantId {
        &self.id
    }

    pub fn tick(&self) -> Tick {
        self.context.tick
    }

    pub fn counts(&self) -> Counts {
        let alive = self.findings.values().filter(|finding| finding.observation().is_alive()).count();
        let is_suppressed = |finding: &&Finding| matches!(finding, Finding::Suppressed(_));
        let is_unseen = |service: &&Service| status::current(&self.state, service).unseen > 0;
        let is_checked = self.snapshot.tenant.status != TenantStatus::Suspended;
        Counts {
            services: self.state.services.len(),
            alive,
            not_alive: self.findings.len() - alive,
            suppressed: self.findings.values().filter(is_suppressed).count(),
            unseen: if is_checked { self.snapshot.services.iter().filter(is_unseen).count() } else { 0 },
            unreadable: self.snapshot.unreadable.len(),
        }
    }

    /// This tick's transitions, with the names of their services.
    pub fn transitions(&self) -> impl Iterator<Item = (&'a ServiceName, &Transition)> {
        let of_this_tick = self.state.transitions.iter().filter(|transition| transition.tick == self.tick());
        of_this_tick.filter_map(|transition| {
            let mut services = self.snapshot.services.iter();
            let service = services.find(|service| service.id == transition.service_id)?;
            Some((&service.name, transition))
        })
    }

    /// The report, made at `now` (whole seconds).
    pub fn report(&self, now: Timestamp) -> Update<'_> {
        let TickContext { tick, period } = self.context;
        let tenant = &self.snapshot.tenant;
        Update {
            version: VERSION,
            cloud_id: &tenant.cloud_id,
            tenant_id: &self.id,
            sent_at: now,
            tick,
            // The next tick repeats a report that was not accepted.
            next_update_by: now + period.duration() * 2,
            period_s: period.duration().as_secs(),
            missed_ticks: self.missed_ticks(),
            services: self.snapshot.services.iter().map(|service| self.reported(service)).collect(),
            transitions: &self.state.transitions,
            transitions_dropped: self.state.transitions_dropped,
            key_endorsement: tenant.web_trigger().next_key.as_ref().map(|next| next.endorsement.as_str()),
        }
    }

    fn reported<'b>(&'b self, service: &'b Service) -> UpdatedService<'b> {
        let current = status::current(&self.state, service);
        let finding = self.findings.get(&service.id);
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
    }

    /// How many ticks before this one did not check the tenant; none while it had no services.
    fn missed_ticks(&self) -> u32 {
        let before = &self.snapshot.state;
        let last = before.last_tick.filter(|_| !before.services.is_empty());
        last.map_or(0, |last| self.tick().missed_since(last, self.context.period))
    }

    /// The tenant's keys in the order in which they are tried.
    pub fn signing_keys(&self) -> impl Iterator<Item = &'a TenantKey> {
        key_rotation::order(&self.snapshot.tenant, self.context.tick, self.context.period)
    }

    /// What is to be stored now that the app has responded.
    pub fn after(&self, delivered: &Delivered<'_>) -> Aftermath {
        let Delivered { response, signer, failed, now } = delivered;
        let tenant = &self.snapshot.tenant;
        let next_key = key_rotation::judge_next_key(tenant, signer, *failed, response, self.tick());
        let mut effects = self.next_key_effects(&next_key);
        let before = self.snapshot.failures;
        let mut is_unreachable = false;
        if response.is_acceptance() {
            // A tenant without services is looked at no more once its app knows that.
            let is_news = !self.state.transitions.is_empty() || self.state.services.is_empty();
            if is_news || before != FailureStreak::default() {
                effects.push(Effect::Acknowledge);
            }
            match tenant.status {
                TenantStatus::Suspended => effects.push(Effect::Revive),
                TenantStatus::Unregistered => effects.push(Effect::Mark(TenantStatus::Active)),
                TenantStatus::Active | TenantStatus::Pending => {}
            }
        } else if *response == CallbackResponse::App(ResponseCode::StaleTick) {
            // The app is there and trusts us; only our tick is behind what it knows.
            effects.extend(self.failures_effect(FailureStreak::default()));
        } else {
            let is_unregistered = *response == CallbackResponse::App(ResponseCode::Unregistered);
            if is_unregistered && tenant.status == TenantStatus::Active {
                effects.push(Effect::Mark(TenantStatus::Unregistered));
            }
            let failures = before.after(response, *now);
            effects.extend(self.failures_effect(failures));
            is_unreachable = tenant.status != TenantStatus::Suspended && failures.is_unreachable(*now);
        }
        Aftermath { effects, next_key, is_unreachable }
    }

    fn failures_effect(&self, failures: FailureStreak) -> Option<Effect> {
        (failures != self.snapshot.failures).then_some(Effect::RecordFailures(failures))
    }

    fn next_key_effects(&self, verdict: &NextKeyOutcome) -> Vec<Effect> {
        match verdict {
            NextKeyOutcome::Nothing => vec![],
            NextKeyOutcome::Accepted(next) => vec![Effect::RecordNextKeyResponse(next.clone())],
            NextKeyOutcome::Settled(next) => vec![Effect::PromoteNextKey(next.clone())],
            NextKeyOutcome::Refused(next) | NextKeyOutcome::Unusable(next) => {
                let is_new = self.snapshot.tenant.web_trigger().next_key.as_ref() != Some(next);
                is_new.then(|| Effect::RecordNextKeyResponse(next.clone())).into_iter().collect()
            }
        }
    }
}
