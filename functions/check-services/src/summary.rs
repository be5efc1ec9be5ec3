//! What an invocation did, over all its tenants.

use aws::store::StoreError;
use aws::telemetry::ErrorChain;
use domain::id::{ServiceId, TenantId};
use domain::tenant::Tenant;

use crate::tenant_tick::Outcome;

/// Suspension is for a tenant that is gone, not for a fault that many share.
const SHARED_FAULT_PERCENT: usize = 20;
/// With fewer tenants than this a percentage says nothing.
const SHARED_FAULT_TENANTS: usize = 5;

/// What an invocation did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Tenants whose update was accepted.
    pub accepted: usize,
    /// Tenants whose update was not accepted or not sent.
    pub not_accepted: usize,
    /// Those that were not accepted because the app refuses for good.
    pub refused: usize,
    /// Tenants whose app refused their next key, or whose next key is unusable, and whose app accepted the present one.
    pub next_key_refused: usize,
    /// Checks that found a service alive.
    pub alive: usize,
    /// Checks that did not.
    pub not_alive: usize,
    /// Tenants that there was no time to start.
    pub not_started: usize,
    /// Tenants that another invocation had, or that had nothing to do.
    pub skipped: usize,
    /// Tenants for which the store failed, or that did not end in time.
    pub failed: usize,
    /// Tenants and services with unusable records.
    pub corrupt: usize,
    /// Services that were checked.
    pub services: usize,
    /// Services whose verdict was suppressed.
    pub suppressed: usize,
    /// Tenants that have such services.
    pub tenants_suppressed: usize,
    /// Services on which this tick brought no verdict.
    pub unseen: usize,
    /// Shards that were published.
    pub requeued: usize,
    /// Tenants to suspend, with their services.
    pub(crate) unreachable: Vec<(Tenant, Vec<ServiceId>)>,
}

impl Summary {
    pub(crate) fn has_shared_fault(&self) -> bool {
        let done = self.accepted + self.not_accepted;
        done >= SHARED_FAULT_TENANTS && self.not_accepted * 100 > done * SHARED_FAULT_PERCENT
    }

    #[must_use]
    pub(crate) fn with(mut self, id: &TenantId, outcome: Result<Outcome, StoreError>) -> Self {
        match outcome {
            Ok(Outcome::Done(done)) => {
                let counts = done.counts;
                self.services += counts.services;
                self.alive += counts.alive;
                self.not_alive += counts.not_alive;
                self.suppressed += counts.suppressed;
                self.tenants_suppressed += usize::from(counts.suppressed > 0);
                self.unseen += counts.unseen;
                self.corrupt += counts.unreadable;
                self.next_key_refused += usize::from(done.next_key_refused);
                match done.response {
                    Some(response) if response.is_acceptance() => self.accepted += 1,
                    response => {
                        self.not_accepted += 1;
                        self.refused += usize::from(response.is_some_and(|response| response.is_refusal()));
                    }
                }
                self.unreachable.extend(done.unreachable.map(|unreachable| *unreachable));
            }
            Ok(Outcome::Skipped) => self.skipped += 1,
            Err(error @ StoreError::Corrupt(_)) => {
                tracing::error!(tenant.id = %id, error = %ErrorChain(&error), "tenant skipped");
                self.corrupt += 1;
            }
            Err(error) => {
                tracing::error!(tenant.id = %id, error = %ErrorChain(&error), "tenant could not be checked");
                self.failed += 1;
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_shared_when_more_than_a_fifth_of_all_tenants_have_it() {
        for (accepted, not_accepted, is_shared) in
            [(0, 4, false), (0, 5, true), (4, 1, false), (3, 2, true), (40, 10, false), (39, 10, true)]
        {
            let summary = Summary { accepted, not_accepted, ..Summary::default() };
            assert_eq!(summary.has_shared_fault(), is_shared, "{summary:?}");
        }
    }
}
