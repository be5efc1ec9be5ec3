//! The time that one attempt may take.

use std::future::Future;
use std::time::Duration;

use domain::check::ProbeFailure;
use domain::clock::{Clock, whole_seconds};
use jiff::Timestamp;
use tokio::time::{Instant, timeout};

/// The time of an attempt, in which waiting for a permit does not count.
#[derive(Default)]
pub(super) struct Budget {
    /// When it first had a permit.
    pub(super) began_at: Option<Timestamp>,
    pub(super) spent: Duration,
    pub(super) left: Duration,
}

impl Budget {
    pub(super) fn begins(&mut self, clock: &dyn Clock) {
        self.began_at.get_or_insert_with(|| whole_seconds(clock.now()));
    }

    pub(super) async fn spend<T>(
        &mut self,
        work: impl Future<Output = Result<T, ProbeFailure>>,
    ) -> Result<T, ProbeFailure> {
        let begin = Instant::now();
        let done = timeout(self.left, work).await;
        self.spent += begin.elapsed();
        self.left = self.left.saturating_sub(begin.elapsed());
        done.unwrap_or(Err(ProbeFailure::Timeout))
    }
}
