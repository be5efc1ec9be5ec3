//! What a tick makes of its findings. Pure and total: (state, findings) -> (state, transitions).
//!
//! Not here: errors (a check that fails is data), time (the observation says when), and storage.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::check::Observation;
use crate::id::ServiceId;
use crate::service::{LONGEST_MEMORY, Lifecycle, Service, Thresholds};
use crate::tick::{Period, Tick};

/// What a Jira user sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Answers as expected.
    Alive,
    /// Does not, confirmed by further attempts.
    Down,
    /// Not checked, by the owner's wish.
    Paused,
    /// Nothing is known: no check yet, no failure that counts, or not checked for several ticks.
    Unknown,
}

/// What a tick found out about one service. A service without a finding is unseen: no attempt ended in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The service answered as expected, or its failure is confirmed.
    Verdict(Observation),
    /// The first attempt failed, and there was no time to confirm that.
    Unconfirmed(Observation),
    /// The failure is confirmed, but the network of this backend is down: it says nothing about the service.
    Suppressed(Observation),
}

impl Finding {
    /// What the last attempt saw.
    #[must_use]
    pub fn observation(&self) -> &Observation {
        match self {
            Self::Verdict(seen) | Self::Unconfirmed(seen) | Self::Suppressed(seen) => seen,
        }
    }
}

/// How a failed first attempt is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// Not at all: the service is known to be down.
    NotNeeded,
    /// By the tick before, whose first attempt failed too and could not be confirmed in time.
    Carried,
    /// By further attempts in this tick.
    Attempts,
}

/// A service's status, when it began, and what the next ticks need to know of the last ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceStatus {
    /// The status.
    pub status: Status,
    /// When it began.
    pub since: Timestamp,
    /// When the service that was observed was registered. Another one with the same URL is another service.
    pub created_at: Timestamp,
    /// The last checks, for thresholds; empty for a service that needs no history.
    pub history: History,
    /// For how many ticks in a row its verdict was suppressed.
    pub suppressed: u8,
    /// How many ticks in a row brought no verdict: no attempt, or one that was not confirmed.
    pub unseen: u8,
    /// The tick whose first attempt failed without being confirmed.
    pub unconfirmed_at: Option<Tick>,
}

/// A verdict is suppressed for at most so many ticks in a row; then it counts, whatever the control endpoints say. An hour
/// at the default period: an outage of ours is over by then, or an operator must have a look.
pub const MAX_SUPPRESSED: u8 = 12;

/// After so many ticks in a row without a verdict `ALIVE` is not known any more. `DOWN` stays.
pub const MAX_UNSEEN: u8 = 3;

/// The last [`LONGEST_MEMORY`] checks of a service: the newest in the lowest bit, set when it failed. A tick without a
/// verdict leaves no trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct History(u8);

impl History {
    const MASK: u8 = (1 << LONGEST_MEMORY) - 1;

    /// From what was stored.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & Self::MASK)
    }

    /// For storing.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    fn with(self, failed: bool) -> Self {
        Self::from_bits(self.0 << 1 | u8::from(failed))
    }

    fn failed_among(self, checks: u8) -> u32 {
        (self.0 & ((1 << checks) - 1)).count_ones()
    }

    fn good_in_a_row(self) -> u32 {
        self.0.trailing_zeros()
    }
}

/// One change of status, kept until the Forge app has acknowledged it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// The tick that saw it.
    pub tick: Tick,
    /// Which service.
    pub service_id: ServiceId,
    /// The status before.
    pub from: Status,
    /// The status after.
    pub to: Status,
    /// When it was observed.
    pub at: Timestamp,
    /// A failure class, or `ok`, `paused`, `resumed`, `not-checked`.
    pub reason: String,
}

/// At most this many unacknowledged transitions are kept per tenant: 50 services that flip twice, about 15 KB of the
/// 400 KB that an item may have.
pub const MAX_TRANSITIONS: usize = 100;

