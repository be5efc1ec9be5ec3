//! A tick as a plan: whose turn it is, and what follows from each response.

use domain::id::CloudId;
use domain::key::{PrivateKey, TenantKey, WrappedKey};
use domain::key_rotation::NextKeyOutcome;
use domain::response::{CallbackResponse, ResponseCode};
use domain::service::Service;
use domain::snapshot::{FailureStreak, TenantSnapshot};
use domain::status::State;
use domain::tenant::{Delivery, KeyEndorsement, NextKey, Tenant, TenantStatus, TriggerPolicy, WebTrigger};
use domain::tick::{Period, Tick};
use domain::tick_plan::{Delivered, Effect, Findings, TickContext, Turn};
use jiff::{SignedDuration, Timestamp};

fn now() -> Timestamp {
    "2026-11-22T10:05:10Z".parse().unwrap()
}

fn context() -> TickContext {
    let period = Period::from_minutes(5).unwrap();
    TickContext { tick: Tick::containing(now(), period), period }
}

fn key(seed: u8) -> TenantKey {
    let public = PrivateKey::from_seed(&[seed; 32]).public_key().unwrap();
    TenantKey { public, wrapped: WrappedKey::new(vec![seed]), made_at: now() }
}

fn next_key() -> NextKey {
    NextKey {
        key: key(2),
        endorsement: KeyEndorsement::new("token".to_owned()),
        endorsed_until: now() + SignedDuration::from_hours(24),
        is_accepted: false,
        refused_at: None,
    }
}

fn snapshot(status: TenantStatus) -> TenantSnapshot {
    let triggers = TriggerPolicy { hosts: vec!["t.example".to_owned()], allow_loopback: false };
    let tenant = Tenant {
        cloud_id: CloudId::parse("11111111-2222-4333-8444-555555555555").unwrap(),
        delivery: Delivery::WebTrigger(WebTrigger::new(
            triggers.parse("https://t.example/x1/a").unwrap(),
            key(1),
        )),
        status,
        created_at: now(),
        registered_at: Some(now()),
    };
    let id = tenant.id();
    let check = serde_json::json!({
        "url": "https://shop.example/", "method": "GET", "expectedStatus": "200-299", "timeoutMs": 5000
    });
    let owner = domain::id::Owner::parse("p-1").unwrap();
    let name = domain::service::ServiceName::parse("Shop").unwrap();
    let service = Service::pending(&id, name, serde_json::from_value(check).unwrap(), owner, now());
    let mut state = State::default();
    // Seen before, so that this tick brings no transition.
    state.services.insert(service.id.clone(), domain::status::current(&state, &service));
    TenantSnapshot {
        tenant,
        revision: 1,
        services: vec![service],
        unreadable: vec![],
        state,
        failures: FailureStreak::default(),
    }
}

/// What is stored after this response under the present key.
fn effects(snapshot: &TenantSnapshot, response: CallbackResponse) -> (Vec<Effect>, bool) {
    let (findings, signer) = (Findings::new(), key(1));
    let plan = context().plan(snapshot, &findings);
    let after = plan.after(&Delivered { response, signer: &signer, failed: None, now: now() });
    assert_eq!(after.next_key, NextKeyOutcome::Nothing);
    (after.effects, after.is_unreachable)
}

fn failing(since: SignedDuration, gone: bool) -> FailureStreak {
    let since = Some(now() - since);
    FailureStreak { failing_since: since, gone_since: since.filter(|_| gone) }
}

const DAY: SignedDuration = SignedDuration::from_hours(24);

#[test]
fn a_tenant_has_one_turn_a_tick_and_a_suspended_one_a_day() {
    let mut active = snapshot(TenantStatus::Active);
    assert_eq!(context().turn(&active), Turn::Check);
    active.state.last_tick = Some(context().tick);
    assert_eq!(context().turn(&active), Turn::Past);
    let suspended = snapshot(TenantStatus::Suspended);
    let mut at = context();
    let turns = (0..288).map(|_| {
        at.tick = at.tick.next(at.period);
        at.turn(&suspended)
    });
    assert_eq!(turns.filter(|turn| *turn == Turn::ReportOnly).count(), 1);
}

