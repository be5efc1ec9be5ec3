//! When a failed check counts, when it is held, and what the app is told of it.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use check_services::event::VerdictsHeld;
use serde_json::{Value, json};
use shared::probe::{Check, Policy};
use shared::service::{AliveAfter, DownAfter, Thresholds};
use shared_testing::target::Target;

use crate::world::{Deployed, World};

fn two_of_three() -> Thresholds {
    Thresholds { down_after: DownAfter::new(2, 3).unwrap(), alive_after: AliveAfter::new(2).unwrap() }
}

fn last_update(world: &World) -> Value {
    world.app.received("UPDATE").pop().unwrap().body
}

fn statuses(update: &Value) -> Vec<&str> {
    update["services"].as_array().unwrap().iter().map(|service| service["status"].as_str().unwrap()).collect()
}

fn held(update: &Value) -> usize {
    update["services"].as_array().unwrap().iter().filter(|service| service["held"] == true).count()
}

async fn stored_state(world: &World) -> HashMap<String, AttributeValue> {
    let dynamo = world.aws.dynamo();
    let item = dynamo
        .get_item()
        .table_name(&world.aws.table)
        .key("pk", AttributeValue::S(format!("TENANT#{}", world.app.tenant_id())))
        .key("sk", AttributeValue::S("STATE".to_owned()))
        .send()
        .await;
    item.unwrap().item.unwrap()
}

#[tokio::test]
async fn a_service_that_asks_for_two_of_three_is_down_at_the_second_failure() {
    let world = World::start().await;
    let patient = world.add_service(&world.app, &world.target.url("patient"), two_of_three()).await;
    let plain = world.add(&world.app, "plain").await;
    let function = world.function();
    let mut told = Vec::new();
    for status in [200, 500, 200, 500, 200, 500, 200, 200] {
        world.target.answer(status);
        world.next_tick(&function).await;
        let update = last_update(&world);
        let status = |id: &str| {
            let services = update["services"].as_array().unwrap();
            let service = services.iter().find(|service| service["id"] == id).unwrap();
            service["status"].as_str().unwrap().chars().next().unwrap()
        };
        told.push(format!("{}{}", status(patient.as_str()), status(plain.as_str())));
    }
    assert_eq!(told, ["AA", "AD", "AA", "DD", "DA", "DD", "DA", "AA"]);

    // What is remembered is five bits, and nothing at all for a service that asks for nothing.
    let services = stored_state(&world).await["services"].as_m().unwrap().clone();
    let keys = |id: &str| {
        let mut keys: Vec<_> = services[id].as_m().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(patient.as_str()), ["h", "s", "t"]);
    assert_eq!(keys(plain.as_str()), ["s", "t"]);
    assert_eq!(services[patient.as_str()].as_m().unwrap()["h"], AttributeValue::N("20".to_owned()));
}

/// Six services at six hosts, all alive, and a function that leaves time to see the others' first attempts.
async fn six_hosts() -> (World, Vec<Target>, Deployed) {
    let world = World::start().await;
    let mut targets = Vec::new();
    for host in 2..8 {
        let target = Target::start_at(host).await;
        world.add_service(&world.app, &target.url("health"), Thresholds::default()).await;
        targets.push(target);
    }
    let function = Deployed { confirm_after: vec![Duration::from_millis(300); 2], ..world.function() };
    world.next_tick(&function).await;
    assert_eq!(statuses(&last_update(&world)), ["ALIVE"; 6]);
    (world, targets, function)
}

