//! The order of a change to a service: read, compare its owner, and change it in the transaction that binds the hand-off.
//!
//! A hand-off that is bound is one whose change is done, so sending it again gets the same answer and changes nothing:
//! a reloaded answer must not remove a service that was added again meanwhile. Not here: HTTP, and any call to the
//! Forge app, which hears of the change with the next report.

use aws::store::{HandoffUse, ServiceChange, Store, StoreError, WriteOutcome};
use domain::clock::Clock;
use domain::handoff::{HandoffError, Management, Purpose};
use domain::service::{Change, Lifecycle};
use domain::tick::Period;
use web::page::NextReport;
use web::problem::{Problem, handoff_problem};

/// How often a change reads again and decides again because something changed in between.
const ROUNDS: usize = 8;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// The hand-off is late, and bound to nothing that it could repeat.
    #[error("hand-off refused: expired")]
    HandoffExpired,
    #[error("hand-off refused: used for something else")]
    HandoffUsed,
    /// Somebody else added the service.
    #[error("the service is another person's")]
    NotTheOwner,
    /// There is none to pause or to resume.
    #[error("no such service")]
    Absent,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many others at once.
    #[error("in conflict with other writes again and again")]
    Busy,
}

/// Does what a verified hand-off asks for, and says when Jira shows it. A service that is not there is removed already. One that
/// Forge has not accepted yet can be removed: its registration can then be accepted no more.
pub(crate) async fn change(
    store: &Store,
    clock: &dyn Clock,
    period: Period,
    management: &Management,
) -> Result<NextReport, ChangeError> {
    let Management { handoff, service_id, change, .. } = management;
    let tenant_id = handoff.tenant_id();
    let wanted =
        HandoffUse { tenant_id: tenant_id.clone(), service_id: service_id.clone(), change: Some(*change) };
    for _ in 0..ROUNDS {
        let now = clock.now();
        let is_done = match store.handoff_use(&handoff.reference.id, now).await? {
            Some(used) if used == wanted => true,
            Some(_) => return Err(ChangeError::HandoffUsed),
            None if handoff.is_late(now) => return Err(ChangeError::HandoffExpired),
            None => false,
        };
        let found = store.find(&tenant_id, now).await?;
        let next_report = NextReport::of(found.as_ref().map(|found| found.tenant.status), period);
        if is_done {
            return Ok(next_report);
        }
        let is_removal = *change == Change::Remove;
        let service =
            found.iter().flat_map(|found| &found.services).find(|service| service.id == *service_id);
        match service {
            None if !is_removal => return Err(ChangeError::Absent),
            Some(service) if service.lifecycle == Lifecycle::Pending && !is_removal => {
                return Err(ChangeError::Absent);
            }
            Some(service) if service.owner != handoff.owner => return Err(ChangeError::NotTheOwner),
            _ => {}
        }
        let service_change = ServiceChange {
            tenant_id: &tenant_id,
            service_id,
            change: *change,
            found: service,
            found_revision: found.as_ref().map_or(0, |found| found.revision),
            reference: &handoff.reference,
        };
        if store.apply_change(&service_change, now).await? == WriteOutcome::Applied {
            return Ok(next_report);
        }
    }
    Err(ChangeError::Busy)
}

impl ChangeError {
    /// What the person is told, and how to go on.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::HandoffExpired => handoff_problem(&HandoffError::Expired, Purpose::Manage),
            Self::HandoffUsed => {
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
