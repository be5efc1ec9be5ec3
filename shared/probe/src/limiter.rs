//! Decides which probe may use a socket now: every look-up and every connection needs a [`Permit`] first.
//!
//! The bounds, and what each is against (docs/architecture.md, "Who may open a connection"):
//! - in total, because a Lambda sandbox has 1,024 file descriptors;
//! - per address, over all tenants and names, so that nobody is attacked through us: 16 unanswered connections at once, then
//!   one every 62.5 ms, up to 96 open ones, of which 16 are for services that are expected to answer. The look-ups of one
//!   tenant have the same bounds together;
//! - for all that is slow or expected to be, so that what hangs leaves sockets to what answers;
//! - per tenant, a share of what is free, so that no tenant holds what the next one needs.
//!
//! Next at an address is the tenant that has used it least in this tick, in socket-seconds. Waiting is not the target's fault:
//! callers do not count it against a check's deadline. Other invocations know nothing of this one.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

mod destination;
mod quota;
mod state;
#[cfg(test)]
mod tests;

pub use quota::TenantQuota;

use state::{Granted, State, Waiting};

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Look-ups and connections at once.
    pub total: usize,
    /// Those at once that are slow, or expected to be.
    pub slow: usize,
    /// Connections to one address that are opened without a pause, as long as they are answered: about as many as two
    /// browsers would open.
    pub per_address_at_once: usize,
    /// Connections at once to one address.
    pub per_address: usize,
    /// So many of them may be open when one more is opened that is not expected to be answered: services that answer find a
    /// place among neighbours that hang.
    pub per_address_doubtful: usize,
    /// The pause before each further connection to one address whose connections are not answered.
    pub pace: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            total: 400,
            slow: 256,
            per_address_at_once: 16,
            per_address: 96,
            per_address_doubtful: 80,
            pace: Duration::from_micros(62_500),
        }
    }
}

/// What an attempt is for. At one address the first kind goes first, within a tenant and among tenants that have used it
/// equally little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttemptKind {
    /// The first one of a tick for a service that answered when it was last asked: it costs next to nothing if it does again.
    Expected,
    /// Confirms a failure of the tick before: one attempt makes a verdict.
    Carried,
    /// The first one of a tick for a service that did not answer when it was last asked.
    Doubtful,
    /// Confirms a failure of this tick.
    Confirmation,
}

/// One attempt to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// What it is for.
    pub kind: AttemptKind,
    /// Whether the service was not seen in the tick before. It goes first among its kind: what one tick does not reach, the
    /// next one does.
    pub is_overdue: bool,
}

impl Attempt {
    /// At something that answered when it was last asked.
    pub const EXPECTED: Self = Self { kind: AttemptKind::Expected, is_overdue: false };

    fn rank(self) -> (AttemptKind, bool) {
        (self.kind, !self.is_overdue)
    }
}

/// What a permit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Destination {
    /// A connection to this address.
    Address(IpAddr),
    /// A look-up for the tenant with this seed: each tenant's names have name servers of its own.
    NameServer(u64),
}

/// Hands out permits. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct ConnectionLimiter {
    limits: ConnectionLimits,
    state: Arc<Mutex<State>>,
}

/// The right to use one socket, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    limiter: ConnectionLimiter,
    granted: Granted,
    is_answered: bool,
}

impl Permit {
    /// The other side has answered, or refused: it is there, and may be asked the next thing at once.
    pub(super) fn answered(&mut self) {
        self.is_answered = true;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let limits = &self.limiter.limits;
        self.limiter.lock().give_back(&self.granted, self.is_answered, limits, Instant::now());
        self.limiter.hand_out();
    }
}

impl ConnectionLimiter {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self { limits, state: Arc::new(Mutex::new(State::new(&limits, Instant::now()))) }
    }

    /// Waits for the permit to connect to this address.
    pub(super) async fn connection(&self, quota: &TenantQuota, attempt: Attempt, address: IpAddr) -> Permit {
        self.acquire(quota, attempt, Destination::Address(address)).await
    }

    /// Waits for the permit to look a name up.
    pub(super) async fn look_up(&self, quota: &TenantQuota, attempt: Attempt) -> Permit {
        self.acquire(quota, attempt, Destination::NameServer(quota.seed())).await
    }

    /// Gives up its place when dropped.
    async fn acquire(&self, quota: &TenantQuota, attempt: Attempt, destination: Destination) -> Permit {
        loop {
            let (grant, granted) = oneshot::channel();
            self.lock().enqueue(quota.clone(), attempt, destination, grant, &self.limits);
            self.hand_out();
            // A sender is dropped only with the whole state, which this borrow outlives.
            if let Ok(permit) = granted.await {
                return permit;
            }
        }
    }

    /// Gives permits to all that may have one now.
    fn hand_out(&self) {
        loop {
            let next = self.lock().next(&self.limits, Instant::now());
            let Some((Waiting { grant, .. }, granted)) = next else { break };
            // Outside of the lock: a permit whose taker has just gone is given back by being dropped.
            drop(grant.send(Permit { limiter: self.clone(), granted, is_answered: false }));
        }
        self.keep_time();
    }

    /// Looks again when time alone makes something possible: an address whose pause ends, a connection that turns slow.
    fn keep_time(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.lock().starts_timer() {
            return;
        }
        let limiter = self.clone();
        runtime.spawn(async move {
            loop {
                let next = limiter.lock().timer_ends_at();
                let Some(at) = next else { break };
                tokio::time::sleep_until(at).await;
                limiter.hand_out();
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements that hold the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
