//! What an app is told that pays for every report: changes at their tick, and once an hour that all is well.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use shared::clock::Clock as _;
use shared::config::CallbackMode;
use shared::id::ServiceId;
use shared::store::{Deliveries, Registrations as _};
use shared::tenant::TenantStatus;
use shared_testing::forge_app::{ForgeApp, Reply};
use shared_testing::target::Target;

use crate::world::{Deployed, World};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn on_change(world: &World) -> Deployed {
    let mut function = world.function();
    function.settings.callback_mode = CallbackMode::OnChange;
    function
}

/// A deployment that has just sent the heartbeat of its app: eleven quiet ticks lie ahead.
async fn settled(world: &World, function: &Deployed) {
    // The registration is told of for two ticks.
    world.tick(function).await;
    world.next_tick(function).await;
    loop {
        world.next_tick(function).await;
        let state = world.watched(&world.app).await.unwrap().state;
        if state.quiet_until.unwrap().start().duration_since(state.last_tick.unwrap().start()) == HOUR {
            return;
        }
    }
}

/// A [`settled`] deployment.
pub(crate) async fn quiet_world() -> (World, Deployed) {
    let world = World::with_one_service().await;
    let function = on_change(&world);
    settled(&world, &function).await;
    (world, function)
}

/// The updates that each of the next ticks brings.
pub(crate) async fn next_ticks(world: &World, function: &Deployed, ticks: usize) -> Vec<usize> {
    let mut told = Vec::new();
    for _ in 0..ticks {
        let before = world.app.received("UPDATE").len();
        world.next_tick(function).await;
        told.push(world.app.received("UPDATE").len() - before);
    }
    told
}

