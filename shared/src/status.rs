//! What a tick makes of its observations. Pure and total: (state, observations) -> (state, transitions).
//!
//! Deliberately absent: errors (a check that fails is data), time (the observation says when), and storage.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::ServiceId;
use crate::probe::Observation;
use crate::service::{Activity, Service};
use crate::tick::Tick;

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
    /// Not checked yet, or only a single unconfirmed failure so far.
    Unknown,
}

/// A service's status and when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// The status.
    pub status: Status,
    /// When it began.
    pub since: Timestamp,
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
}

/// The status that a service has before its first tick: what registration saw. One failed attempt is no proof, so it
/// gives `UNKNOWN`, never `DOWN`.
#[must_use]
pub fn initial(service: &Service) -> Since {
    let alive = service.first.as_ref().filter(|first| first.is_alive());
    match (service.activity, alive) {
        (Activity::Paused, _) => Since { status: Status::Paused, since: service.created_at },
        (_, Some(first)) => Since { status: Status::Alive, since: first.checked_at },
        (_, None) => Since { status: Status::Unknown, since: service.created_at },
    }
}

/// Whether a failure must be confirmed by further attempts before it may count: everything but a service that is
/// known to be down.
#[must_use]
pub fn needs_confirmation(state: &State, service: &Service) -> bool {
    current(state, service).status != Status::Down
}

/// The status a service has in `state`.
#[must_use]
pub fn current(state: &State, service: &Service) -> Since {
    state.services.get(&service.id).copied().unwrap_or_else(|| initial(service))
}

/// The state after `tick`.
///
/// `services` are all services of the tenant that are not pending; a service that is missing there is gone from the
/// state. `observations` has a confirmed observation per service that was probed; a service without one keeps its
/// status (a check that could not run is no verdict). Transitions that were acknowledged are dropped.
#[must_use]
pub fn advance(
    state: &State,
    tick: Tick,
    services: &[Service],
    observations: &BTreeMap<ServiceId, Observation>,
) -> State {
    let acknowledged =
        |transition: &Transition| state.acked_tick.is_some_and(|acked| transition.tick <= acked);
    let mut transitions: Vec<Transition> =
        state.transitions.iter().filter(|transition| !acknowledged(transition)).cloned().collect();
    let mut dropped = if transitions.len() < state.transitions.len() { 0 } else { state.transitions_dropped };

    let mut next = BTreeMap::new();
    for service in services {
        let before = current(state, service);
        let after = verdict(before, service, observations.get(&service.id), tick);
        if let Some((status, at, reason)) = after {
            transitions.push(Transition {
                tick,
                service_id: service.id.clone(),
                from: before.status,
                to: status,
                at,
                reason,
            });
            next.insert(service.id.clone(), Since { status, since: at });
        } else {
            next.insert(service.id.clone(), before);
        }
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

/// The change that a tick brings to one service, if any: the new status, since when, and why.
fn verdict(
    before: Since,
    service: &Service,
    observation: Option<&Observation>,
    tick: Tick,
) -> Option<(Status, Timestamp, String)> {
    if service.activity == Activity::Paused {
        return (before.status != Status::Paused)
            .then(|| (Status::Paused, tick.start(), "paused".to_owned()));
    }
    let Some(observation) = observation else {
        return (before.status == Status::Paused)
            .then(|| (Status::Unknown, tick.start(), "resumed".to_owned()));
    };
    let (status, reason) = match observation.failure {
        None => (Status::Alive, "ok"),
        Some(failure) => (Status::Down, failure.as_str()),
    };
    (before.status != status).then(|| (status, observation.checked_at, reason.to_owned()))
}