/// What a tenant's STATE item holds, without its delivery record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// The last committed tick; `None` before the first.
    pub last_tick: Option<Tick>,
    /// Every transition up to this tick has been accepted by the Forge app.
    pub acked_tick: Option<Tick>,
    /// Status per service.
    pub services: BTreeMap<ServiceId, ServiceStatus>,
    /// Transitions later than `acked_tick`, oldest first, at most [`MAX_TRANSITIONS`].
    pub transitions: Vec<Transition>,
    /// How many older transitions were dropped because there was no room since `acked_tick`.
    pub transitions_dropped: u32,
}

/// The status that a service has before its first tick: what registration saw, also of one that is paused since. One failed
/// attempt is no proof, so it gives `UNKNOWN`, never `DOWN`.
#[must_use]
pub fn initial(service: &Service) -> ServiceStatus {
    let alive = service.first.as_ref().filter(|first| first.is_alive());
    let (status, since) = match alive {
        Some(first) => (Status::Alive, no_earlier(first.checked_at, service)),
        None => (Status::Unknown, service.created_at),
    };
    fresh(service, status, since)
}

/// A status that remembers nothing.
fn fresh(service: &Service, status: Status, since: Timestamp) -> ServiceStatus {
    ServiceStatus {
        status,
        since,
        created_at: service.created_at,
        history: History::default(),
        suppressed: 0,
        unseen: 0,
        unconfirmed_at: None,
    }
}

/// The moment, or when the service was registered if that is later.
fn no_earlier(moment: Timestamp, service: &Service) -> Timestamp {
    moment.max(service.created_at)
}

/// How a failed first attempt at `tick` is confirmed. With thresholds of its own every failure counts, so every one is
/// confirmed, also that of a service that is down.
#[must_use]
pub fn confirmation(state: &State, service: &Service, tick: Tick, period: Period) -> Confirmation {
    let before = current(state, service);
    if before.status == Status::Down && !service.thresholds.needs_history() {
        Confirmation::NotNeeded
    } else if service.lifecycle == Lifecycle::Active && is_carried(before, service, tick, period) {
        Confirmation::Carried
    } else {
        Confirmation::Attempts
    }
}

/// A carried failure counts at the very next tick and no later, and not after a pause, even one that no tick has seen.
fn is_carried(before: ServiceStatus, service: &Service, tick: Tick, period: Period) -> bool {
    before.unconfirmed_at.is_some_and(|failed_at| {
        let was_paused = service.resumed_at.is_some_and(|at| at >= failed_at.start());
        failed_at.next(period) == tick && !was_paused
    })
}

/// The status a service has in `state`. What was observed of another service with the same URL, removed since, counts for
/// nothing.
#[must_use]
pub fn current(state: &State, service: &Service) -> ServiceStatus {
    let stored = state.services.get(&service.id).filter(|stored| stored.created_at == service.created_at);
    stored.copied().unwrap_or_else(|| initial(service))
}

/// The services of a tenant at a tick.
#[derive(Debug, Clone, Copy)]
pub struct TenantServices<'a> {
    /// Those that are not pending. One that is neither here nor unreadable is gone from the state.
    pub services: &'a [Service],
    /// Those whose records cannot be read: their status stays as it is until the record is repaired.
    pub unreadable: &'a [ServiceId],
}

/// The state after `tick`. Transitions that were acknowledged are dropped.
#[must_use]
pub fn advance(
    state: &State,
    tick: Tick,
    services: TenantServices<'_>,
    findings: &BTreeMap<ServiceId, Finding>,
) -> State {
    let acknowledged =
        |transition: &Transition| state.acked_tick.is_some_and(|acked| transition.tick <= acked);
    let mut transitions: Vec<Transition> =
        state.transitions.iter().filter(|transition| !acknowledged(transition)).cloned().collect();
    let mut dropped = if transitions.len() < state.transitions.len() { 0 } else { state.transitions_dropped };

    let mut next = BTreeMap::new();
    for service in services.services {
        let before = current(state, service);
        let (after, reason) = after_tick(before, service, findings.get(&service.id), tick);
        if after.status != before.status {
            transitions.push(Transition {
                tick,
                service_id: service.id.clone(),
                from: before.status,
                to: after.status,
                at: after.since,
                reason: reason.to_owned(),
            });
        }
        next.insert(service.id.clone(), after);
    }
    for id in services.unreadable {
        next.extend(state.services.get(id).map(|kept| (id.clone(), *kept)));
    }

    let excess = transitions.len().saturating_sub(MAX_TRANSITIONS);
    transitions.drain(..excess);
    dropped = dropped.saturating_add(u32::try_from(excess).unwrap_or(u32::MAX));
    State {
        last_tick: Some(tick),
        acked_tick: state.acked_tick,
        services: next,
        transitions,
        transitions_dropped: dropped,
    }
}

