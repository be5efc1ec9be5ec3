//! Who holds a permit, who waits for one, and who comes next.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::destination::{DestinationState, Look, Open, SLOW_AFTER};
use super::quota::Share;
use super::{Attempt, ConnectionLimits, Destination, Permit, TenantQuota};

/// How many idle destinations are remembered, so that a target whose connections were cut off is not asked anew at once.
const IDLE_DESTINATIONS: usize = 1_024;

#[derive(Debug)]
pub(super) struct State {
    began: Instant,
    pub(super) free: usize,
    pub(super) held_slow: usize,
    next_id: u64,
    /// Those with a permit or a waiting attempt, and some of a moment ago.
    pub(super) destinations: HashMap<Destination, DestinationState>,
    /// How many of them are too many to keep idle ones.
    sweep_at: usize,
    /// Those with attempts that nothing of their own holds back, in the order of their arrival.
    pub(super) ready: VecDeque<Destination>,
    /// Permits that are not slow in the order in which they were given: which turns slow next.
    opened: VecDeque<(Instant, Destination, u64)>,
    /// When destinations may be asked again.
    paused: BinaryHeap<Reverse<(Instant, Destination)>>,
    has_timer: bool,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) quota: TenantQuota,
    pub(super) attempt: Attempt,
    /// The order of arrival.
    pub(super) number: u64,
    pub(super) grant: oneshot::Sender<Permit>,
}

/// A permit as the state knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Granted {
    id: u64,
    destination: Destination,
}

impl State {
    pub(super) fn new(limits: &ConnectionLimits, now: Instant) -> Self {
        Self {
            began: now,
            free: limits.total,
            held_slow: 0,
            next_id: 0,
            destinations: HashMap::new(),
            sweep_at: IDLE_DESTINATIONS,
            ready: VecDeque::new(),
            opened: VecDeque::new(),
            paused: BinaryHeap::new(),
            has_timer: false,
        }
    }

    pub(super) fn enqueue(
        &mut self,
        quota: TenantQuota,
        attempt: Attempt,
        destination: Destination,
        grant: oneshot::Sender<Permit>,
        limits: &ConnectionLimits,
    ) {
        let waiting = Waiting { quota, attempt, number: self.next_id, grant };
        self.next_id += 1;
        if self.destinations.len() >= self.sweep_at {
            self.destinations.retain(|_, state| !state.is_idle());
            self.sweep_at = IDLE_DESTINATIONS.max(2 * self.destinations.len());
        }
        let began = self.began;
        let state =
            self.destinations.entry(destination).or_insert_with(|| DestinationState::new(limits, began));
        state.waiting.push(waiting);
        self.make_ready(destination);
    }

    /// Lets a destination be looked at.
    fn make_ready(&mut self, destination: Destination) {
        if let Some(state) = self.destinations.get_mut(&destination)
            && !state.is_ready
            && !state.waiting.is_empty()
        {
            state.is_ready = true;
            self.ready.push_back(destination);
        }
    }

    /// Takes out the attempt that comes next and books its permit.
    pub(super) fn next(&mut self, limits: &ConnectionLimits, now: Instant) -> Option<(Waiting, Granted)> {
        self.pass_time(now);
        if self.free == 0 {
            return None;
        }
        let slow_free = limits.slow.saturating_sub(self.held_slow);
        let (share, now_ms) = (Share::of(self.free, slow_free), self.ms(now));
        let mut best = None;
        let mut index = 0;
        while let Some(&destination) = self.ready.get(index) {
            let Some(state) = self.destinations.get_mut(&destination) else {
                self.ready.remove(index);
                continue;
            };
            let look = state.look(slow_free == 0, limits, now);
            if let Look::Blocked | Look::Paused(_) = look {
                state.is_ready = false;
                self.ready.remove(index);
                if let Look::Paused(until) = look {
                    self.paused.push(Reverse((until, destination)));
                }
                continue;
            }
            index += 1;
            if let Look::Now = look
                && let Some(candidate) = state.candidate(destination, share, limits, (now, now_ms))
                && best.as_ref().is_none_or(|(_, _, order)| candidate.order < *order)
            {
                let is_first_of_all = candidate.order == (false, 0);
                best = Some((destination, candidate.at, candidate.order));
                if is_first_of_all {
                    break;
                }
            }
        }
        let (destination, at, _) = best?;
        self.book(destination, at, limits, now)
    }

