//! The order of a change to a service: read, compare its owner, and change it in the transaction that binds the hand-off.
//!
//! A hand-off that is bound is one whose change is done, so whoever sends it again gets the same answer and changes nothing:
//! a reloaded answer must not remove a service that was added again meanwhile. Deliberately absent: HTTP, and any call to the
//! Forge app, which hears of the change with the next report.

use shared::clock::Clock;
use shared::handoff::{HandoffError, Management, Purpose};
use shared::problem::Problem;
use shared::service::{Activity, Change, Service};
use shared::store::{Amended, Amendment, Bound, Registered, Registrations, StoreError};

/// How often a change starts anew because somebody else changed the tenant at the same time.
const ROUNDS: usize = 8;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotChanged {
    /// The hand-off is used for something else, or late and bound to nothing.
    #[error("hand-off refused: {0}")]
    Handoff(&'static str),
    /// Somebody else added the service.
    #[error("the service is somebody else's")]
    NotTheOwner,
    /// There is none to pause or to resume.
    #[error("no such service")]
    Absent,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many others at once.
    #[error("overtaken by other changes again and again")]
    Busy,
}

/// Does what a verified hand-off asks for. A service that is not there, or that Forge has not accepted yet, is removed already.
pub(crate) async fn change(
    store: &impl Registrations,
    clock: &impl Clock,
    management: &Management,
) -> Result<(), NotChanged> {
    let Management { handoff, service_id, change, .. } = management;
    let tenant_id = handoff.tenant_id();
    let wanted =
        Bound { tenant_id: tenant_id.clone(), service_id: service_id.clone(), change: Some(*change) };
    for _ in 0..ROUNDS {
        let now = clock.now();
        match store.bound_to(&handoff.binding.id, now).await? {
            Some(bound) if bound == wanted => return Ok(()),
            Some(_) => return Err(NotChanged::Handoff("used for something else")),
            None if handoff.is_late(now) => return Err(NotChanged::Handoff("expired")),
            None => {}
        }
        let found = store.find(&tenant_id, now).await?;
        let is_it = |service: &&Service| service.id == *service_id && service.activity != Activity::Pending;
        let service = found.iter().flat_map(|found| &found.services).find(is_it);
        match service {
            Some(service) if service.owner != handoff.owner => return Err(NotChanged::NotTheOwner),
            None if *change != Change::Remove => return Err(NotChanged::Absent),
            _ => {}
        }
        let without = |found: &Registered| u32::try_from(found.services.len() - 1).unwrap_or(u32::MAX);
        let counts = found.as_ref().filter(|_| service.is_some());
        let amendment = Amendment {
            tenant_id: &tenant_id,
            service_id,
            change: *change,
            owner: &handoff.owner,
            counts: counts.map(|found| (found.service_count, without(found))),
            binding: &handoff.binding,
        };
        if store.amend(&amendment).await? == Amended::Yes {
            return Ok(());
        }
    }
    Err(NotChanged::Busy)
}

impl NotChanged {
    /// What the person is told, and how to go on.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Handoff("expired") => HandoffError::Expired.problem(Purpose::Manage),
            Self::Handoff(_) => {
                let detail = "It has been used for something else. Go back to Jira, open the Health Monitor page and press \
                              the button there again.";
                Problem::new(401, "HANDOFF_USED", "This link has been used", detail)
            }
            Self::NotTheOwner => {
                let detail = "Only the person who added a service can change it. If that person is gone, tell the people \
                              who run this monitor.";
                Problem::new(403, "NOT_YOUR_SERVICE", "Somebody else added this service", detail)
            }
            Self::Absent => {
                let detail = "It may have been removed; then it disappears from Jira with the next report.";
                Problem::new(404, "NO_SUCH_SERVICE", "This service is not monitored", detail)
            }
            Self::Store(StoreError::Unavailable(_)) | Self::Busy => Problem::busy(),
            Self::Store(_) => Problem::internal(),
        }
    }
}