/// Whether the report says that the service's verdict is suppressed: it failed, and its status says otherwise.
#[must_use]
pub fn is_suppressed(after: ServiceStatus, finding: Option<&Finding>) -> bool {
    matches!(finding, Some(Finding::Suppressed(_))) && matches!(after.status, Status::Alive | Status::Unknown)
}

/// A service's status after a tick, and the reason if it changed.
fn after_tick(
    before: ServiceStatus,
    service: &Service,
    finding: Option<&Finding>,
    tick: Tick,
) -> (ServiceStatus, &'static str) {
    let from_tick = |status| fresh(service, status, no_earlier(tick.start(), service));
    if service.lifecycle == Lifecycle::Paused {
        let paused = if before.status == Status::Paused { before } else { from_tick(Status::Paused) };
        return (paused, "paused");
    }
    // A pause ends as if the service were new; the checks from before it say nothing any more.
    let before = if before.status == Status::Paused { from_tick(Status::Unknown) } else { before };
    match finding {
        Some(Finding::Verdict(observation)) => judge(before, service, observation),
        Some(Finding::Suppressed(_)) => {
            let suppressed = before.suppressed.saturating_add(1);
            (ServiceStatus { suppressed, unseen: 0, unconfirmed_at: None, ..before }, "resumed")
        }
        Some(Finding::Unconfirmed(_)) => without_verdict(before, service, tick, Some(tick)),
        None => without_verdict(before, service, tick, None),
    }
}

/// A tick that brought no verdict, with the failure that the next one may confirm.
fn without_verdict(
    before: ServiceStatus,
    service: &Service,
    tick: Tick,
    unconfirmed_at: Option<Tick>,
) -> (ServiceStatus, &'static str) {
    let after = ServiceStatus { unseen: before.unseen.saturating_add(1), unconfirmed_at, ..before };
    if after.status == Status::Alive && after.unseen >= MAX_UNSEEN {
        let since = no_earlier(tick.start(), service);
        return (ServiceStatus { status: Status::Unknown, since, ..after }, "not-checked");
    }
    // Only a pause that ends changes the status here.
    (after, "resumed")
}

/// A check that counts.
fn judge(
    before: ServiceStatus,
    service: &Service,
    observation: &Observation,
) -> (ServiceStatus, &'static str) {
    let is_down = before.status == Status::Down;
    // Without a history what is down has failed last.
    let is_blank = is_down && before.history == History::default();
    let remembered = if is_blank { History::default().with(true) } else { before.history };
    let history = remembered.with(!observation.is_alive());
    let Thresholds { down_after, alive_after } = service.thresholds;
    let status = match observation.failure {
        None if is_down && history.good_in_a_row() < u32::from(alive_after.checks()) => Status::Down,
        None => Status::Alive,
        Some(_) if history.failed_among(down_after.of()) >= u32::from(down_after.failed()) => Status::Down,
        Some(_) => before.status,
    };
    let changed_at = no_earlier(observation.checked_at, service);
    let since = if status == before.status { before.since } else { changed_at };
    let history = if service.thresholds.needs_history() { history } else { History::default() };
    // Only a pause that ends can leave a reason of its own.
    let reason = match observation.failure {
        _ if status == Status::Unknown => "resumed",
        None => "ok",
        Some(failure) => failure.as_str(),
    };
    (ServiceStatus { history, ..fresh(service, status, since) }, reason)
}