#[test]
fn an_accepted_report_is_noted_only_when_that_changes_anything() {
    let accepted = || CallbackResponse::App(ResponseCode::Accepted);
    let failed_before = TenantSnapshot { failures: failing(DAY, false), ..snapshot(TenantStatus::Active) };
    let empty = TenantSnapshot { services: vec![], ..snapshot(TenantStatus::Active) };
    for (snapshot, expected) in [
        (snapshot(TenantStatus::Active), vec![]),
        (failed_before, vec![Effect::Acknowledge]),
        (empty, vec![Effect::Acknowledge]),
        (snapshot(TenantStatus::Unregistered), vec![Effect::Mark(TenantStatus::Active)]),
        (snapshot(TenantStatus::Suspended), vec![Effect::Revive]),
    ] {
        assert_eq!(effects(&snapshot, accepted()), (expected, false), "{:?}", snapshot.tenant.status);
    }
}

#[test]
fn a_report_that_is_not_accepted_begins_a_streak_that_suspends_in_the_end() {
    let gone = || CallbackResponse::Platform { status: 404, retry_after: None };
    let with = |failures| TenantSnapshot { failures, ..snapshot(TenantStatus::Active) };
    let first = failing(SignedDuration::ZERO, false);
    assert_eq!(
        effects(&with(FailureStreak::default()), CallbackResponse::Missing),
        (vec![Effect::RecordFailures(first)], false)
    );
    // Nothing new to store, and nothing to suspend yet.
    assert_eq!(effects(&with(failing(DAY * 6, false)), CallbackResponse::Missing), (vec![], false));
    assert_eq!(effects(&with(failing(DAY * 7, false)), CallbackResponse::Missing), (vec![], true));
    assert_eq!(effects(&with(failing(DAY, true)), gone()), (vec![], true));
    // Another failure ends the streak of 404s.
    let failures = failing(DAY, true);
    let (stored, is_unreachable) = effects(&with(failures), CallbackResponse::Missing);
    let without_gone = FailureStreak { gone_since: None, ..failures };
    assert_eq!((stored, is_unreachable), (vec![Effect::RecordFailures(without_gone)], false));
    // A suspended tenant is not suspended again.
    let suspended = TenantSnapshot { failures: failing(DAY * 9, false), ..snapshot(TenantStatus::Suspended) };
    assert_eq!(effects(&suspended, CallbackResponse::Missing), (vec![], false));
}

#[test]
fn an_app_without_our_key_is_marked_and_one_that_is_ahead_is_no_failure() {
    let unregistered = CallbackResponse::App(ResponseCode::Unregistered);
    let (stored, _) = effects(&snapshot(TenantStatus::Active), unregistered);
    assert_eq!(stored[0], Effect::Mark(TenantStatus::Unregistered));
    let stale = CallbackResponse::App(ResponseCode::StaleTick);
    let failed = TenantSnapshot { failures: failing(DAY * 9, true), ..snapshot(TenantStatus::Active) };
    assert_eq!(effects(&failed, stale), (vec![Effect::RecordFailures(FailureStreak::default())], false));
}

#[test]
fn a_next_key_is_promoted_when_the_app_has_accepted_it_twice() {
    let mut snapshot = snapshot(TenantStatus::Active);
    let findings = Findings::new();
    let signer = key(2);
    let after = |snapshot: &TenantSnapshot| {
        let response = CallbackResponse::App(ResponseCode::Accepted);
        let plan = context().plan(snapshot, &findings);
        plan.after(&Delivered { response, signer: &signer, failed: None, now: now() }).effects
    };
    snapshot.tenant.web_trigger_mut().next_key = Some(next_key());
    let accepted = NextKey { is_accepted: true, ..next_key() };
    assert_eq!(after(&snapshot), [Effect::RecordNextKeyResponse(accepted.clone())]);
    snapshot.tenant.web_trigger_mut().next_key = Some(accepted.clone());
    assert_eq!(after(&snapshot), [Effect::PromoteNextKey(accepted)]);
}
