//! What one invocation sees of the world, from where it stands: the hosts of all its tenants, and the canary.
//!
//! It cannot see more than that: docs/protocol.md, section 5, says what follows.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{OptionFuture, join, join_all};
use shared::id::TenantId;
use shared::probe::{Check, Probe, Share};
use shared::status::hold::{Around, Number, Sightings, Unrelated};
use tokio::time::Instant;

/// Nobody looks around more often: when a thousand services fail at once, their witnesses are asked once.
const FRESH_FOR: Duration = Duration::from_secs(1);

pub(crate) struct Vantage<'a, P> {
    probe: &'a P,
    canary: Option<&'a Check>,
    /// Its own, so that looking around waits for no tenant's sockets.
    share: Share,
    unrelated: Unrelated,
    sightings: Mutex<Sightings>,
    /// The last look around, and when it ended.
    around: tokio::sync::Mutex<Option<(Instant, Around)>>,
}

impl<'a, P: Probe> Vantage<'a, P> {
    /// `tenants` is how many are checked from here.
    pub(crate) fn new(probe: &'a P, canary: Option<&'a Check>, tenants: usize) -> Self {
        let unrelated = match canary {
            Some(_) => Unrelated::Hosts,
            None if tenants == 1 => Unrelated::Domains,
            None => Unrelated::DomainsOfTenants,
        };
        let around = tokio::sync::Mutex::default();
        Self { probe, canary, share: Share::default(), unrelated, sightings: Mutex::default(), around }
    }

    /// A check of a service that was `ALIVE` begins.
    pub(crate) fn begin(&self, tenant: &TenantId, check: &Check) -> Number {
        self.lock().begin(tenant, check)
    }

    /// A check begins that is no evidence for others.
    pub(crate) fn here(&self) -> Number {
        self.lock().here()
    }

    /// One of its attempts has ended.
    pub(crate) fn note(&self, number: Number, is_good: bool) {
        self.lock().note(number, is_good);
    }

    /// Asks the canary, and a few hosts that were well, while the last attempt of a failing check is under way.
    pub(crate) async fn look_around(&self) -> Around {
        let mut last = self.around.lock().await;
        if let Some((at, around)) = *last
            && at.elapsed() < FRESH_FOR
        {
            return around;
        }
        let witnesses = self.lock().witnesses(self.unrelated);
        let canary = OptionFuture::from(self.canary.map(|canary| self.probe.probe(canary, &self.share)));
        let (canary, witnesses) =
            join(canary, join_all(witnesses.iter().map(|witness| self.probe.probe(witness, &self.share))))
                .await;
        let around = Around {
            canary_is_good: canary.map(|observation| observation.is_alive()),
            witnesses: witnesses.len(),
            witnesses_failed: witnesses.iter().filter(|observation| !observation.is_alive()).count(),
        };
        *last = Some((Instant::now(), around));
        around
    }

    /// Whether a failure that has just been confirmed is more likely ours than the target's; `held` were already.
    pub(crate) fn doubts(&self, number: Number, around: Around, held: u8) -> bool {
        self.lock().in_doubt(number, self.unrelated, around, held)
    }

    fn lock(&self) -> MutexGuard<'_, Sightings> {
        // The list is whole between any two statements that hold the lock.
        self.sightings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
