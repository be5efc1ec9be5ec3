//! The schedule's tick: check every active tenant of a shard once, report to its app, requeue what there is no time for.
//!
//! The steps are numbered in docs/architecture.md. One tenant's part is in `tenant_tick`.

use std::sync::Arc;
use std::time::Duration;

use aws::metrics::{CallbackResult, CheckOutcome, Metric, Metrics};
use aws::store::{SUSPENDED_FOR, Store, StoreError, WriteOutcome};
use aws::telemetry::ErrorChain;
use callback::Deliver;
use domain::check::Check;
use domain::clock::{Clock, whole_seconds};
use domain::id::TenantId;
use domain::tenant::TriggerPolicy;
use domain::tick::{Period, Tick};
use domain::tick_plan::TickContext;
use futures::future::{Fuse, FusedFuture as _};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use lambda_runtime::LambdaEvent;
use probe::Probe;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

pub mod bus;
pub mod config;
mod control_endpoints;
pub mod event;
pub mod key_cache;
mod observe;
mod summary;
mod tenant_tick;

pub use summary::Summary;
pub use tenant_tick::{Done, Outcome};

use bus::{BusError, EventBus};
use control_endpoints::ControlEndpoints;
use event::{Event, MAX_GENERATIONS, Shard, VerdictsSuppressed};
use key_cache::KeyCache;

/// How many services are checked at once. Most of a check's time is waiting, so this bounds memory, not connections: those
/// are bounded where they are opened. Services rather than tenants: a thousand tenants with one endpoint that hangs must not
/// keep the others from starting.
const SERVICES_AT_ONCE: usize = 20_000;

/// Between the starts of two tenants: fifty a second. 2,500 tenants take 50 s, which is about what their checks need of
/// the processor anyway.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// No tenant is started later than this before the Lambda deadline.
const RESERVE: SignedDuration = SignedDuration::from_secs(45);

/// Everything has ended this long before the deadline: what has not been seen by then keeps its status, what has not been
/// delivered is carried by the next tick. Lambda kills what is under way, and with it the warm keys.
const END_BEFORE_DEADLINE: SignedDuration = SignedDuration::from_secs(5);

/// Tenants that still work so long after their end are left alone: a call to AWS may take ten seconds.
const OVERTIME: Duration = Duration::from_secs(1);

/// Suspensions and announcements end so long before the deadline.
const LAST_WORK: SignedDuration = SignedDuration::from_secs(1);

/// Lambda never hands out an event past its deadline; `cargo lambda watch` counts its deadline from 1970.
const WITHOUT_DEADLINE: SignedDuration = SignedDuration::from_secs(300);

/// When a failure is confirmed: two further attempts within seven seconds.
pub const CONFIRM_AFTER: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];

/// Checks tenants.
pub struct CheckServices<K, P> {
    /// Tenants, services and states.
    pub store: Store,
    /// Tenant keys.
    pub keys: KeyCache,
    /// Sends UPDATE.
    pub callbacks: K,
    /// Tries services.
    pub probe: P,
    /// Publishes shards and events.
    pub bus: EventBus,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Counts checks, callbacks and delays.
    pub metrics: Metrics,
    /// Everything that a deployment decides.
    pub settings: Settings,
}

/// What a deployment decides about its checks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `BACKEND_URL`.
    pub issuer: String,
    /// Where callbacks may go.
    pub triggers: TriggerPolicy,
    /// The length of a tick.
    pub period: Period,
    /// A shard with more tenants is split into shards of this size.
    pub tenants_per_invocation: usize,
    /// Over how much of the period the starts of tenants may be spread, in percent.
    pub spread_percent: u8,
    /// Waits before the confirming attempts; [`CONFIRM_AFTER`] when deployed.
    pub confirm_after: Vec<Duration>,
    /// Endpoints that answer whenever the network of this backend works: while most of them fail, no service becomes `DOWN`.
    pub controls: Vec<Check>,
}

