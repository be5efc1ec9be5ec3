//! Whether this backend's own network works: asked of endpoints that answer whenever it does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::check::Check;
use futures::future::join_all;
use probe::{Attempt, Probe, TenantQuota};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// They are asked once in so long, however many services fail.
const SPACING: Duration = Duration::from_secs(2);

pub(crate) struct ControlEndpoints<'a, P> {
    probe: &'a P,
    checks: &'a [Check],
    /// Their own, so that they wait for no tenant's connections.
    quota: TenantQuota,
    /// When they were asked last, and whether most of them failed.
    last: Mutex<Option<(Instant, bool)>>,
    have_failed: AtomicBool,
}

impl<'a, P: Probe> ControlEndpoints<'a, P> {
    pub(crate) fn new(probe: &'a P, checks: &'a [Check]) -> Self {
        Self {
            probe,
            checks,
            quota: TenantQuota::default(),
            last: Mutex::default(),
            have_failed: AtomicBool::new(false),
        }
    }

    /// Whether most of them failed at any time since this was made.
    pub(crate) fn have_failed(&self) -> bool {
        self.have_failed.load(Ordering::Relaxed)
    }

    /// Whether most of them fail now, or did when they were asked a moment ago. Never without any.
    pub(crate) async fn most_fail(&self) -> bool {
        let now = Instant::now();
        self.most_fail_since(now.checked_sub(SPACING).unwrap_or(now)).await
    }

    /// Whether most of them fail when asked at `moment` or later. Waits when they were asked shortly before it.
    pub(crate) async fn most_fail_since(&self, moment: Instant) -> bool {
        if self.checks.is_empty() {
            return false;
        }
        let mut last = self.last.lock().await;
        if let Some((asked_at, most_fail)) = *last {
            if asked_at >= moment {
                return most_fail;
            }
            tokio::time::sleep_until(asked_at + SPACING).await;
        }
        let asked_at = Instant::now();
        let asked = self.checks.iter().map(|check| self.probe.probe(check, &self.quota, Attempt::EXPECTED));
        let failed = join_all(asked).await.iter().filter(|seen| !seen.is_alive()).count();
        let most_fail = failed * 2 > self.checks.len();
        *last = Some((asked_at, most_fail));
        self.have_failed.fetch_or(most_fail, Ordering::Relaxed);
        most_fail
    }
}
