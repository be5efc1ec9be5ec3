//! Every call to AWS fails once, in every way: the tick ends with a clear answer, and the next ticks heal. Nothing is lost
//! and nothing doubled.

use std::collections::BTreeSet;

use check_services::event::Event;
use check_services::{InvocationError, Summary};
use domain::clock::Clock as _;
use domain::snapshot::FailureStreak;
use domain::status::Status;
use domain::tenant::TenantStatus;
use jiff::SignedDuration;
use serde_json::Value;
use testing::faults::{Fault, Faults};
use testing::forge_app::{ACCEPTED, ForgeApp, Reply};

use crate::world::World;

/// What is left behind: the services' statuses, what is not acknowledged, the tenant, its failures, and every
/// transition that the app has applied, each once; and whether a key is still being handed over.
type Left = (Vec<Status>, usize, TenantStatus, FailureStreak, Vec<(String, String)>, bool);

async fn left_behind(world: &World) -> Left {
    let watched = world.watched(&world.app).await.unwrap();
    let statuses = watched.state.services.values().map(|since| since.status).collect();
    let (tenant, applied) = (watched.tenant, applied(&world.app));
    // Never an app that trusts a key that the backend has not, or the reverse.
    assert_eq!(world.app.trusted_keys(world.clock.now())[0], tenant.web_trigger().key.public);
    let (told, is_handing_over) = (watched.state.transitions.len(), tenant.web_trigger().next_key.is_some());
    (statuses, told, tenant.status, watched.failures, applied, is_handing_over)
}

/// As the receiver does: an update with a later tick is applied, each of its transitions once.
fn applied(app: &ForgeApp) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let mut known = BTreeSet::new();
    let mut applied = Vec::new();
    for update in app.received("UPDATE").iter().filter(|update| update.reply == ACCEPTED) {
        for transition in update.body["transitions"].as_array().unwrap() {
            if known.insert((word(&transition["tick"]), word(&transition["serviceId"]))) {
                applied.push((word(&transition["from"]), word(&transition["to"])));
            }
        }
    }
    applied
}

/// What must be known of a tick that met a fault at this operation.
fn is_clear(
    index: usize,
    operation: &str,
    ended: &Result<Summary, InvocationError>,
    has_two_keys: bool,
) -> bool {
    match (index, operation) {
        (0, "Query") => matches!(ended, Err(InvocationError::List(_))),
        (1, "PutEvents") => matches!(ended, Err(InvocationError::Requeue(_))),
        // The tenant, and its commit.
        (1, "Query") | (2, "UpdateItem") => matches!(ended, Err(InvocationError::Tenants(1))),
        // The tenant's other key signs, if there is one.
        (_, "Decrypt") if has_two_keys => matches!(ended, Ok(Summary { accepted: 0 | 1, failed: 0, .. })),
        (_, "Decrypt") => matches!(ended, Ok(Summary { accepted: 0, not_accepted: 1, .. })),
        // The update has been sent; what was to be noted of its answer is noted at the next tick.
        _ => matches!(ended, Ok(Summary { failed: 0, .. })),
    }
}

/// Prepares a world, runs one tick with a fault at each of its calls, and lets two more heal.
async fn walk(prepare: impl AsyncFn() -> World, expected_calls: &[&str]) -> Left {
    Box::pin(walk_all(prepare, expected_calls)).await
}

