//! When a failed check counts, when it is held, and what the app is told of it.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use callback::HttpCallbacks;
use check_services::CheckServices;
use check_services::event::VERDICTS_HELD;
use domain::check::{Check, Observation};
use domain::service::{AliveAfter, DownAfter, Thresholds};
use domain::status::MAX_SUPPRESSED;
use domain::target_url::TargetPolicy;
use probe::{Attempt, AttemptKind, HttpProbe, Probe, TenantQuota};
use serde_json::{Value, json};
use testing::target::Target;

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
    assert_eq!(keys(patient.as_str()), ["c", "h", "s", "t"]);
    assert_eq!(keys(plain.as_str()), ["c", "s", "t"]);
    assert_eq!(services[patient.as_str()].as_m().unwrap()["h"], AttributeValue::N("20".to_owned()));
}

/// Six services that are alive, and three control endpoints that answer.
async fn controlled() -> (World, Vec<Target>, Deployed) {
    let world = World::start().await;
    for path in ["a", "b", "c", "d", "e", "f"] {
        world.add(&world.app, path).await;
    }
    let mut function = world.function();
    let mut controls = Vec::new();
    for host in 2..5 {
        let control = Target::start_at(host).await;
        let url = TargetPolicy::public(vec![], vec![]).allow_loopback().target(&control.url("")).unwrap();
        function.settings.controls.push(Check { timeout_ms: 500, ..Check::get(url) });
        controls.push(control);
    }
    world.next_tick(&function).await;
    assert_eq!(statuses(&last_update(&world)), ["ALIVE"; 6]);
    (world, controls, function)
}

#[tokio::test]
async fn while_most_control_endpoints_fail_no_service_becomes_down() {
    let (world, controls, function) = controlled().await;
    let asked = || controls.iter().map(Target::asked).collect::<Vec<_>>();
    assert_eq!(asked(), [0, 0, 0], "nobody needs to know");
    let before = last_update(&world);
    world.target.answer(500);
    for control in &controls[..2] {
        control.answer(500);
    }
    let summary = world.next_tick(&function).await;
    let update = last_update(&world);
    assert_eq!((summary.suppressed, held(&update)), (6, 6));
    assert_eq!(statuses(&update), ["ALIVE"; 6]);
    assert_eq!(update["services"][0]["since"], before["services"][0]["since"]);
    assert_eq!(update["transitions"], json!([]));
    assert_eq!(
        (&update["services"][0]["check"]["failure"], &update["services"][0]["check"]["attempts"]),
        (&json!("status"), &json!(3))
    );
    assert_eq!(asked(), [1, 1, 1], "once for all of them");
    let tick = world.watched(&world.app).await.unwrap().state.last_tick.unwrap();
    let announced = world.bus.published(VERDICTS_HELD);
    assert_eq!(announced, [json!({ "tick": tick, "tenants": 1, "services": 6 })]);

    // Two of three answer again: what fails now is down.
    controls[0].answer(200);
    world.next_tick(&function).await;
    let update = last_update(&world);
    assert_eq!((statuses(&update), held(&update)), (vec!["DOWN"; 6], 0));
    assert_eq!(world.bus.published(VERDICTS_HELD).len(), 1);

    // For services that are down nobody is asked.
    let before = asked();
    world.next_tick(&function).await;
    assert_eq!(asked(), before);
}

#[tokio::test]
async fn a_verdict_is_suppressed_for_twelve_ticks_and_then_counts() {
    let (world, controls, function) = controlled().await;
    world.target.answer(500);
    for control in &controls {
        control.answer(500);
    }
    for number in 1..=MAX_SUPPRESSED {
        assert_eq!(world.next_tick(&function).await.suppressed, 6, "tick {number}");
    }
    let stored = async |name: &str| {
        let services = stored_state(&world).await["services"].as_m().unwrap().clone();
        services.values().filter_map(|service| service.as_m().unwrap().get(name).cloned()).collect::<Vec<_>>()
    };
    assert_eq!(stored("d").await, vec![AttributeValue::N(MAX_SUPPRESSED.to_string()); 6]);
    assert_eq!(world.next_tick(&function).await.suppressed, 0);
    assert_eq!(statuses(&last_update(&world)), ["DOWN"; 6]);
    assert_eq!(stored("d").await, []);
}