    fn book(
        &mut self,
        destination: Destination,
        at: usize,
        limits: &ConnectionLimits,
        now: Instant,
    ) -> Option<(Waiting, Granted)> {
        let (id, now_ms) = (self.next_id, self.ms(now));
        let state = self.destinations.get_mut(&destination)?;
        let waiting = state.waiting.swap_remove(at);
        let is_slow = state.is_slow_for(waiting.attempt.kind, now);
        self.next_id += 1;
        self.free -= 1;
        state.take_token(limits, now);
        state.open.push_back(Open { id, since: now, quota: waiting.quota.clone(), is_slow });
        waiting.quota.lock().opens(destination, is_slow, now_ms);
        self.held_slow += usize::from(is_slow);
        if !is_slow || !state.is_slow {
            self.opened.push_back((now, destination, id));
        }
        Some((waiting, Granted { id, destination }))
    }

    /// Notes which destinations have turned slow, and which may be asked again.
    fn pass_time(&mut self, now: Instant) {
        while let Some(&(since, destination, id)) = self.opened.front()
            && since + SLOW_AFTER <= now
        {
            self.opened.pop_front();
            if let Some(state) = self.destinations.get_mut(&destination) {
                self.held_slow += state.turns_slow(id, now);
            }
        }
        while let Some(&Reverse((at, destination))) = self.paused.peek()
            && at <= now
        {
            self.paused.pop();
            self.make_ready(destination);
        }
    }

    /// Whether a timer has to be started, which is then taken to run.
    pub(super) fn starts_timer(&mut self) -> bool {
        let starts = !self.has_timer && self.next_look().is_some();
        self.has_timer |= starts;
        starts
    }

    /// When the timer looks again; `None` ends it.
    pub(super) fn timer_ends_at(&mut self) -> Option<Instant> {
        let next = self.next_look();
        self.has_timer = next.is_some();
        next
    }

    /// When to look again although nothing has been given back.
    fn next_look(&self) -> Option<Instant> {
        let paused = self.paused.peek().map(|Reverse((at, _))| *at);
        let slow = self.opened.front().filter(|_| !self.ready.is_empty());
        paused.into_iter().chain(slow.map(|(since, _, _)| *since + SLOW_AFTER)).min()
    }

    pub(super) fn give_back(
        &mut self,
        granted: &Granted,
        is_answered: bool,
        limits: &ConnectionLimits,
        now: Instant,
    ) {
        self.free += 1;
        let (began, now_ms) = (self.began, self.ms(now));
        let destination = granted.destination;
        let Some(state) = self.destinations.get_mut(&destination) else { return };
        let Some(at) = state.open.iter().position(|open| open.id == granted.id) else { return };
        let Some(closed) = state.open.remove(at) else { return };
        if is_answered {
            state.answers(limits, now);
        }
        let since_ms = ms_between(began, closed.since);
        closed.quota.lock().closes(destination, closed.is_slow, since_ms, now_ms);
        self.held_slow -= usize::from(closed.is_slow);
        let is_still_slow = state.open.front().is_some_and(|open| open.since + SLOW_AFTER <= now);
        if state.is_slow && !is_still_slow {
            state.is_slow = false;
            for open in &mut state.open {
                if std::mem::take(&mut open.is_slow) {
                    open.quota.lock().turns(false);
                    self.held_slow -= 1;
                }
                // Seldom more than a few, and nearly in order: each is looked at within a second all the same.
                self.opened.push_back((open.since, destination, open.id));
            }
        }
        if state.is_idle() {
            state.pass_time(limits, now);
            if state.tokens == limits.per_address_at_once {
                self.destinations.remove(&destination);
            }
        }
        self.make_ready(destination);
    }

    fn ms(&self, now: Instant) -> u64 {
        ms_between(self.began, now)
    }
}

fn ms_between(began: Instant, moment: Instant) -> u64 {
    u64::try_from(moment.duration_since(began).as_millis()).unwrap_or(u64::MAX)
}
