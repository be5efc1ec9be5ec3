//! What one tenant holds of the sockets, has used, and may hold.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Destination;

/// A tenant may hold one permit for every so many that are free, and one in any case. For what answers it may hold as many
/// again beside what is slow, so that a tenant's healthy services need not wait for its others.
const FREE_PER_PERMIT_HELD: usize = 16;

/// What an open connection counts beside the time that it has been open: otherwise one tenant could take every place in the
/// instant in which all of them have used nothing.
const OPEN_MS: u64 = 1_000;

/// What one tenant holds and has used in one tick. Clones are the same quota.
#[derive(Debug, Clone, Default)]
pub struct TenantQuota {
    seed: u64,
    usage: Arc<Mutex<Usage>>,
}

impl TenantQuota {
    /// Nothing used yet. `seed` tells tenants apart ([`domain::id::TenantId::seed`]).
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, usage: Arc::default() }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Usage> {
        // Whole between any two statements that hold the lock.
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(super) struct Usage {
    /// Permits held for what answers.
    held: usize,
    /// Permits held for what is slow, or expected to be.
    held_slow: usize,
    destinations: HashMap<Destination, DestinationUsage>,
}

#[derive(Debug, Default, Clone, Copy)]
struct DestinationUsage {
    open: u64,
    /// The sum of the opening times of what is open, in milliseconds since the limiter was made.
    opened_ms: u64,
    closed_ms: u64,
}

impl Usage {
    pub(super) fn total(&self) -> usize {
        self.held + self.held_slow
    }

    /// Socket-seconds at a destination. An open one counts for a second more than it has lasted.
    pub(super) fn used_s(&self, destination: Destination, now_ms: u64) -> u64 {
        let used_ms = self.destinations.get(&destination).map_or(0, |used| {
            used.closed_ms + (used.open * (now_ms + OPEN_MS)).saturating_sub(used.opened_ms)
        });
        used_ms / 1_000
    }

    pub(super) fn opens(&mut self, destination: Destination, is_slow: bool, now_ms: u64) {
        *self.held_of(is_slow) += 1;
        let used = self.destinations.entry(destination).or_default();
        used.open += 1;
        used.opened_ms += now_ms;
    }

    pub(super) fn closes(&mut self, destination: Destination, is_slow: bool, since_ms: u64, now_ms: u64) {
        *self.held_of(is_slow) -= 1;
        if let Some(used) = self.destinations.get_mut(&destination) {
            used.open -= 1;
            used.opened_ms -= since_ms;
            used.closed_ms += now_ms - since_ms;
        }
    }

    /// One that is held is slow from now on, or not any more.
    pub(super) fn turns(&mut self, is_slow: bool) {
        *self.held_of(!is_slow) -= 1;
        *self.held_of(is_slow) += 1;
    }

    fn held_of(&mut self, is_slow: bool) -> &mut usize {
        if is_slow { &mut self.held_slow } else { &mut self.held }
    }
}

/// How many permits one tenant may hold now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    any: usize,
    slow: usize,
}

impl Share {
    pub(super) fn of(free: usize, slow_free: usize) -> Self {
        let share = |free: usize| if free == 0 { 0 } else { (free / FREE_PER_PERMIT_HELD).max(1) };
        Self { any: share(free), slow: share(slow_free) }
    }

    pub(super) fn allows(self, usage: &Usage, is_slow: bool) -> bool {
        if is_slow {
            usage.held_slow < self.slow && usage.total() < self.any
        } else {
            usage.held < self.any && usage.total() < 2 * self.any
        }
    }
}