async fn walk_all(prepare: impl AsyncFn() -> World, expected_calls: &[&str]) -> Left {
    let heal = async |world: &World| {
        world.app.answer_always(ACCEPTED);
        // Suspended tenants are due once a day.
        for _ in 0..2 {
            advance_to_due(world);
            world.tick(&world.function()).await;
        }
        left_behind(world).await
    };
    let world = prepare().await;
    let none = Faults::none();
    world.function_with_faults(&none).handle(world.scheduled(), world.deadline()).await.unwrap();
    assert_eq!(none.operations(), expected_calls);
    let without_fault = heal(&world).await;

    for (index, name) in expected_calls.iter().enumerate() {
        for fault in Fault::ALL {
            let what = format!("{fault:?} at operation {index}, {name}");
            let world = prepare().await;
            let has_two_keys =
                world.watched(&world.app).await.unwrap().tenant.web_trigger().next_key.is_some();
            let function = world.function_with_faults(&Faults::at(index, fault));
            let ended = function.handle(world.scheduled(), world.deadline()).await;
            assert!(is_clear(index, name, &ended, has_two_keys), "{what}: {ended:?}");
            assert_eq!(heal(&world).await, without_fault, "{what}");
        }
    }
    without_fault
}

/// To the next slot in which the tenant would be checked if it were suspended.
fn advance_to_due(world: &World) {
    let due = i64::try_from(world.app.tenant_id().seed() % 288).unwrap() * 300;
    let now = world.clock.now().as_second().rem_euclid(86_400);
    let ahead = (due - now).rem_euclid(86_400);
    world.clock.advance(if ahead == 0 { 86_400 } else { ahead });
}

/// A service that has been found alive, acknowledged, and fails from now on.
async fn failing_service() -> World {
    let world = World::with_one_service().await;
    world.tick(&world.function()).await;
    world.target.answer(500);
    world.clock.advance(300);
    world
}

fn transitions(left: &Left) -> Vec<(&str, &str)> {
    left.4.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect()
}

#[tokio::test]
async fn a_change_is_told_once_whatever_call_fails() {
    let left =
        walk(failing_service, &["Query", "Query", "UpdateItem", "Decrypt", "PutEvents", "UpdateItem"]).await;
    assert_eq!(transitions(&left), [("UNKNOWN", "ALIVE"), ("ALIVE", "DOWN")]);
    assert_eq!((left.0, left.1), (vec![Status::Down], 0));
}

#[tokio::test]
async fn a_refused_update_is_told_later_whatever_call_fails() {
    let prepare = async || {
        let world = failing_service().await;
        world.app.answer_always(Reply::Code(401, "UNAUTHORIZED"));
        world
    };
    let left = walk(prepare, &["Query", "Query", "UpdateItem", "Decrypt", "PutEvents", "UpdateItem"]).await;
    assert_eq!(transitions(&left), [("UNKNOWN", "ALIVE"), ("ALIVE", "DOWN")]);
    assert_eq!(left.3, FailureStreak::default());
}

#[tokio::test]
async fn an_app_that_lost_the_key_is_noted_whatever_call_fails() {
    let prepare = async || {
        let world = failing_service().await;
        world.app.answer_always(Reply::Code(403, "UNREGISTERED"));
        world
    };
    let calls = ["Query", "Query", "UpdateItem", "Decrypt", "PutEvents", "UpdateItem", "UpdateItem"];
    assert_eq!(walk(prepare, &calls).await.2, TenantStatus::Active);
}

#[tokio::test]
async fn an_app_that_found_the_key_again_is_noted_whatever_call_fails() {
    let prepare = async || {
        let world = failing_service().await;
        let tenant = world.watched(&world.app).await.unwrap().tenant;
        world.aws.store().mark(&tenant, TenantStatus::Unregistered).await.unwrap();
        world
    };
    let calls = ["Query", "Query", "UpdateItem", "Decrypt", "PutEvents", "UpdateItem", "UpdateItem"];
    assert_eq!(walk(prepare, &calls).await.2, TenantStatus::Active);
}