/// What the tenants of one invocation share.
pub(crate) struct Invocation<'a, P> {
    context: TickContext,
    probe: &'a P,
    controls: ControlEndpoints<'a, P>,
    confirm_after: &'a [Duration],
    /// One for every service that may be checked at the same time.
    places: Semaphore,
    /// When everything has ended.
    end: Instant,
}

/// Why an invocation failed: Lambda runs it once more, and tenants that are done stay done.
#[derive(Debug, thiserror::Error)]
pub enum InvocationError {
    /// The tenants could not be listed.
    #[error("the tenants could not be listed")]
    List(#[source] StoreError),
    /// Shards could not be published.
    #[error("shards could not be published")]
    Requeue(#[from] BusError),
    /// The store failed for some tenants.
    #[error("{0} tenants could not be checked")]
    Tenants(usize),
}

impl<K: Deliver, P: Probe> CheckServices<K, P> {
    /// One invocation by Lambda.
    pub async fn invoke(&self, event: LambdaEvent<Event>) -> Result<(), lambda_runtime::Error> {
        let deadline = event.context.deadline().try_into()?;
        // The runtime logs what is returned with `Debug`, which would show whole answers of AWS.
        let done = self.handle(event.payload, deadline).await;
        done.map(drop).map_err(|error| ErrorChain(&error).to_string().into())
    }

    /// One event; `deadline` is when Lambda ends this invocation.
    pub async fn handle(&self, event: Event, deadline: Timestamp) -> Result<Summary, InvocationError> {
        let shard = event.shard(self.settings.period);
        let now = self.clock.now();
        let deadline = if deadline > now { deadline } else { now + WITHOUT_DEADLINE };
        let lateness_s = now.duration_since(shard.tick.start()).as_secs();
        if let Err(error) = shard.tick.timely(now, self.settings.period) {
            tracing::error!(tick = %shard.tick, tick.lateness_s = lateness_s, %error, "tick refused");
            // What comes too late to be done is late all the same: nothing else would tell.
            self.count(&Summary::default(), lateness_s);
            return Ok(Summary::default());
        }
        let ids = self.store.active(&shard.tenants()).await.map_err(InvocationError::List)?;

        if ids.len() > self.settings.tenants_per_invocation && shard.generation < MAX_GENERATIONS {
            let shards = shard.split(&ids, self.settings.tenants_per_invocation);
            self.bus.publish_shards(&shards).await?;
            tracing::info!(tick = %shard.tick, tenants = ids.len(), shards = shards.len(), "tick split into shards");
            return Ok(Summary { requeued: shards.len(), ..Summary::default() });
        }

        let (mut summary, requeued) = self.check_all(&shard, &ids, deadline).await;
        // First what takes no call.
        self.count(&summary, lateness_s);
        tracing::info!(
            tick = %shard.tick,
            tick.lateness_s = lateness_s,
            tenants = ids.len(),
            tenants.accepted = summary.accepted,
            tenants.not_accepted = summary.not_accepted,
            tenants.not_started = summary.not_started,
            tenants.failed = summary.failed,
            records.corrupt = summary.corrupt,
            services = summary.services,
            services.suppressed = summary.suppressed,
            services.unseen = summary.unseen,
            shards = summary.requeued,
            "tick done"
        );
        let last_work = async {
            self.announce_suppression(shard.tick, &summary).await;
            self.suspend_unreachable(&summary).await;
        };
        if timeout_at(self.time_left(deadline, LAST_WORK), last_work).await.is_err() {
            tracing::error!(tick = %shard.tick, "out of time for suspensions; the next tick makes up for them");
        }
        summary.unreachable.clear();
        requeued?;
        if summary.failed > 0 { Err(InvocationError::Tenants(summary.failed)) } else { Ok(summary) }
    }

    async fn check_all(
        &self,
        shard: &Shard,
        ids: &[TenantId],
        deadline: Timestamp,
    ) -> (Summary, Result<(), BusError>) {
        let (last_start, end) =
            (self.time_left(deadline, RESERVE), self.time_left(deadline, END_BEFORE_DEADLINE));
        let closing = tokio::time::sleep_until(last_start);
        let ending = tokio::time::sleep_until(end + OVERTIME);
        tokio::pin!(closing, ending);
        let invocation = Invocation {
            context: TickContext { tick: shard.tick, period: self.settings.period },
            probe: &self.probe,
            controls: ControlEndpoints::new(&self.probe, &self.settings.controls),
            confirm_after: &self.settings.confirm_after,
            places: Semaphore::new(SERVICES_AT_ONCE),
            end,
        };
        let pause = self.settings.pause_between_starts(ids.len());
        let mut next_start = Instant::now();
        let mut waiting = ids.iter();
        let mut running = FuturesUnordered::new();
        let requeueing = Fuse::terminated();
        tokio::pin!(requeueing);
        let (mut summary, mut requeued) = (Summary::default(), Ok(()));
        while !(running.is_empty() && waiting.as_slice().is_empty() && requeueing.is_terminated()) {
            let is_full = invocation.places.available_permits() == 0;
            tokio::select! {
                biased;
                // Whatever hangs, the invocation is reported before Lambda ends it.
                () = &mut ending => {
                    if !running.is_empty() {
                        tracing::error!(tick = %shard.tick, tenants = running.len(), "out of time; tenants are left in the middle of their tick");
                    }
                    summary.failed += running.len();
                    if !requeueing.is_terminated() {
                        summary.failed += summary.not_started;
                    }
                    break;
                }
                // The rest is requeued at once, not after the last of those that are under way.
                () = &mut closing, if !waiting.as_slice().is_empty() => {
                    let left = waiting.as_slice();
                    summary.not_started = left.len();
                    requeueing.set(self.requeue_rest(shard, ids, ids.len() - left.len()).fuse());
                    waiting = [].iter();
                }
                result = &mut requeueing, if !requeueing.is_terminated() => match result {
                    Ok(shards) => summary.requeued = shards,
                    Err(error) => requeued = Err(error),
                },
                () = tokio::time::sleep_until(next_start), if !is_full && !waiting.as_slice().is_empty() => {
                    let Some(id) = waiting.next() else { continue };
                    let check = self.check_tenant(id, &invocation);
                    running.push(async move { (id, check.await) });
                    next_start += pause;
                }
                Some((id, outcome)) = running.next() => summary = summary.with(id, outcome),
            }
        }
        (summary, requeued)
    }

    /// Step 6: the tenants that there is no time for. Returns the number of shards.
    async fn requeue_rest(&self, shard: &Shard, ids: &[TenantId], started: usize) -> Result<usize, BusError> {
        let left = ids.len() - started;
        if Tick::is_over(shard.tick, self.clock.now(), self.settings.period) {
            tracing::warn!(tick = %shard.tick, tenants.left = left, "out of time; the next tick has begun and covers them");
            return Ok(0);
        }
        if shard.generation >= MAX_GENERATIONS {
            tracing::error!(tick = %shard.tick, tenants.left = left, "requeued too often; they wait for the next tick");
            return Ok(0);
        }
        let rest = shard.remainder(started.checked_sub(1).map(|last| &ids[last]));
        self.bus.publish_shards(&[rest]).await?;
        tracing::warn!(tick = %shard.tick, tenants.left = left, "out of time; the rest is requeued");
        Ok(1)
    }

    /// The moment that lies `reserve` before the deadline.
    fn time_left(&self, deadline: Timestamp, reserve: SignedDuration) -> Instant {
        let left = deadline.duration_since(self.clock.now()) - reserve;
        Instant::now() + Duration::try_from(left).unwrap_or_default()
    }

    fn count(&self, summary: &Summary, lateness_s: i64) {
        let now = self.clock.now();
        for (metric, value) in [
            (Metric::TickLateness, usize::try_from(lateness_s).unwrap_or(0)),
            (Metric::TenantsNotStarted, summary.not_started),
            (Metric::VerdictsSuppressed, summary.suppressed),
            (Metric::ServicesUnseen, summary.unseen),
            (Metric::CorruptRecords, summary.corrupt),
            (Metric::Checks(CheckOutcome::Alive), summary.alive),
            (Metric::Checks(CheckOutcome::NotAlive), summary.not_alive),
            (Metric::Callbacks(CallbackResult::Accepted), summary.accepted),
            (Metric::Callbacks(CallbackResult::Refused), summary.refused + summary.next_key_refused),
            (Metric::Callbacks(CallbackResult::Failed), summary.not_accepted - summary.refused),
        ] {
            self.metrics.put(metric, value, now);
        }
    }

    /// Suppressed verdicts are the operator's business.
    async fn announce_suppression(&self, tick: Tick, summary: &Summary) {
        if summary.suppressed == 0 {
            return;
        }
        let suppressed =
            VerdictsSuppressed { tick, tenants: summary.tenants_suppressed, services: summary.suppressed };
        tracing::error!(
            %tick,
            tenants = suppressed.tenants,
            services = suppressed.services,
            "verdicts suppressed: most control endpoints fail too, so the network of this backend is down"
        );
        // Best effort: the log line has it too, and the tick is done.
        if let Err(error) = self.bus.suppressed(&suppressed).await {
            tracing::error!(%tick, error = %ErrorChain(&error), "suppressed verdicts could not be announced");
        }
    }

    async fn suspend_unreachable(&self, summary: &Summary) {
        if summary.has_shared_fault() && !summary.unreachable.is_empty() {
            let tenants = summary.unreachable.len();
            tracing::warn!(tenants, "not suspended: too many tenants fail alike");
            return;
        }
        for (tenant, services) in &summary.unreachable {
            let (id, expires_at) = (tenant.id(), whole_seconds(self.clock.now()) + SUSPENDED_FOR);
            match self.store.suspend(tenant, services, Some(expires_at)).await {
                Ok(WriteOutcome::Applied) => {
                    tracing::warn!(tenant.id = %id, "tenant suspended: its app has not answered for long");
                }
                Ok(WriteOutcome::Conflict) => {
                    tracing::info!(tenant.id = %id, "tenant not suspended: it has changed since it was read");
                }
                Err(error) => {
                    tracing::error!(tenant.id = %id, error = %ErrorChain(&error), "tenant could not be suspended");
                }
            }
        }
    }
}

impl Settings {
    /// Tenants of a range start one after the other in the order of their ids, which are hashes: evenly, at about the
    /// same moment of every tick, and so that what was started is always a range. With few tenants nobody waits for
    /// anything that could be measured, and a large range takes its time without being billed for more than it needs.
    fn pause_between_starts(&self, tenants: usize) -> Duration {
        let longest = self.period.duration().unsigned_abs() * u32::from(self.spread_percent) / 100;
        let tenants = u32::try_from(tenants).unwrap_or(u32::MAX).max(1);
        LONGEST_PAUSE.min(longest / tenants)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_a_fiftieth_of_a_second_apart_or_fill_their_part_of_the_period() {
        let settings = |minutes, spread_percent| Settings {
            issuer: String::new(),
            triggers: TriggerPolicy { hosts: vec![], allow_loopback: false },
            period: Period::from_minutes(minutes).unwrap(),
            tenants_per_invocation: 2_500,
            spread_percent,
            confirm_after: vec![],
            controls: vec![],
        };
        let millis = |minutes, spread_percent, tenants| {
            settings(minutes, spread_percent).pause_between_starts(tenants).as_millis()
        };
        assert_eq!(millis(5, 20, 0), 20);
        assert_eq!(millis(5, 20, 1), 20);
        assert_eq!(millis(5, 20, 3_000), 20);
        assert_eq!(millis(5, 20, 6_000), 10);
        assert_eq!(millis(1, 20, 2_500), 4);
        assert_eq!(millis(5, 0, 2_500), 0);
    }
}
