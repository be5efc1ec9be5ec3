//! Whether a tick has something to tell the Forge app, whose owner pays for every report that it receives.
//!
//! Decided from what is stored anyway, so that a quiet tick costs no write. Where that leaves a doubt the answer is yes:
//! a report too many is harmless. What no record shows (a name changed by hand, say) is told with the next heartbeat.

use jiff::{SignedDuration, Timestamp};
use shared::config::CallbackMode;
use shared::status::State;
use shared::store::{Deliveries, Watched};
use shared::tenant::{Tenant, TenantStatus};
use shared::tick::{Period, Tick};

use crate::handover;

/// How often an app hears of a tenant to which nothing happens.
const HEARTBEAT: SignedDuration = SignedDuration::from_hours(1);

/// Whether the app must be told of `after`, the state that `tick` made of what was found in `watched`.
pub(crate) fn is_due(
    mode: CallbackMode,
    watched: &Watched,
    after: &State,
    tick: Tick,
    period: Period,
) -> bool {
    let before = &watched.state;
    let (CallbackMode::OnChange, Some(quiet_until), Some(last)) =
        (mode, before.quiet_until, before.last_tick)
    else {
        // Without a `quiet_until` the app waits for every tick: it is new, or the mode was changed.
        return true;
    };
    let is_heartbeat = tick >= quiet_until;
    let has_missed_ticks = missed_ticks(before, tick, period) > 0;
    let was_not_reached =
        watched.tenant.status != TenantStatus::Active || watched.deliveries != Deliveries::default();
    // The app knows of the service's status from REGISTER alone, and may have lost all other services.
    let was_registered = watched.tenant.is_registered_since(last);
    let is_removed = before.services.keys().any(|id| !after.services.contains_key(id));
    // A tenant without services is only looked at until its app has taken that.
    let is_empty = after.services.is_empty();
    // How many failures were doubted is stored, not whether the app knows: while there is any, it is told.
    let is_held = before.services.values().chain(after.services.values()).any(|service| service.held > 0);

    let next_key = watched.tenant.next_key.as_ref();
    let is_handing_over = next_key.is_some_and(|next| handover::is_offered(next, tick, period));

    is_heartbeat
        || is_handing_over
        || has_missed_ticks
        || was_not_reached
        || was_registered
        || is_removed
        || is_empty
        || is_held
        || !after.transitions.is_empty()
}

/// How many ticks before this one did not check the tenant; none while it had no services.
pub(crate) fn missed_ticks(before: &State, tick: Tick, period: Period) -> u32 {
    let last = before.last_tick.filter(|_| !before.services.is_empty());
    last.map_or(0, |last| tick.missed_since(last, period))
}

/// The tick before which an app that is told at `tick` need not be told again: its next heartbeat, at its own tick of the
/// hour. `None` when the next tick tells it in any case: in the other mode, and when it could not be reached last.
pub(crate) fn quiet_until(mode: CallbackMode, tenant: &Tenant, tick: Tick, period: Period) -> Option<Tick> {
    let may_be_quiet = mode == CallbackMode::OnChange && tenant.status == TenantStatus::Active;
    may_be_quiet.then(|| tick.next(period).turn_from(tenant.id().seed(), HEARTBEAT, period))
}