fn last_update(app: &ForgeApp) -> Value {
    app.received("UPDATE").pop().unwrap().body
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn while_all_is_well_an_app_hears_once_an_hour_and_is_told_when() {
    let (world, function) = quiet_world().await;
    let asked = world.target.asked();
    let mut quiet = 0;
    for _ in 0..24 {
        let summary = world.next_tick(&function).await;
        assert_eq!((summary.accepted + summary.not_needed, summary.not_accepted), (1, 0));
        quiet += summary.not_needed;
    }
    assert_eq!((quiet, world.target.asked() - asked), (22, 24));

    let updates = world.app.received("UPDATE");
    let [.., before, last] = updates.as_slice() else { unreachable!("two heartbeats in two hours") };
    assert_eq!(time(&last.body["tick"]).duration_since(time(&before.body["tick"])), HOUR);
    // An hour, and a tick in which the next one may be repeated.
    let promise = time(&last.body["nextUpdateBy"]).duration_since(time(&last.body["sentAt"]));
    assert_eq!(promise, SignedDuration::from_mins(65));
    assert_eq!(last.body["missedTicks"], Value::Null);
    // The state of every tick is stored all the same.
    let state = world.watched(&world.app).await.unwrap().state;
    assert_eq!(state.last_tick.unwrap().start(), world.clock.now() - SignedDuration::from_secs(1));
}

#[tokio::test]
async fn a_change_is_told_at_its_tick() {
    let (world, function) = quiet_world().await;
    world.target.answer(500);
    assert_eq!(next_ticks(&world, &function, 3).await, [1, 0, 0]);
    assert_eq!(last_update(&world.app)["transitions"][0]["to"], "DOWN");
    world.target.answer(200);
    assert_eq!(next_ticks(&world, &function, 3).await, [1, 0, 0]);
    let update = last_update(&world.app);
    assert_eq!(
        (&update["transitions"][0]["to"], &update["services"][0]["status"]),
        (&json!("ALIVE"), &json!("ALIVE"))
    );
    // The heartbeat keeps its tick of the hour.
    assert_eq!(next_ticks(&world, &function, 6).await, [0, 0, 0, 0, 0, 1]);
}

#[tokio::test]
async fn what_did_not_arrive_is_told_at_the_next_tick() {
    let (world, function) = quiet_world().await;
    world.target.answer(500);
    world.app.answer_next([Reply::Code(401, "UNAUTHORIZED"), Reply::Platform(404)]);
    assert_eq!(next_ticks(&world, &function, 4).await, [1, 1, 1, 0]);
    assert_eq!(last_update(&world.app)["transitions"][0]["to"], "DOWN");
    assert_eq!(next_ticks(&world, &function, 7).await, [0; 7]);
    // Nothing but the heartbeat was to be told.
    world.app.answer_next([Reply::Platform(410)]);
    assert_eq!(next_ticks(&world, &function, 3).await, [1, 1, 0]);
    assert_eq!(world.watched(&world.app).await.unwrap().deliveries, Deliveries::default());
}

#[tokio::test]
async fn a_heartbeat_that_cannot_be_signed_is_told_at_the_next_tick_and_quiet_ticks_need_no_key() {
    let (world, _) = quiet_world().await;
    let kms = aws_sdk_kms::Client::new(&world.aws.settings);
    kms.disable_key().key_id(&world.aws.wrapping_key_id).send().await.unwrap();
    let cold = on_change(&world);
    for _ in 0..11 {
        assert_eq!(world.next_tick(&cold).await.not_needed, 1);
    }
    assert_eq!(world.next_tick(&cold).await.not_accepted, 1);
    assert_eq!(world.next_tick(&cold).await.not_accepted, 1, "it counts as failing until it is told");
    kms.enable_key().key_id(&world.aws.wrapping_key_id).send().await.unwrap();
    assert_eq!(next_ticks(&world, &cold, 3).await, [1, 0, 0]);
}

#[tokio::test]
async fn a_trigger_that_is_not_allowed_counts_as_failing_at_every_tick() {
    let (world, mut function) = quiet_world().await;
    function.settings.triggers.allow_loopback = false;
    for _ in 0..11 {
        assert_eq!(world.next_tick(&function).await.not_needed, 1);
    }
    for _ in 0..3 {
        assert_eq!(world.next_tick(&function).await.not_accepted, 1);
    }
}

#[tokio::test]
async fn a_service_that_was_removed_is_told_once() {
    let world = World::with_one_service().await;
    let removed = world.add(&world.app, "b").await;
    let function = on_change(&world);
    settled(&world, &function).await;
    delete(&world, &removed).await;
    assert_eq!(next_ticks(&world, &function, 3).await, [1, 0, 0]);
    assert_eq!(last_update(&world.app)["services"].as_array().unwrap().len(), 1);
}

async fn delete(world: &World, service: &ServiceId) {
    let dynamo = world.aws.dynamo();
    let key = |name: &str| AttributeValue::S(name.to_owned());
    dynamo
        .delete_item()
        .table_name(&world.aws.table)
        .key("pk", key(&format!("TENANT#{}", world.app.tenant_id())))
        .key("sk", key(&format!("SERVICE#{service}")))
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_registration_is_told_of_also_when_the_service_was_there_already() {
    let (world, function) = quiet_world().await;
    world.clock.advance(60);
    world.add(&world.app, "b").await;
    world.clock.advance(-60);
    assert_eq!(next_ticks(&world, &function, 3).await, [1, 0, 0]);
    assert_eq!(last_update(&world.app)["services"].as_array().unwrap().len(), 2);

    // Whoever registers the same URL again may do so because the app has lost everything else.
    let watched = world.watched(&world.app).await.unwrap();
    let (again, now) = (&watched.services[0], world.clock.now() + SignedDuration::from_secs(60));
    world.aws.store().activate(&watched.tenant, again, &[], now).await.unwrap();
    assert_eq!(next_ticks(&world, &function, 3).await, [1, 0, 0]);
}

#[tokio::test]
async fn while_verdicts_are_held_and_when_they_no_longer_are_every_tick_is_told() {
    let world = World::start().await;
    let mut targets = Vec::new();
    for host in 2..8 {
        let target = Target::start_at(host).await;
        world.add_service(&world.app, &target.url("a"), shared::service::Thresholds::default()).await;
        targets.push(target);
    }
    let mut function = on_change(&world);
    function.settings.confirm_after = vec![Duration::from_millis(300); 2];
    settled(&world, &function).await;
    let held = || {
        let update = last_update(&world.app);
        update["services"].as_array().unwrap().iter().filter(|service| service["held"] == true).count()
    };
    answer_all(&targets, 500);
    assert_eq!(next_ticks(&world, &function, 2).await, [1, 1]);
    assert_eq!(held(), 6);
    answer_all(&targets, 200);
    assert_eq!(next_ticks(&world, &function, 3).await, [1, 0, 0]);
    assert_eq!((held(), last_update(&world.app)["transitions"].clone()), (0, json!([])));
}

fn answer_all(targets: &[Target], status: u16) {
    for target in targets {
        target.answer(status);
    }
}

#[tokio::test]
async fn ticks_that_were_missed_are_told_of() {
    let (world, function) = quiet_world().await;
    assert_eq!(next_ticks(&world, &function, 1).await, [0]);
    world.clock.advance(600);
    assert_eq!(next_ticks(&world, &function, 2).await, [1, 0]);
    assert_eq!(last_update(&world.app)["missedTicks"], 2);
}

#[tokio::test]
async fn an_unregistered_tenant_is_told_at_every_tick_until_its_app_accepts() {
    let (world, function) = quiet_world().await;
    world.app.answer_always(Reply::Code(403, "UNREGISTERED"));
    world.target.answer(500);
    assert_eq!(next_ticks(&world, &function, 3).await, [1, 1, 1]);
    assert_eq!(world.watched(&world.app).await.unwrap().tenant.status, TenantStatus::Unregistered);
    // What such a tenant is told last holds for a tick only: its acceptance makes it an active one, which is told anew.
    world.app.answer_always(shared_testing::forge_app::ACCEPTED);
    assert_eq!(next_ticks(&world, &function, 3).await, [1, 1, 0]);
}

#[tokio::test]
async fn two_tenants_have_heartbeats_at_different_ticks() {
    let world = World::with_one_service().await;
    let slot = |app: &ForgeApp| app.tenant_id().seed() % 12;
    let other = loop {
        let other = world.another_app().await;
        if slot(&other) != slot(&world.app) {
            break other;
        }
    };
    world.add(&other, "b").await;
    let function = on_change(&world);
    settled(&world, &function).await;
    let before = (world.app.received("UPDATE").len(), other.received("UPDATE").len());
    let mut at_once = Vec::new();
    for _ in 0..12 {
        let summary = world.next_tick(&function).await;
        at_once.push(summary.accepted);
    }
    assert_eq!(
        (world.app.received("UPDATE").len() - before.0, other.received("UPDATE").len() - before.1),
        (1, 1)
    );
    at_once.sort_unstable();
    assert_eq!(at_once, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
}

#[tokio::test]
async fn a_change_of_the_mode_is_told_at_the_next_tick() {
    let world = World::with_one_service().await;
    let (every_tick, on_change) = (world.function(), on_change(&world));
    world.tick(&every_tick).await;
    assert_eq!(next_ticks(&world, &every_tick, 13).await, [1; 13]);
    assert_eq!(last_update(&world.app)["nextUpdateBy"], Value::Null);
    assert!(world.items(&world.app).await.iter().all(|item| !item.contains_key("quietUntil")));

    world.next_tick(&on_change).await;
    assert!(last_update(&world.app)["nextUpdateBy"].is_string());
    let quiet = next_ticks(&world, &on_change, 12).await;
    assert_eq!(quiet.iter().sum::<usize>(), 1, "{quiet:?}");

    assert_eq!(next_ticks(&world, &every_tick, 3).await, [1; 3]);
    assert_eq!(last_update(&world.app)["nextUpdateBy"], Value::Null);
    assert!(world.items(&world.app).await.iter().all(|item| !item.contains_key("quietUntil")));
}
