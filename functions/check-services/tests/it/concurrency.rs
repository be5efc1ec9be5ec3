//! At-least-once schedule, exactly one effect; and death at the worst moment.

use std::sync::Arc;
use std::time::Duration;

use callback::{Callback, Deliver};
use domain::response::CallbackResponse;
use testing::forge_app::Reply;
use tokio::sync::Notify;

use crate::world::World;

#[tokio::test]
async fn the_same_tick_twice_at_once_changes_and_sends_once() {
    let world = World::with_one_service().await;
    let functions = [world.function(), world.function(), world.function()];
    let [a, b, c] = &functions;
    let (a, b, c) = tokio::join!(world.tick(a), world.tick(b), world.tick(c));
    assert_eq!(a.accepted + b.accepted + c.accepted, 1);
    assert_eq!(a.skipped + b.skipped + c.skipped, 2);
    assert_eq!(world.app.received("UPDATE").len(), 1);
    assert_eq!(world.watched(&world.app).await.unwrap().state.transitions.len(), 1);
}

#[tokio::test]
async fn the_same_tick_again_does_nothing_at_all() {
    let world = World::with_one_service().await;
    world.tick(&world.function()).await;
    let summary = world.tick(&world.function()).await;
    assert_eq!((summary.accepted, summary.skipped), (0, 1));
    assert_eq!(world.target.asked(), 1);
}

#[tokio::test]
async fn an_older_tick_that_overlaps_a_newer_one_is_dropped() {
    let world = World::with_one_service().await;
    let function = world.function();
    let older = world.scheduled();
    world.next_tick(&function).await;
    let summary = function.handle(older, world.deadline()).await.unwrap();
    assert_eq!((summary.accepted, summary.skipped), (0, 1));
    let ticks: Vec<_> =
        world.app.received("UPDATE").iter().map(|update| update.body["tick"].clone()).collect();
    assert_eq!(ticks, ["2026-11-22T10:10:00Z"]);
}

#[tokio::test]
async fn two_ticks_that_overlap_are_told_in_order_or_not_at_all() {
    let world = World::with_one_service().await;
    let (slow, quick) = (world.function(), world.function());
    let older = world.scheduled();
    world.clock.advance(300);
    let (a, b) = tokio::join!(slow.handle(older, world.deadline()), world.tick(&quick));
    assert!(a.unwrap().accepted + b.accepted >= 1);
    let ticks: Vec<_> =
        world.app.received("UPDATE").iter().map(|update| update.body["tick"].to_string()).collect();
    assert!(!ticks.is_empty() && ticks.len() <= 2, "{ticks:?}");
    let last = world.watched(&world.app).await.unwrap().state.last_tick.unwrap().to_string();
    assert_eq!(ticks.iter().max().unwrap().trim_matches('"'), last);
}

/// Stands where the network would be and never comes back: the process dies while, or just before, it sends.
struct Dying(Arc<Notify>);

impl Deliver for Dying {
    async fn post(&self, _: &Callback<'_>, _: Duration) -> CallbackResponse {
        self.0.notify_one();
        std::future::pending().await
    }
}

#[tokio::test]
async fn death_after_commit_and_before_send_loses_nothing() {
    let world = World::with_one_service().await;
    let at_sending = Arc::new(Notify::new());
    let dying = world.function_with(Dying(Arc::clone(&at_sending)), world.probe());
    tokio::select! {
        _ = dying.handle(world.scheduled(), world.deadline()) => unreachable!("it never comes back"),
        () = at_sending.notified() => {}
    }
    assert_eq!(world.app.callbacks().len(), 0);
    assert_eq!(world.watched(&world.app).await.unwrap().state.transitions.len(), 1, "committed");

    world.next_tick(&world.function()).await;
    let updates = world.app.received("UPDATE");
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].body["transitions"][0]["tick"], "2026-11-22T10:05:00Z");
}

#[tokio::test]
async fn a_lost_answer_repeats_what_the_app_has_and_changes_nothing() {
    let world = World::with_one_service().await;
    let function = world.function();
    // Applied by the app, but every attempt within the tick is answered by a broken gateway.
    world.app.answer_always(Reply::LoseAnswer);
    tokio::time::timeout(Duration::from_mins(2), world.tick(&function)).await.unwrap();
    let first = world.app.received("UPDATE");
    let jtis: Vec<_> = first.iter().map(|update| update.claims["jti"].clone()).collect();
    assert!(jtis.len() >= 2 && jtis.iter().all(|jti| *jti == jtis[0]), "{jtis:?}");
    assert!(first.iter().all(|update| update.body == first[0].body), "the same bytes over retries");

    world.app.answer_always(testing::forge_app::ACCEPTED);
    world.next_tick(&function).await;
    let updates = world.app.received("UPDATE");
    let last = &updates[updates.len() - 1];
    assert_eq!(last.body["transitions"], first[0].body["transitions"]);
}
