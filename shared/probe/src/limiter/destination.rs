//! One address, or one tenant's look-ups: what is open there, what waits, and when it may be asked next.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::quota::Share;
use super::state::Waiting;
use super::{AttemptKind, ConnectionLimits, Destination, TenantQuota};

/// What is open for longer is slow, and so is all else at its destination.
pub(super) const SLOW_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct DestinationState {
    /// Oldest first.
    pub(super) open: VecDeque<Open>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) is_slow: bool,
    /// When it last turned slow.
    slow_at: Option<Instant>,
    /// When anything was answered last.
    answered_at: Option<Instant>,
    /// Whether it is in the queue of those that may be asked.
    pub(super) is_ready: bool,
    /// How many connections may be opened without a pause: one is back with each answer, and one after each pause.
    pub(super) tokens: usize,
    /// Since when the present pause lasts.
    paused_at: Instant,
}

#[derive(Debug)]
pub(super) struct Open {
    pub(super) id: u64,
    pub(super) since: Instant,
    pub(super) quota: TenantQuota,
    pub(super) is_slow: bool,
}

/// Whether a destination may be asked.
pub(super) enum Look {
    Now,
    /// When others leave room.
    Later,
    /// When one of its own is closed, or another attempt comes.
    Blocked,
    /// When its pause ends.
    Paused(Instant),
}

/// The attempt that comes next at a destination.
pub(super) struct Candidate {
    /// Its place among those that wait.
    pub(super) at: usize,
    /// What comes first over all destinations: what is expected to answer, then whose tenant holds least.
    pub(super) order: (bool, usize),
}

impl DestinationState {
    pub(super) fn new(limits: &ConnectionLimits, began: Instant) -> Self {
        Self {
            open: VecDeque::new(),
            waiting: Vec::new(),
            is_slow: false,
            slow_at: None,
            answered_at: None,
            is_ready: false,
            tokens: limits.per_address_at_once,
            paused_at: began,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.waiting.is_empty()
    }

    /// Whether an attempt counts as slow from its start. One that is expected to be answered does not where others are being
    /// answered, whatever else hangs there.
    pub(super) fn is_slow_for(&self, kind: AttemptKind, now: Instant) -> bool {
        match kind {
            AttemptKind::Expected => self.is_slow && !self.is_answering(now),
            _ => self.is_slow || !self.has_answered(),
        }
    }

    /// Whether anything was answered since it was last slow.
    fn has_answered(&self) -> bool {
        self.answered_at.is_some() && self.answered_at > self.slow_at
    }

    /// Whether anything was answered a moment ago.
    fn is_answering(&self, now: Instant) -> bool {
        self.answered_at.is_some_and(|at| now <= at + SLOW_AFTER)
    }

    /// A permit has been held for long. Returns how many are slow now that were not.
    pub(super) fn turns_slow(&mut self, id: u64, now: Instant) -> usize {
        if !self.open.iter().any(|open| open.id == id) {
            return 0;
        }
        if !std::mem::replace(&mut self.is_slow, true) {
            self.slow_at = Some(now);
        }
        let is_answering = self.is_answering(now);
        let turning = |open: &&mut Open| !open.is_slow && (open.id == id || !is_answering);
        let turned = self.open.iter_mut().filter(turning).map(|open| {
            open.is_slow = true;
            open.quota.lock().turns(true);
        });
        turned.count()
    }

    pub(super) fn look(&mut self, is_slow_full: bool, limits: &ConnectionLimits, now: Instant) -> Look {
        if self.open.len() >= limits.per_address {
            return Look::Blocked;
        }
        let is_unknown = !self.has_answered() && !self.is_slow;
        let is_silent = self.is_slow && !self.is_answering(now);
        if is_slow_full && (is_silent || is_unknown && !self.open.is_empty()) {
            return Look::Later;
        }
        self.waiting.retain(|waiting| !waiting.grant.is_closed());
        if self.waiting.is_empty() {
            return Look::Blocked;
        }
        self.pass_time(limits, now);
        if self.tokens == 0 { Look::Paused(self.paused_at + limits.pace) } else { Look::Now }
    }

    /// None when no tenant may hold more.
    pub(super) fn candidate(
        &self,
        destination: Destination,
        share: Share,
        limits: &ConnectionLimits,
        now: (Instant, u64),
    ) -> Option<Candidate> {
        let (now, now_ms) = now;
        let only_expected = self.open.len() >= limits.per_address_doubtful;
        let rank = |waiting: &Waiting| {
            if only_expected && waiting.attempt.kind != AttemptKind::Expected {
                return None;
            }
            let usage = waiting.quota.lock();
            let key = (usage.used_s(destination, now_ms), waiting.attempt.rank(), waiting.number);
            let may_hold = share.allows(&usage, self.is_slow_for(waiting.attempt.kind, now));
            may_hold.then(|| (key, (waiting.attempt.kind != AttemptKind::Expected, usage.total())))
        };
        let ranked = self.waiting.iter().enumerate().filter_map(|(at, waiting)| Some((rank(waiting)?, at)));
        let ((_, order), at) = ranked.min_by_key(|((key, _), _)| *key)?;
        Some(Candidate { at, order })
    }

    pub(super) fn take_token(&mut self, limits: &ConnectionLimits, now: Instant) {
        if self.tokens == limits.per_address_at_once {
            self.paused_at = now;
        }
        self.tokens -= 1;
    }

    /// Something was answered.
    pub(super) fn answers(&mut self, limits: &ConnectionLimits, now: Instant) {
        self.answered_at = Some(now);
        self.tokens = (self.tokens + 1).min(limits.per_address_at_once);
    }

    /// Gives a token back for each pause that has passed.
    pub(super) fn pass_time(&mut self, limits: &ConnectionLimits, now: Instant) {
        let mut missing = limits.per_address_at_once - self.tokens;
        while missing > 0 && self.paused_at + limits.pace <= now {
            self.paused_at += limits.pace;
            missing -= 1;
        }
        self.tokens = limits.per_address_at_once - missing;
    }
}
