//! A tenant as one Query returns it: what a tick is planned from, and what a change is decided on.

use jiff::{SignedDuration, Timestamp};

use crate::id::{ServiceId, TenantId};
use crate::response::CallbackResponse;
use crate::service::Service;
use crate::status::State;
use crate::tenant::Tenant;

/// A trigger that responds with 404 or 410 for this long is gone.
const GONE_FOR: SignedDuration = SignedDuration::from_hours(24);
/// A trigger that accepts nothing for this long is unreachable.
const FAILING_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A tenant with everything that is stored of it, expired items left out.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantSnapshot {
    pub tenant: Tenant,
    /// Changes with every service that is added or removed; the next such change must find it as it was read.
    pub revision: u32,
    /// Its services. A tick is given none that is pending.
    pub services: Vec<Service>,
    /// Services whose records cannot be read: they are skipped, and the others are checked.
    pub unreadable: Vec<ServiceId>,
    /// What the ticks saw so far.
    pub state: State,
    pub failures: FailureStreak,
}

impl TenantSnapshot {
    pub fn id(&self) -> TenantId {
        self.tenant.id()
    }
}

/// Since when a tenant's deliveries fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FailureStreak {
    /// Since when every delivery has failed.
    pub failing_since: Option<Timestamp>,
    /// Since when every failure was a 404 or 410.
    pub gone_since: Option<Timestamp>,
}

impl FailureStreak {
    /// The streak after one more delivery that was not accepted.
    #[must_use]
    pub fn after(self, response: &CallbackResponse, now: Timestamp) -> Self {
        Self {
            failing_since: self.failing_since.or(Some(now)),
            gone_since: if response.is_gone() { self.gone_since.or(Some(now)) } else { None },
        }
    }

    /// Whether the tenant has been unreachable for long enough to be suspended.
    pub fn is_unreachable(self, now: Timestamp) -> bool {
        let longer =
            |since: Option<Timestamp>, limit| since.is_some_and(|since| now.duration_since(since) >= limit);
        longer(self.gone_since, GONE_FOR) || longer(self.failing_since, FAILING_FOR)
    }
}
