//! What a tick makes of its observations. Pure and total: (state, observations) -> (state, transitions).
//!
//! [`hold`] decides whether a failure is evidence at all.
//!
//! Deliberately absent: errors (a check that fails is data), time (the observation says when), and storage.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::ServiceId;
use crate::probe::Observation;
use crate::service::{Activity, LONGEST_MEMORY, Service, Thresholds};
use crate::tick::Tick;

pub mod hold;

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
    /// Nothing is known yet: no check, or no failure that counts.
    Unknown,
}

/// A service's status and when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// The status.
    pub status: Status,
    /// When it began.
    pub since: Timestamp,
    /// The last checks, for thresholds; empty for a service that has the default ones.
    pub history: History,
    /// How many of its failures were doubted since the service last answered: [`hold`] bounds them.
    pub held: u8,
}

/// The last [`LONGEST_MEMORY`] checks of a service: the newest in the lowest bit, set when it failed. A tick that
/// brought no evidence leaves no trace.
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
    /// A failure class, or `ok`, `paused`, `resumed`.
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
    pub services: BTreeMap<ServiceId, Since>,
    /// Transitions later than `acked_tick`, oldest first, at most [`MAX_TRANSITIONS`].
    pub transitions: Vec<Transition>,
    /// How many older transitions were dropped for want of room since `acked_tick`.
    pub transitions_dropped: u32,
    /// Before this tick the app expects no report unless something changes; `None`: it expects one at every tick.
    pub quiet_until: Option<Tick>,
}

/// The status that a service has before its first tick: what registration saw, also of one that is paused since. One failed
/// attempt is no proof, so it gives `UNKNOWN`, never `DOWN`.
#[must_use]
pub fn initial(service: &Service) -> Since {
    let alive = service.first.as_ref().filter(|first| first.is_alive());
    let (status, since) = match alive {
        Some(first) => (Status::Alive, no_earlier(first.checked_at, service)),
        None => (Status::Unknown, service.created_at),
    };
    Since { status, since, history: History::default(), held: 0 }
}

/// The moment, or when the service was registered if that is later: what is older says nothing about it (see [`current`]).
fn no_earlier(moment: Timestamp, service: &Service) -> Timestamp {
    moment.max(service.created_at)
}

/// Whether a failure must be confirmed by further attempts before it may count: everything but a service that is
/// known to be down. With thresholds of its own every failure counts, so every one is confirmed.
#[must_use]
pub fn needs_confirmation(state: &State, service: &Service) -> bool {
    current(state, service).status != Status::Down || !service.thresholds.is_default()
}

/// The status a service has in `state`. What began before the service was registered is of an earlier registration of the
/// same URL, removed since, and counts no more.
#[must_use]
pub fn current(state: &State, service: &Service) -> Since {
    let stored = state.services.get(&service.id).filter(|stored| stored.since >= service.created_at);
    stored.copied().unwrap_or_else(|| initial(service))
}

/// The state after `tick`.
///
/// `services` are all services of the tenant that are not pending; a service that is missing there is gone from the
/// state. `observations` has a confirmed observation per service that was probed; a service without one keeps its
/// status (a check that could not run is no verdict). A failure of a service in `doubted` is no evidence either: it
/// changes nothing, and nothing of it is remembered but that it was doubted. Transitions that were acknowledged are dropped.
#[must_use]
pub fn advance(
    state: &State,
    tick: Tick,
    services: &[Service],
    observations: &BTreeMap<ServiceId, Observation>,
    doubted: &BTreeSet<ServiceId>,
) -> State {
    let acknowledged =
        |transition: &Transition| state.acked_tick.is_some_and(|acked| transition.tick <= acked);
    let mut transitions: Vec<Transition> =
        state.transitions.iter().filter(|transition| !acknowledged(transition)).cloned().collect();
    let mut dropped = if transitions.len() < state.transitions.len() { 0 } else { state.transitions_dropped };

    let mut next = BTreeMap::new();
    for service in services {
        let before = current(state, service);
        let is_doubted = doubted.contains(&service.id);
        let (after, reason) = verdict(before, service, observations.get(&service.id), is_doubted, tick);
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

    let excess = transitions.len().saturating_sub(MAX_TRANSITIONS);
    transitions.drain(..excess);
    dropped = dropped.saturating_add(u32::try_from(excess).unwrap_or(u32::MAX));
    State {
        last_tick: Some(tick),
        acked_tick: state.acked_tick,
        services: next,
        transitions,
        transitions_dropped: dropped,
        quiet_until: state.quiet_until,
    }
}

/// Whether the service's verdict is held: what failed is doubted, and its status says otherwise.
#[must_use]
pub fn is_held(after: Since, id: &ServiceId, doubted: &BTreeSet<ServiceId>) -> bool {
    doubted.contains(id) && matches!(after.status, Status::Alive | Status::Unknown)
}

/// What a tick makes of one service, and why.
fn verdict(
    before: Since,
    service: &Service,
    observation: Option<&Observation>,
    is_doubted: bool,
    tick: Tick,
) -> (Since, &'static str) {
    let since = no_earlier(tick.start(), service);
    let from_tick = |status| Since { status, since, history: History::default(), held: 0 };
    if service.activity == Activity::Paused {
        let paused = if before.status == Status::Paused { before } else { from_tick(Status::Paused) };
        return (paused, "paused");
    }
    // A pause ends as if the service were new; the checks from before it say nothing any more.
    let before = if before.status == Status::Paused { from_tick(Status::Unknown) } else { before };
    let Some(observation) = observation else { return (before, "resumed") };
    if is_doubted && !observation.is_alive() {
        return (Since { held: before.held.saturating_add(1), ..before }, "resumed");
    }

    let is_down = before.status == Status::Down;
    // Nothing is remembered under default thresholds. What is down without a memory has failed last.
    let unremembered = is_down && before.history == History::default();
    let remembered = if unremembered { History::default().with(true) } else { before.history };
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
    let history = if service.thresholds.is_default() { History::default() } else { history };
    // A failure that counts in between does not begin the count anew: no verdict is held for ever by turns.
    let held = if observation.is_alive() || status != before.status { 0 } else { before.held };
    // Only a pause that ends can leave a reason of its own.
    let reason = match observation.failure {
        _ if status == Status::Unknown => "resumed",
        None => "ok",
        Some(failure) => failure.as_str(),
    };
    (Since { status, since, history, held }, reason)
}