#[tokio::test]
async fn when_most_unrelated_hosts_fail_alike_verdicts_are_held_and_announced() {
    let (world, targets, function) = six_hosts().await;
    for target in &targets[..4] {
        target.answer(500);
    }
    let before = last_update(&world);
    let summary = world.next_tick(&function).await;
    let update = last_update(&world);
    assert_eq!((summary.held, held(&update)), (4, 4));
    assert_eq!(statuses(&update), ["ALIVE"; 6]);
    assert_eq!(update["services"][0]["since"], before["services"][0]["since"]);
    assert_eq!(update["transitions"], json!([]));
    let failing =
        update["services"].as_array().unwrap().iter().find(|service| service["held"] == true).unwrap();
    assert_eq!((&failing["check"]["failure"], &failing["check"]["attempts"]), (&json!("status"), &json!(3)));
    let announced = world.bus.held.lock().unwrap().clone();
    let tick = world.watched(&world.app).await.unwrap().state.last_tick.unwrap();
    assert_eq!(announced, [VerdictsHeld { tick, tenants: 1, services: 4 }]);

    // Three of six are no longer most of them: what fails now is down.
    targets[0].answer(200);
    let summary = world.next_tick(&function).await;
    let update = last_update(&world);
    assert_eq!((summary.held, held(&update)), (0, 0));
    assert_eq!(statuses(&update).iter().filter(|status| **status == "DOWN").count(), 3);
    // And says nothing about our side any more when the rest fails.
    for target in &targets {
        target.answer(500);
    }
    world.next_tick(&function).await;
    assert_eq!(statuses(&last_update(&world)), ["DOWN"; 6]);
    assert_eq!(world.bus.held.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_canary_that_answers_makes_a_great_outage_a_true_one() {
    let (world, targets, function) = six_hosts().await;
    let canary = Target::start().await;
    let url = Policy::public(vec![], vec![]).allow_loopback().target(&canary.url("")).unwrap();
    let function = Deployed { canary: Some(Check::get(url)), ..function };
    world.next_tick(&function).await;
    assert_eq!(canary.asked(), 0, "nobody needs to know");

    for target in &targets {
        target.answer(500);
    }
    canary.answer(500);
    world.next_tick(&function).await;
    let update = last_update(&world);
    assert_eq!((statuses(&update), held(&update)), (vec!["ALIVE"; 6], 6));
    assert_eq!(canary.asked(), 1, "once for all of them");

    canary.answer(200);
    world.next_tick(&function).await;
    let update = last_update(&world);
    assert_eq!((statuses(&update), held(&update)), (vec!["DOWN"; 6], 0));
}

#[tokio::test]
async fn an_outage_that_begins_when_the_others_have_been_checked_is_seen_by_asking_them_again() {
    let (world, targets, function) = six_hosts().await;
    targets[0].answer(500);
    let tick = world.next_tick(&function);
    let outage = async {
        // Two attempts of the first one, and the others have had their answers.
        while targets[0].asked() < 3 || targets.iter().any(|target| target.asked() < 2) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for target in &targets {
            target.answer(500);
        }
    };
    let (summary, ()) = tokio::join!(tick, outage);
    assert_eq!(summary.held, 1);
    assert_eq!(statuses(&last_update(&world)), ["ALIVE"; 6]);
}

#[tokio::test]
async fn an_announcement_that_fails_changes_nothing() {
    let (world, targets, function) = six_hosts().await;
    for target in &targets {
        target.answer(500);
    }
    *world.bus.deaf.lock().unwrap() = true;
    let summary = world.next_tick(&function).await;
    assert_eq!((summary.held, summary.accepted, held(&last_update(&world))), (6, 1, 6));
}

#[tokio::test]
async fn ticks_that_did_not_run_are_told_and_change_no_status() {
    let world = World::with_one_service().await;
    let function = world.function();
    world.tick(&function).await;
    assert_eq!(last_update(&world).get("missedTicks"), None);
    world.clock.advance(3 * 300);
    world.tick(&function).await;
    let update = last_update(&world);
    assert_eq!((&update["missedTicks"], statuses(&update)), (&json!(2), vec!["ALIVE"]));
    assert_eq!(update["transitions"], json!([]));
    world.next_tick(&function).await;
    assert_eq!(last_update(&world).get("missedTicks"), None);
}
