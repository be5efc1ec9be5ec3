//! The state machine over long histories, against a naive model of its rules, and over a month of a deployment.

mod histories;
mod month;

use std::collections::BTreeMap;

use domain::check::{Check, Observation, ProbeFailure};
use domain::id::{Owner, ServiceId, TenantId};
use domain::service::{AliveAfter, DownAfter, Lifecycle, Service, ServiceName, Thresholds};
use domain::status::{Finding, State, TenantServices};
use domain::target_url::TargetPolicy;
use domain::tick::{Period, Tick};
use jiff::Timestamp;

pub(crate) type Findings = BTreeMap<ServiceId, Finding>;

/// 2026-11-01T00:00:00Z.
const BEGIN: i64 = 1_793_491_200;

pub(crate) fn period() -> Period {
    Period::from_minutes(5).unwrap()
}

/// The tick of this number, from 0 at the begin of a month.
pub(crate) fn tick(number: i64) -> Tick {
    Tick::containing(Timestamp::from_second(BEGIN + number * 300).unwrap(), period())
}

/// An active service at a host of its own.
pub(crate) fn service(host: &str, thresholds: Thresholds) -> Service {
    let tenant = TenantId::parse(&"a".repeat(32)).unwrap();
    let target = TargetPolicy::public(vec![], vec![]).target(&format!("https://{host}/")).unwrap();
    let name = ServiceName::parse(host).unwrap();
    let owner = Owner::parse("owner-1").unwrap();
    let pending = Service::pending(&tenant, name, Check::get(target), owner, tick(0).start());
    Service { lifecycle: Lifecycle::Active, thresholds, ..pending }
}

/// Services without one that cannot be read.
pub(crate) fn readable(services: &[Service]) -> TenantServices<'_> {
    TenantServices { services, unreadable: &[] }
}

pub(crate) fn thresholds(failed: u8, of: u8, good: u8) -> Thresholds {
    Thresholds {
        down_after: DownAfter::new(failed, of).unwrap(),
        alive_after: AliveAfter::new(good).unwrap(),
    }
}

pub(crate) fn observation(at: Tick, failure: Option<ProbeFailure>) -> Observation {
    Observation {
        checked_at: at.start(),
        response_time_ms: 40,
        attempts: if failure.is_some() { 3 } else { 1 },
        http_status: failure.is_none().then_some(200),
        failure,
        certificate_expires_at: None,
    }
}

/// What the app's acceptance does to the stored state.
pub(crate) fn acknowledge(state: &mut State) {
    state.acked_tick = state.last_tick;
}