/// When an app that is told at `now` of `tick` hears again at the latest: as long after the start of `quiet_until` as
/// now after the start of `tick`, and a period later, since the tick after a heartbeat repeats one that failed.
pub(crate) fn next_update_by(now: Timestamp, tick: Tick, quiet_until: Tick, period: Period) -> Timestamp {
    now + quiet_until.start().duration_since(tick.start()) + period.duration()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use shared::id::{CloudId, ServiceId, TenantId};
    use shared::key::{PrivateKey, TenantKey, WrappedKey};
    use shared::status::{History, Since, Status, Transition};
    use shared::tenant::{Introduction, NextKey, TriggerRule};

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn five() -> Period {
        Period::from_minutes(5).unwrap()
    }

    fn tick(time: &str) -> Tick {
        Tick::containing(at(&format!("2026-11-22T{time}:00Z")), five())
    }

    fn service(name: &str, held: u8) -> (ServiceId, Since) {
        let cloud_id = CloudId::parse("11111111-2222-4333-8444-555555555555").unwrap();
        let tenant = TenantId::derive(&cloud_id, "http://127.0.0.1:8900/x1/abc");
        let since = at("2026-11-22T09:00:00Z");
        (
            ServiceId::derive(&tenant, name),
            Since { status: Status::Alive, since, history: History::default(), held },
        )
    }

    fn key(seed: u8) -> TenantKey {
        TenantKey {
            public: PrivateKey::from_seed(&[seed; 32]).public_key().unwrap(),
            wrapped: WrappedKey::new(vec![]),
            made_at: at("2026-11-22T09:00:00Z"),
        }
    }

    fn next_key(refused_at: Option<&str>) -> NextKey {
        NextKey {
            key: key(2),
            introduction: Introduction::new(String::new()),
            introduced_until: at("2026-12-06T09:00:00Z"),
            is_accepted: false,
            refused_at: refused_at.map(at),
        }
    }

    /// A tenant that was told at 10:05 to expect nothing before 11:00, and the same state at 10:10.
    fn quiet() -> (Watched, State) {
        let rule = TriggerRule { hosts: vec![], allow_loopback: true };
        let tenant = Tenant {
            cloud_id: CloudId::parse("11111111-2222-4333-8444-555555555555").unwrap(),
            trigger_url: rule.parse("http://127.0.0.1:8900/x1/abc").unwrap(),
            key: key(1),
            next_key: None,
            status: TenantStatus::Active,
            created_at: at("2026-11-22T09:00:00Z"),
            registered_at: Some(at("2026-11-22T09:00:00Z")),
        };
        let state = State {
            last_tick: Some(tick("10:05")),
            services: BTreeMap::from([service("a", 0), service("b", 0)]),
            quiet_until: Some(tick("11:00")),
            ..State::default()
        };
        let watched =
            Watched { tenant, services: vec![], state: state.clone(), deliveries: Deliveries::default() };
        (watched, State { last_tick: Some(tick("10:10")), ..state })
    }

    type Change = fn(&mut Watched, &mut State);

    #[test]
    fn a_tick_without_news_is_quiet_and_each_kind_of_news_is_due() {
        let is_due = |mode, change: Change| {
            let (mut watched, mut after) = quiet();
            change(&mut watched, &mut after);
            super::is_due(mode, &watched, &after, after.last_tick.unwrap(), five())
        };
        let quiet: [(&str, Change); 6] = [
            ("nothing", |_, _| ()),
            ("the last tick before the heartbeat", |watched, after| {
                (watched.state.last_tick, after.last_tick) = (Some(tick("10:50")), Some(tick("10:55")));
            }),
            ("a service that was stored before its registration's tick", |_, after| {
                after.services.extend([service("c", 0)]);
            }),
            ("a registration a minute and more before the last tick", |watched, _| {
                watched.tenant.registered_at = Some(at("2026-11-22T10:03:59Z"));
            }),
            ("a next key that the app has refused for a while", |watched, _| {
                watched.tenant.next_key = Some(next_key(Some("2026-11-22T09:55:00Z")));
            }),
            ("a tenant of before registrations were noted", |watched, _| watched.tenant.registered_at = None),
        ];
        for (name, change) in quiet {
            assert!(!is_due(CallbackMode::OnChange, change), "{name}");
            assert!(is_due(CallbackMode::EveryTick, change), "{name}");
        }
        let due: [(&str, Change); 17] = [
            ("the first tick", |watched, _| watched.state = State::default()),
            ("told of every tick so far", |watched, _| watched.state.quiet_until = None),
            ("the heartbeat", |watched, _| watched.state.quiet_until = Some(tick("10:10"))),
            ("a heartbeat whose tick was not ours", |watched, _| {
                watched.state.quiet_until = Some(tick("10:06"));
            }),
            ("a missed tick", |_, after| after.last_tick = Some(tick("10:15"))),
            ("a change of status", |_, after| after.transitions.push(transition("10:10"))),
            ("one that is not acknowledged", |_, after| after.transitions.push(transition("10:05"))),
            ("a failed delivery", |watched, _| {
                watched.deliveries.failing_since = Some(at("2026-11-22T10:05:03Z"));
            }),
            ("no key of ours", |watched, _| watched.tenant.status = TenantStatus::Unregistered),
            ("suspended", |watched, _| watched.tenant.status = TenantStatus::Suspended),
            ("a service removed", |_, after| drop(after.services.pop_first())),
            ("a verdict held", |_, after| after.services.extend([service("a", 1)])),
            ("a verdict held no longer", |watched, _| watched.state.services.extend([service("a", 9)])),
            ("a registration since", |watched, _| {
                watched.tenant.registered_at = Some(at("2026-11-22T10:07:00Z"));
            }),
            ("a next key", |watched, _| watched.tenant.next_key = Some(next_key(None))),
            ("one that the app has just refused", |watched, _| {
                watched.tenant.next_key = Some(next_key(Some("2026-11-22T09:55:01Z")));
            }),
            ("a registration just before", |watched, _| {
                watched.tenant.registered_at = Some(at("2026-11-22T10:04:00Z"));
            }),
        ];
        for (name, change) in due {
            assert!(is_due(CallbackMode::OnChange, change), "{name}");
            assert!(is_due(CallbackMode::EveryTick, change), "{name}");
        }
    }

    fn transition(time: &str) -> Transition {
        let (service_id, _) = service("a", 0);
        let (from, to) = (Status::Alive, Status::Down);
        let at = tick(time).start();
        Transition { tick: tick(time), service_id, from, to, at, reason: "timeout".to_owned() }
    }

    #[test]
    fn the_next_heartbeat_is_within_the_hour_and_only_a_tenant_that_is_well_waits_for_it() {
        let (Watched { mut tenant, .. }, _) = quiet();
        let until = |tenant: &Tenant, mode, time| quiet_until(mode, tenant, tick(time), five());
        let heartbeat = until(&tenant, CallbackMode::OnChange, "10:00").unwrap();
        assert!(heartbeat > tick("10:00") && heartbeat <= tick("11:00"), "{heartbeat}");
        let next = quiet_until(CallbackMode::OnChange, &tenant, heartbeat, five()).unwrap();
        assert_eq!(next.start().duration_since(heartbeat.start()), HEARTBEAT);
        assert_eq!(until(&tenant, CallbackMode::EveryTick, "10:00"), None);
        for status in [TenantStatus::Unregistered, TenantStatus::Suspended] {
            tenant.status = status;
            assert_eq!(until(&tenant, CallbackMode::OnChange, "10:00"), None);
        }
    }

    #[test]
    fn with_ticks_of_an_hour_every_tick_is_a_heartbeat() {
        let (Watched { tenant, .. }, _) = quiet();
        let hourly = Period::from_minutes(60).unwrap();
        let now = Tick::containing(at("2026-11-22T10:00:00Z"), hourly);
        assert_eq!(quiet_until(CallbackMode::OnChange, &tenant, now, hourly), Some(now.next(hourly)));
    }

    #[test]
    fn the_app_may_wait_for_the_heartbeat_and_the_tick_after_it() {
        let by = next_update_by(at("2026-11-22T10:05:07Z"), tick("10:05"), tick("10:40"), five());
        assert_eq!(by, at("2026-11-22T10:45:07Z"));
    }
}