#[tokio::test]
async fn an_announcement_that_fails_changes_nothing() {
    let (world, controls, function) = controlled().await;
    world.target.answer(500);
    for control in &controls {
        control.answer(500);
    }
    world.refuse_notifications();
    let summary = world.next_tick(&function).await;
    assert_eq!((summary.suppressed, summary.accepted, held(&last_update(&world))), (6, 1, 6));
}

#[tokio::test]
async fn a_control_endpoint_that_hangs_counts_as_failed_and_delays_nobody_for_long() {
    let (world, controls, mut function) = controlled().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let url = TargetPolicy::public(vec![], vec![]).allow_loopback().target(&url).unwrap();
    function.settings.controls[0] = Check { timeout_ms: 500, ..Check::get(url) };
    world.target.answer(500);
    world.next_tick(&function).await;
    assert_eq!(statuses(&last_update(&world)), ["DOWN"; 6], "two of three answer");
    world.target.answer(200);
    world.next_tick(&function).await;
    controls[1].answer(500);
    world.target.answer(500);
    assert_eq!(world.next_tick(&function).await.suppressed, 6, "one of three answers");
}

/// Never comes back from attempts like this.
struct Stuck<P> {
    probe: P,
    attempt: Attempt,
}

impl<P: Probe> Probe for Stuck<P> {
    async fn probe(&self, check: &Check, quota: &TenantQuota, attempt: Attempt) -> Observation {
        if attempt == self.attempt {
            return std::future::pending().await;
        }
        self.probe.probe(check, quota, attempt).await
    }
}

fn stuck(world: &World, attempt: Attempt) -> CheckServices<HttpCallbacks, Stuck<HttpProbe>> {
    world.function_with(world.callbacks(), Stuck { probe: world.probe(), attempt })
}

#[tokio::test]
async fn a_service_that_one_tick_did_not_reach_comes_before_the_others_in_the_next() {
    let world = World::with_one_service().await;
    world.tick(&world.function()).await;
    // Every first attempt waits for a place that never comes.
    let full = stuck(&world, Attempt::EXPECTED);
    for (unseen, reported) in [(1, json!(1)), (0, Value::Null)] {
        world.clock.advance(300);
        let deadline = domain::clock::Clock::now(&world.clock) + jiff::SignedDuration::from_millis(45_200);
        assert_eq!(full.handle(world.scheduled(), deadline).await.unwrap().unseen, unseen);
        assert_eq!(last_update(&world)["services"][0]["unseenTicks"], reported);
    }
}

#[tokio::test]
async fn a_failure_that_is_not_confirmed_in_time_is_confirmed_by_the_next_ticks_first_attempt() {
    let world = World::with_one_service().await;
    let function = world.function();
    world.tick(&function).await;
    world.target.answer(500);
    world.clock.advance(300);
    let cut_off = stuck(&world, Attempt { kind: AttemptKind::Confirmation, is_overdue: false });
    // A fifth of a second until no tenant is started any more, and 25 more until probing ends.
    let deadline = domain::clock::Clock::now(&world.clock) + jiff::SignedDuration::from_millis(45_200);
    let summary = cut_off.handle(world.scheduled(), deadline).await.unwrap();
    assert_eq!((summary.unseen, summary.not_alive), (1, 1));
    let update = last_update(&world);
    assert_eq!(statuses(&update), ["ALIVE"]);
    assert_eq!(update["services"][0]["unseenTicks"], 1);

    let asked = world.target.asked();
    world.next_tick(&function).await;
    let update = last_update(&world);
    assert_eq!(statuses(&update), ["DOWN"]);
    assert_eq!(update["services"][0]["unseenTicks"], Value::Null);
    assert_eq!((world.target.asked() - asked, &update["services"][0]["check"]["attempts"]), (1, &json!(2)));
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
