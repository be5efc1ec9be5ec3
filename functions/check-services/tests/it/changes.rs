//! What the next ticks make of services that their owner removed, paused or resumed.

use std::sync::Arc;
use std::time::Duration;

use callback::{Callback, Deliver};
use domain::check::{Check, Observation};
use domain::clock::Clock as _;
use domain::id::ServiceId;
use domain::response::CallbackResponse;
use domain::service::Change;
use probe::{Attempt, Probe, TenantQuota};
use serde_json::{Value, json};
use testing::forge_app::Reply;
use testing::stored;
use tokio::sync::Notify;

use crate::world::World;

/// Changes a service as add-service does.
pub(crate) async fn change(world: &World, service: &ServiceId, change: Change) {
    let (store, tenant_id) = (world.aws.store(), world.app.tenant_id());
    stored::change(&store, &tenant_id, service, change, world.clock.now()).await;
}

/// Of the last update: the services' statuses, and the changes.
fn told(world: &World) -> (Vec<Value>, Vec<Value>) {
    let body = world.app.received("UPDATE").pop().unwrap().body;
    let list = |name: &str| body[name].as_array().unwrap().clone();
    let statuses = list("services").iter().map(|service| service["status"].clone()).collect();
    let changes = list("transitions").iter().map(|t| json!([t["from"], t["to"], t["reason"]])).collect();
    (statuses, changes)
}

fn updates(world: &World) -> usize {
    world.app.received("UPDATE").len()
}

#[tokio::test]
async fn a_paused_service_is_told_as_paused_and_not_probed_until_it_is_resumed() {
    let world = World::start().await;
    let a = world.add(&world.app, "a").await;
    let function = world.function();
    world.tick(&function).await;
    let asked = world.target.asked();

    change(&world, &a, Change::Pause).await;
    // What fails meanwhile is nobody's business.
    world.target.answer(500);
    world.next_tick(&function).await;
    assert_eq!(told(&world), (vec![json!("PAUSED")], vec![json!(["ALIVE", "PAUSED", "paused"])]));
    world.next_tick(&function).await;
    assert_eq!(told(&world), (vec![json!("PAUSED")], vec![]));
    let service = &world.app.received("UPDATE")[2].body["services"][0];
    assert_eq!((&service["since"], &service["check"]), (&json!("2026-11-22T10:10:00Z"), &Value::Null));
    assert_eq!(world.target.asked(), asked);

    world.target.answer(200);
    change(&world, &a, Change::Resume).await;
    world.next_tick(&function).await;
    assert_eq!(told(&world), (vec![json!("ALIVE")], vec![json!(["PAUSED", "ALIVE", "ok"])]));
}

#[tokio::test]
async fn a_service_that_was_paused_before_its_first_tick_is_told_so() {
    let world = World::start().await;
    let a = world.add(&world.app, "a").await;
    change(&world, &a, Change::Pause).await;
    world.tick(&world.function()).await;
    assert_eq!(told(&world), (vec![json!("PAUSED")], vec![json!(["UNKNOWN", "PAUSED", "paused"])]));
    let service = &world.app.received("UPDATE")[0].body["services"][0];
    assert_eq!(service["since"], "2026-11-22T10:05:01Z", "not since before it was there");
    assert_eq!(world.target.asked(), 0);
}

#[tokio::test]
async fn a_service_that_is_paused_and_resumed_between_two_ticks_goes_on() {
    let world = World::start().await;
    let a = world.add(&world.app, "a").await;
    let function = world.function();
    world.tick(&function).await;
    change(&world, &a, Change::Pause).await;
    change(&world, &a, Change::Resume).await;
    world.next_tick(&function).await;
    assert_eq!(told(&world), (vec![json!("ALIVE")], vec![]));
}

#[tokio::test]
async fn a_removed_service_is_absent_from_the_next_update() {
    let world = World::start().await;
    let a = world.add(&world.app, "a").await;
    world.add(&world.app, "b").await;
    let function = world.function();
    world.tick(&function).await;
    change(&world, &a, Change::Remove).await;
    world.next_tick(&function).await;
    assert_eq!(told(&world), (vec![json!("ALIVE")], vec![]));
    assert_eq!(world.watched(&world.app).await.unwrap().state.services.len(), 1);
}

#[tokio::test]
async fn a_service_that_is_removed_and_added_again_between_two_ticks_starts_afresh() {
    let world = World::start().await;
    let a = world.add(&world.app, "a").await;
    let function = world.function();
    world.target.answer(500);
    world.tick(&function).await;
    assert_eq!(told(&world).0, [json!("DOWN")]);

    world.clock.advance(60);
    change(&world, &a, Change::Remove).await;
    assert_eq!(world.add(&world.app, "a").await, a);
    world.target.answer(200);
    world.clock.advance(240);
    world.tick(&function).await;
    assert_eq!(told(&world), (vec![json!("ALIVE")], vec![json!(["UNKNOWN", "ALIVE", "ok"])]));
}