#[tokio::test]
async fn a_tenant_is_given_up_and_revived_whatever_call_fails() {
    let gone = async || {
        let world = failing_service().await;
        let since = Some(world.clock.now() - SignedDuration::from_hours(25));
        let failures = FailureStreak { failing_since: since, gone_since: since };
        world
            .aws
            .store()
            .record_failures(&world.app.tenant_id(), FailureStreak::default(), failures)
            .await
            .unwrap();
        world.app.answer_always(Reply::Platform(404));
        world
    };
    let left =
        walk(gone, &["Query", "Query", "UpdateItem", "Decrypt", "PutEvents", "TransactWriteItems"]).await;
    assert_eq!((left.2, left.3), (TenantStatus::Active, FailureStreak::default()));
    assert_eq!(transitions(&left), [("UNKNOWN", "ALIVE"), ("ALIVE", "DOWN")]);

    let suspended = async || {
        let world = gone().await;
        world.tick(&world.function()).await;
        assert_eq!(world.watched(&world.app).await.unwrap().tenant.status, TenantStatus::Suspended);
        world.app.answer_always(ACCEPTED);
        advance_to_due(&world);
        world
    };
    let calls = ["Query", "Query", "UpdateItem", "Decrypt", "UpdateItem", "TransactWriteItems"];
    let left = walk(suspended, &calls).await;
    assert_eq!((left.2, left.3), (TenantStatus::Active, FailureStreak::default()));
    assert_eq!(transitions(&left), [("UNKNOWN", "ALIVE"), ("ALIVE", "DOWN")]);
}

#[tokio::test]
async fn a_key_is_handed_over_whatever_call_fails() {
    let offered = async || {
        let world = failing_service().await;
        world.offer_next_key(&world.app).await;
        world
    };
    let calls = ["Query", "Query", "UpdateItem", "Decrypt", "PutEvents", "UpdateItem", "UpdateItem"];
    let left = walk(offered, &calls).await;
    assert_eq!((transitions(&left), left.5), (vec![("UNKNOWN", "ALIVE"), ("ALIVE", "DOWN")], false));

    let accepted = async || {
        let world = offered().await;
        world.tick(&world.function()).await;
        world.clock.advance(300);
        world
    };
    let left = walk(accepted, &["Query", "Query", "UpdateItem", "Decrypt", "UpdateItem"]).await;
    assert_eq!((transitions(&left), left.5), (vec![("UNKNOWN", "ALIVE"), ("ALIVE", "DOWN")], false));
}

#[tokio::test]
async fn an_app_that_refuses_its_next_key_is_told_whatever_call_fails() {
    let prepare = async || {
        let world = failing_service().await;
        world.app.ignore_endorsements();
        world.offer_next_key(&world.app).await;
        world
    };
    let calls =
        ["Query", "Query", "UpdateItem", "Decrypt", "PutEvents", "Decrypt", "UpdateItem", "UpdateItem"];
    let left = walk(prepare, &calls).await;
    assert_eq!((transitions(&left), left.5), (vec![("UNKNOWN", "ALIVE"), ("ALIVE", "DOWN")], true));
}

#[tokio::test]
async fn ranges_are_handed_on_or_the_invocation_fails() {
    for (index, name) in ["Query", "PutEvents"].iter().enumerate() {
        for fault in Fault::ALL {
            let world = World::with_one_service().await;
            let other = world.another_app().await;
            world.add(&other, "b").await;
            let cut = |faults: &Faults| {
                let mut function = world.function_with_faults(faults);
                function.settings.tenants_per_invocation = 1;
                function
            };
            let function = cut(&Faults::at(index, fault));
            let ended = function.handle(world.scheduled(), world.deadline()).await;
            assert!(is_clear(index, name, &ended, false), "{fault:?} at {name}: {ended:?}");
            // Lambda runs the same event once more; shards that had been published all the same are there twice.
            let function = cut(&Faults::none());
            assert_eq!(function.handle(world.scheduled(), world.deadline()).await.unwrap().requeued, 2);
            let shards = world.shards();
            for shard in shards {
                function.handle(Event::Shard { detail: shard }, world.deadline()).await.unwrap();
            }
            for app in [&world.app, &other] {
                assert_eq!(app.received("UPDATE").len(), 1, "{fault:?} at {name}");
                assert_eq!(applied(app), [("UNKNOWN".to_owned(), "ALIVE".to_owned())]);
            }
        }
    }
}
