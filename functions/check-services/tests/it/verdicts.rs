//! When a failed check counts, when it is held, and what the app is told of it.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use check_services::event::VerdictsHeld;
use serde_json::{Value, json};
use shared::probe::{Check, Policy};
use shared::service::{AliveAfter, DownAfter, Thresholds};
use shared::status::hold::MAX_HELD;
use shared_testing::forge_app::ForgeApp;
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
    let targets = at_hosts(&world, &world.app, 2..8).await;
    let mut function = world.function();
    function.settings.confirm_after = vec![Duration::from_millis(300); 2];
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
    let (world, targets, mut function) = six_hosts().await;
    let canary = Target::start().await;
    let url = Policy::public(vec![], vec![]).allow_loopback().target(&canary.url("")).unwrap();
    function.settings.canary = Some(Check::get(url));
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

/// One service of the app at each of these hosts.
async fn at_hosts(world: &World, app: &ForgeApp, hosts: std::ops::Range<u8>) -> Vec<Target> {
    let mut targets = Vec::new();
    for host in hosts {
        let target = Target::start_at(host).await;
        world.add_service(app, &target.url("health"), Thresholds::default()).await;
        targets.push(target);
    }
    targets
}

#[tokio::test]
async fn a_tenant_with_fifty_dead_hosts_hides_nobodys_outage() {
    let world = World::start().await;
    let dying = at_hosts(&world, &world.app, 2..52).await;
    let mut others = Vec::new();
    for host in [60, 62, 64] {
        let app = world.another_app().await;
        let targets = at_hosts(&world, &app, host..host + 2).await;
        others.push((app, targets));
    }
    let mut function = world.function();
    function.settings.confirm_after = vec![Duration::from_secs(1); 2];
    world.next_tick(&function).await;
    assert_eq!(statuses(&last_update(&world)), ["ALIVE"; 50]);

    for target in dying.iter().chain(&others[0].1[..1]) {
        target.answer(500);
    }
    let summary = world.next_tick(&function).await;
    assert_eq!((summary.not_alive, summary.held), (51, 0));
    let told: Vec<_> = others
        .iter()
        .map(|(app, _)| {
            let update = app.received("UPDATE").pop().unwrap().body;
            statuses(&update).iter().filter(|status| **status == "DOWN").count()
        })
        .collect();
    assert_eq!(told, [1, 0, 0]);
}

#[tokio::test]
async fn services_that_were_never_alive_are_no_reason_to_hold_their_own_verdicts() {
    let world = World::start().await;
    let targets = at_hosts(&world, &world.app, 2..11).await;
    for target in &targets[..5] {
        target.answer(500);
    }
    let mut function = world.function();
    function.settings.confirm_after = vec![Duration::from_millis(300); 2];
    let summary = world.next_tick(&function).await;
    assert_eq!((summary.not_alive, summary.held), (5, 0));
    assert_eq!(statuses(&last_update(&world)).iter().filter(|status| **status == "DOWN").count(), 5);
}

#[tokio::test]
async fn without_a_canary_a_verdict_is_held_for_a_while_only() {
    let (world, targets, function) = six_hosts().await;
    let never_alive = at_hosts(&world, &world.app, 8..9).await;
    for target in targets.iter().chain(&never_alive) {
        target.answer(500);
    }
    for number in 1..=MAX_HELD {
        assert_eq!(world.next_tick(&function).await.held, 7, "tick {number}");
    }
    // The count survives in the table, and goes with the verdict.
    let counts = async || {
        let services = stored_state(&world).await["services"].as_m().unwrap().clone();
        services.values().filter_map(|service| service.as_m().unwrap().get("d").cloned()).collect::<Vec<_>>()
    };
    assert_eq!(counts().await, vec![AttributeValue::N(MAX_HELD.to_string()); 7]);
    assert_eq!(world.next_tick(&function).await.held, 0);
    assert_eq!(statuses(&last_update(&world)), ["DOWN"; 7]);
    assert_eq!(counts().await, []);
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
