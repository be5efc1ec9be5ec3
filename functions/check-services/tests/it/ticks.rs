//! What a tick sees and tells.

use check_services::event::{Event, STATUS_CHANGED};
use check_services::{InvocationError, Summary};
use domain::status::Status;
use serde_json::json;
use testing::forge_app::Reply;

use crate::world::World;

#[tokio::test]
async fn one_signed_update_per_tick_carries_the_whole_state() {
    let world = World::with_one_service().await;
    world.add(&world.app, "b").await;
    let summary = world.tick(&world.function()).await;
    assert_eq!((summary.accepted, summary.services), (1, 2));

    let updates = world.app.received("UPDATE");
    assert_eq!(updates.len(), 1);
    let (claims, body) = (&updates[0].claims, &updates[0].body);
    assert_eq!(claims["jti"], format!("{}.2026-11-22T10:05:00Z", world.app.tenant_id()));
    assert_eq!(body["tick"], "2026-11-22T10:05:00Z");
    assert_eq!(body["version"], 1);
    assert_eq!(body["services"].as_array().unwrap().len(), 2);
    assert_eq!(body["services"][0]["status"], "ALIVE");
    assert_eq!(body["services"][0]["check"]["attempts"], 1);
    assert_eq!(body["transitions"][0]["from"], "UNKNOWN");
    assert_eq!(body["transitionsDropped"], 0);
    assert_eq!(
        (&body["sentAt"], &body["nextUpdateBy"]),
        (&json!("2026-11-22T10:05:01Z"), &json!("2026-11-22T10:15:01Z"))
    );
    assert_eq!((&body["periodS"], &body["services"][0]["addedBy"]), (&json!(300), &json!("owner-1")));
}

#[tokio::test]
async fn down_and_alive_again_are_a_transition_each_told_once() {
    let world = World::with_one_service().await;
    let function = world.function();
    world.tick(&function).await;
    world.target.answer(503);
    world.next_tick(&function).await;
    world.next_tick(&function).await;
    world.target.answer(200);
    world.next_tick(&function).await;

    let told: Vec<_> = world
        .app
        .received("UPDATE")
        .iter()
        .map(|update| {
            let transitions = update.body["transitions"].as_array().unwrap();
            let pairs: Vec<_> =
                transitions.iter().map(|t| json!([t["from"], t["to"], t["reason"]])).collect();
            (update.body["services"][0]["status"].clone(), json!(pairs))
        })
        .collect();
    assert_eq!(
        told,
        [
            (json!("ALIVE"), json!([["UNKNOWN", "ALIVE", "ok"]])),
            (json!("DOWN"), json!([["ALIVE", "DOWN", "status"]])),
            (json!("DOWN"), json!([])),
            (json!("ALIVE"), json!([["DOWN", "ALIVE", "ok"]])),
        ]
    );
}

#[tokio::test]
async fn a_failure_is_confirmed_twice_before_it_counts() {
    let world = World::with_one_service().await;
    let function = world.function();
    world.target.answer(500);
    world.tick(&function).await;
    assert_eq!(world.target.asked(), 3);
    assert_eq!(world.app.received("UPDATE")[0].body["services"][0]["check"]["attempts"], 3);
    // Known to be down: one attempt is enough.
    world.next_tick(&function).await;
    assert_eq!(world.target.asked(), 4);
}

#[tokio::test]
async fn a_warm_tick_needs_no_kms_and_no_second_write() {
    let world = World::with_one_service().await;
    let function = world.function();
    world.tick(&function).await;
    // The wrapping key is gone, the warm key still signs.
    aws_sdk_kms::Client::new(&world.aws.settings)
        .disable_key()
        .key_id(&world.aws.wrapping_key_id)
        .send()
        .await
        .unwrap();
    let summary = world.next_tick(&function).await;
    assert_eq!(summary.accepted, 1);
}

#[tokio::test]
async fn a_key_that_cannot_be_unwrapped_loses_nothing() {
    let world = World::with_one_service().await;
    let kms = aws_sdk_kms::Client::new(&world.aws.settings);
    kms.disable_key().key_id(&world.aws.wrapping_key_id).send().await.unwrap();
    let function = world.function();
    let summary = world.tick(&function).await;
    assert_eq!((summary.accepted, summary.not_accepted), (0, 1));
    kms.enable_key().key_id(&world.aws.wrapping_key_id).send().await.unwrap();
    world.next_tick(&function).await;
    let update = &world.app.received("UPDATE")[0];
    assert_eq!(update.body["transitions"][0]["tick"], "2026-11-22T10:05:00Z");
}

