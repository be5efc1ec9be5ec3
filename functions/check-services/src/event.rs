//! What starts an invocation: the schedule's tick, or a shard of its tenants that another invocation published.

use aws::store::TenantIdRange;
use domain::id::{CloudId, TenantId};
use domain::service::ServiceName;
use domain::status::Transition;
use domain::tick::{Period, Tick};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `source` of events on our bus.
pub const SOURCE: &str = "forge-health";
/// `detail-type` of a shard.
pub const CHECK_RANGE: &str = "CheckRange";
/// `detail-type` of suppressed verdicts. Nothing of ours listens to it.
pub const VERDICTS_HELD: &str = "VerdictsHeld";
/// `detail-type` of a change of status. Nothing of ours listens to it.
pub const STATUS_CHANGED: &str = "ServiceStatusChanged";

/// How often a shard may be split or requeued: each time it gets strictly smaller, and five times cover more tenants than a
/// tick has time for.
pub const MAX_GENERATIONS: u8 = 5;

/// An EventBridge event, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "detail-type")]
pub enum Event {
    /// From the cron rule. `time` is when the rule fired.
    #[serde(rename = "Scheduled Event")]
    Scheduled {
        /// When the rule fired.
        time: Timestamp,
    },
    /// From our bus.
    #[serde(rename = "CheckRange")]
    Shard {
        /// Which tenants, at which tick.
        detail: Shard,
    },
}

/// Tenants to check at a tick: fan-out, remainder and resume are all this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// The tick.
    pub tick: Tick,
    /// Exclusive; absent from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<TenantId>,
    /// Inclusive; absent to the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<TenantId>,
    /// How often it has been split or requeued.
    #[serde(rename = "hop")]
    pub generation: u8,
}

/// An invocation suppressed verdicts, because most control endpoints failed too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerdictsSuppressed {
    /// At this tick.
    pub tick: Tick,
    /// How many tenants have such services.
    pub tenants: usize,
    /// How many services keep their last status although they failed.
    pub services: usize,
}

/// A service changed its status. No URL: it may hold what only its owner should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusChanged {
    /// The site.
    pub cloud_id: CloudId,
    /// The tenant.
    pub tenant_id: TenantId,
    /// The service's name.
    pub service_name: ServiceName,
    /// The transition, as the Forge app is told.
    #[serde(flatten)]
    pub transition: Transition,
}

impl Event {
    /// The tenants to check. The schedule means everybody.
    #[must_use]
    pub fn shard(self, period: Period) -> Shard {
        match self {
            Self::Scheduled { time } => {
                Shard { tick: Tick::containing(time, period), after: None, through: None, generation: 0 }
            }
            // A tick that was not made by `Tick::containing` cannot come from us; flooring makes it harmless.
            Self::Shard { detail } => Shard { tick: Tick::containing(detail.tick.start(), period), ..detail },
        }
    }
}

impl Shard {
    /// The same tenants, for the store.
    #[must_use]
    pub fn tenants(&self) -> TenantIdRange {
        TenantIdRange { after: self.after.clone(), through: self.through.clone() }
    }

    /// This shard cut into shards of at most `size` of the tenants `ids`, which are all of its tenants in order.
    /// Together they cover the whole shard, tenants that are added meanwhile included.
    #[must_use]
    pub fn split(&self, ids: &[TenantId], size: usize) -> Vec<Self> {
        let chunks = ids.chunks(size.max(1)).collect::<Vec<_>>();
        let mut after = self.after.clone();
        let mut shards = Vec::with_capacity(chunks.len());
        for (index, chunk) in chunks.iter().enumerate() {
            let is_last = index + 1 == chunks.len();
            let through = if is_last { self.through.clone() } else { chunk.last().cloned() };
            shards.push(Self {
                tick: self.tick,
                after,
                through: through.clone(),
                generation: self.generation + 1,
            });
            after = through;
        }
        shards
    }

    /// What is left when every tenant up to `done` (`None`: not even the first) has been started.
    #[must_use]
    pub fn remainder(&self, done: Option<&TenantId>) -> Self {
        let after = done.cloned().or_else(|| self.after.clone());
        Self { tick: self.tick, after, through: self.through.clone(), generation: self.generation + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u8) -> Vec<TenantId> {
        (0..count)
            .map(|i| TenantId::parse(&format!("{}{}", "a".repeat(31), char::from(b'a' + i))).unwrap())
            .collect()
    }

    fn shard() -> Shard {
        let tick =
            Tick::containing("2026-11-22T10:05:00Z".parse().unwrap(), Period::from_minutes(5).unwrap());
        Shard { tick, after: None, through: None, generation: 0 }
    }

    #[test]
    fn the_shards_of_a_shard_cover_it_exactly_once() {
        for size in 1..=8 {
            let ids = ids(7);
            let parts = shard().split(&ids, size);
            for id in &ids {
                let holding = parts.iter().filter(|part| {
                    part.after.as_ref().is_none_or(|after| id > after)
                        && part.through.as_ref().is_none_or(|through| id <= through)
                });
                assert_eq!(holding.count(), 1, "{id} with parts of {size}");
            }
            assert_eq!((&parts[0].after, &parts[parts.len() - 1].through), (&None, &None));
        }
    }

    #[test]
    fn the_events_are_the_ones_in_the_folder() {
        let period = Period::from_minutes(5).unwrap();
        let tick: Event =
            serde_json::from_str(include_str!("../../../events/check-services/tick.json")).unwrap();
        assert_eq!(tick.shard(period), shard());
        let part: Event =
            serde_json::from_str(include_str!("../../../events/check-services/shard.json")).unwrap();
        let part = part.shard(period);
        assert_eq!((part.tick, part.generation, part.after.is_some()), (shard().tick, 1, true));
        assert!(
            serde_json::from_str::<Event>(r#"{"detail-type":"Other","time":"2026-11-22T10:05:00Z"}"#)
                .is_err()
        );
    }
}