#[tokio::test]
async fn after_the_last_service_an_empty_list_is_told_once_and_then_nothing() {
    let world = World::start().await;
    let a = world.add(&world.app, "a").await;
    let function = world.function();
    world.tick(&function).await;
    change(&world, &a, Change::Remove).await;
    // Until the app has taken it.
    world.app.answer_next([Reply::Code(401, "UNAUTHORIZED"), Reply::Code(401, "UNAUTHORIZED")]);
    for (accepted, not_accepted) in [(0, 1), (0, 1), (1, 0)] {
        let summary = world.next_tick(&function).await;
        assert_eq!((summary.accepted, summary.not_accepted), (accepted, not_accepted));
        assert_eq!(told(&world), (vec![], vec![]));
    }
    let before = updates(&world);
    for _ in 0..30 {
        let summary = world.next_tick(&function).await;
        assert_eq!((summary.skipped, summary.services), (1, 0));
    }
    assert_eq!(updates(&world), before);

    // The next person finds everything in place, and no tick was missed while there was nothing to check.
    world.add(&world.app, "b").await;
    world.next_tick(&function).await;
    assert_eq!(told(&world).0, [json!("ALIVE")]);
    assert_eq!(world.app.received("UPDATE").pop().unwrap().body["missedTicks"], Value::Null);
}

#[tokio::test]
async fn a_service_that_is_removed_before_its_first_tick_is_told_as_gone() {
    let world = World::start().await;
    let a = world.add(&world.app, "a").await;
    change(&world, &a, Change::Remove).await;
    let function = world.function();
    // The first report is of a tick before the registration: the app shows the service until a later one.
    for told_so_far in [1, 2, 2, 2] {
        world.tick(&function).await;
        assert_eq!((updates(&world), told(&world)), (told_so_far, (vec![], vec![])));
        world.clock.advance(300);
    }
    assert_eq!(world.target.asked(), 0);
}

/// Waits before every probe until it may go on.
struct Waiting<P> {
    probe: P,
    begun: Arc<Notify>,
    go_on: Arc<Notify>,
}

impl<P: Probe> Probe for Waiting<P> {
    async fn probe(&self, check: &Check, quota: &TenantQuota, attempt: Attempt) -> Observation {
        self.begun.notify_one();
        self.go_on.notified().await;
        self.probe.probe(check, quota, attempt).await
    }
}

#[tokio::test]
async fn a_removal_in_the_middle_of_a_tick_counts_from_the_next_one_on() {
    let world = World::start().await;
    let (a, _) = (world.add(&world.app, "a").await, world.add(&world.app, "b").await);
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let probe = Waiting { probe: world.probe(), begun: Arc::clone(&begun), go_on: Arc::clone(&go_on) };
    let waiting = world.function_with(world.callbacks(), probe);
    let meanwhile = async {
        begun.notified().await;
        change(&world, &a, Change::Remove).await;
        go_on.notify_one();
        begun.notified().await;
        go_on.notify_one();
    };
    let (summary, ()) = tokio::join!(waiting.handle(world.scheduled(), world.deadline()), meanwhile);
    assert_eq!(summary.unwrap().accepted, 1);
    assert_eq!(told(&world).0.len(), 2, "what the tick found at its begin");
    world.next_tick(&world.function()).await;
    assert_eq!(told(&world), (vec![json!("ALIVE")], vec![]));
    assert_eq!(world.items(&world.app).await.len(), 3, "TENANT, STATE and one SERVICE");
}

/// Never comes back: the process dies while it sends.
struct Dying(Arc<Notify>);

impl Deliver for Dying {
    async fn post(&self, _: &Callback<'_>, _: Duration) -> CallbackResponse {
        self.0.notify_one();
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_service_removed_and_added_again_during_its_tick_inherits_nothing_of_it() {
    let world = World::start().await;
    let a = world.add(&world.app, "a").await;
    world.target.answer(500);
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let probe = Waiting { probe: world.probe(), begun: Arc::clone(&begun), go_on: Arc::clone(&go_on) };
    let waiting = world.function_with(world.callbacks(), probe);
    let meanwhile = async {
        begun.notified().await;
        world.clock.advance(1);
        change(&world, &a, Change::Remove).await;
        assert_eq!(world.add(&world.app, "a").await, a);
        for _ in 0..3 {
            go_on.notify_one();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (summary, ()) = tokio::join!(waiting.handle(world.scheduled(), world.deadline()), meanwhile);
    assert_eq!(summary.unwrap().not_alive, 1);
    assert_eq!(told(&world).0, [json!("DOWN")], "of the service that the tick found");

    world.clock.advance(60);
    world.target.answer(200);
    world.next_tick(&world.function()).await;
    let (statuses, changes) = told(&world);
    assert_eq!(statuses, [json!("ALIVE")]);
    assert_eq!(changes.last(), Some(&json!(["UNKNOWN", "ALIVE", "ok"])), "its successor began anew");
}

#[tokio::test]
async fn death_before_the_empty_list_is_sent_loses_nothing() {
    let world = World::start().await;
    let a = world.add(&world.app, "a").await;
    let function = world.function();
    world.tick(&function).await;
    change(&world, &a, Change::Remove).await;
    world.clock.advance(300);
    let at_sending = Arc::new(Notify::new());
    let dying = world.function_with(Dying(Arc::clone(&at_sending)), world.probe());
    tokio::select! {
        _ = dying.handle(world.scheduled(), world.deadline()) => unreachable!("it never comes back"),
        () = at_sending.notified() => {}
    }
    let before = updates(&world);
    world.next_tick(&function).await;
    assert_eq!((updates(&world), told(&world)), (before + 1, (vec![], vec![])));
    world.next_tick(&function).await;
    assert_eq!(updates(&world), before + 1);
}