#[tokio::test]
async fn a_tick_from_the_future_or_the_past_is_refused() {
    let world = World::with_one_service().await;
    let function = world.function();
    for time in ["2099-01-01T00:00:00Z", "2026-11-22T10:10:00Z", "2026-11-22T09:50:00Z"] {
        let event = Event::Scheduled { time: time.parse().unwrap() };
        let summary = function.handle(event, world.deadline()).await.unwrap();
        assert_eq!(summary, Summary::default(), "{time}");
    }
    assert_eq!(world.watched(&world.app).await.unwrap().state.last_tick, None);
    assert_eq!(world.app.callbacks().len(), 0);
}

#[tokio::test]
async fn the_backend_hosts_of_a_trigger_are_checked_again_before_sending() {
    let world = World::with_one_service().await;
    let mut function = world.function();
    function.settings.triggers.allow_loopback = false;
    let summary = world.tick(&function).await;
    assert_eq!((summary.accepted, summary.not_accepted), (0, 1));
    assert_eq!(world.app.callbacks().len(), 0);
}

#[tokio::test]
async fn an_outage_of_the_store_fails_the_invocation_so_that_lambda_repeats_it() {
    let world = World::with_one_service().await;
    let mut function = world.function();
    function.store = aws::store::Store::new(world.aws.dynamo(), "no-such-table".to_owned());
    let failed = function.handle(world.scheduled(), world.deadline()).await.unwrap_err();
    assert!(matches!(failed, InvocationError::List(_)), "{failed:?}");
}

#[tokio::test]
async fn what_the_app_did_not_take_is_told_again_with_the_next_tick() {
    let world = World::with_one_service().await;
    let function = world.function();
    world.app.answer_next(vec![Reply::Code(401, "UNAUTHORIZED")]);
    world.tick(&function).await;
    world.target.answer(500);
    world.next_tick(&function).await;
    world.next_tick(&function).await;
    let counts: Vec<_> = world
        .app
        .received("UPDATE")
        .iter()
        .map(|update| update.body["transitions"].as_array().unwrap().len())
        .collect();
    assert_eq!(counts, [1, 2, 0]);
    let state = world.watched(&world.app).await.unwrap().state;
    assert_eq!(state.services.values().next().unwrap().status, Status::Down);
}

#[tokio::test]
async fn a_change_of_status_is_published_and_a_deaf_bus_changes_nothing() {
    let world = World::with_one_service().await;
    let function = world.function();
    world.tick(&function).await;
    world.target.answer(500);
    world.next_tick(&function).await;
    world.next_tick(&function).await;
    let told = world.bus.published(STATUS_CHANGED);
    assert_eq!(told.len(), 2);
    assert_eq!(
        (&told[1]["from"], &told[1]["to"], &told[1]["reason"]),
        (&json!("ALIVE"), &json!("DOWN"), &json!("status"))
    );
    assert_eq!((&told[1]["serviceName"], &told[1]["tenantId"]), (&json!("a"), &json!(world.app.tenant_id())));
    assert!(!told[1].to_string().contains("http"), "{}", told[1]);

    world.refuse_notifications();
    world.target.answer(200);
    assert_eq!(world.next_tick(&function).await.accepted, 1);
    assert_eq!(world.app.received("UPDATE")[3].body["transitions"][0]["to"], "ALIVE");
}

#[tokio::test]
async fn a_round_is_counted() {
    let world = World::with_one_service().await;
    let function = world.function();
    world.add(&world.app, "b").await;
    let summary = world.tick(&function).await;
    assert_eq!((summary.alive, summary.not_alive, summary.refused), (2, 0, 0));
    world.target.answer(500);
    world.app.answer_next(vec![Reply::Code(401, "UNAUTHORIZED")]);
    let summary = world.next_tick(&function).await;
    assert_eq!((summary.alive, summary.not_alive, summary.not_accepted, summary.refused), (0, 2, 1, 1));
}
