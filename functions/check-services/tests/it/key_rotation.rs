//! One key follows another, and no report is lost: the app applies the receiver's own rules.

use aws::store::WriteOutcome;
use domain::clock::Clock as _;
use domain::key::{PublicKey, Sign as _};
use domain::service::Change;
use domain::tenant::{NextKey, Tenant};
use testing::aws::LocalAws;
use testing::faults::{Fault, Faults};
use testing::forge_app::Reply;

use crate::changes::change;
use crate::world::World;

const HOUR: i64 = 3600;

async fn tenant(world: &World) -> Tenant {
    world.watched(&world.app).await.unwrap().tenant
}

fn trusted(world: &World) -> Vec<PublicKey> {
    world.app.trusted_keys(world.clock.now())
}

/// Which key signed each update, and whether it carried an endorsement.
fn signed_by(world: &World) -> Vec<(String, bool)> {
    let updates = world.app.received("UPDATE");
    updates.into_iter().map(|update| (update.kid, update.body["keyIntroduction"].is_string())).collect()
}

/// A deployment whose one app has had a report, and whose tenant has a next key since.
async fn offered() -> (World, PublicKey, NextKey) {
    let world = World::with_one_service().await;
    world.tick(&world.function()).await;
    let present = tenant(&world).await.web_trigger().key.public.clone();
    let next = world.offer_next_key(&world.app).await;
    (world, present, next)
}

#[tokio::test]
async fn a_next_key_signs_at_once_and_is_the_tenants_key_when_the_app_has_accepted_it_twice() {
    let (world, present, next) = offered().await;
    let function = world.function();
    assert_eq!(world.next_tick(&function).await.accepted, 1);
    assert_eq!(trusted(&world), [next.key.public.clone(), present.clone()]);
    let noted = tenant(&world).await;
    assert_eq!(
        (&noted.web_trigger().key.public, noted.web_trigger().next_key.clone().map(|next| next.is_accepted)),
        (&present, Some(true))
    );

    assert_eq!(world.next_tick(&function).await.accepted, 1);
    let replaced = tenant(&world).await;
    assert_eq!(
        (replaced.web_trigger().key.clone(), replaced.web_trigger().next_key.clone()),
        (next.key.clone(), None)
    );

    assert_eq!(world.next_tick(&function).await.accepted, 1);
    let (old, new) = (present.kid().to_string(), next.key.public.kid().to_string());
    assert_eq!(signed_by(&world), [(old, false), (new.clone(), true), (new.clone(), true), (new, false)]);
    // The hour since the first update under the new key is over.
    world.clock.advance(HOUR);
    assert_eq!(trusted(&world), [next.key.public]);
}

#[tokio::test]
async fn a_tenant_without_services_gets_its_next_key_and_then_nothing_more() {
    for knows_endorsements in [true, false] {
        let world = World::start().await;
        let a = world.add(&world.app, "a").await;
        let function = world.function();
        world.tick(&function).await;
        change(&world, &a, Change::Remove).await;
        assert_eq!(world.next_tick(&function).await.accepted, 1);
        assert_eq!(world.next_tick(&function).await.skipped, 1);

        let next = world.offer_next_key(&world.app).await;
        if !knows_endorsements {
            world.app.ignore_endorsements();
        }
        for _ in 0..if knows_endorsements { 2 } else { 1 } {
            assert_eq!(world.next_tick(&function).await.accepted, 1);
        }
        for _ in 0..5 {
            assert_eq!(world.next_tick(&function).await.skipped, 1);
        }
        assert_eq!(trusted(&world).contains(&next.key.public), knows_endorsements);
    }
}

#[tokio::test]
async fn an_app_that_knows_no_endorsements_hears_every_tick_under_its_old_key() {
    let (world, present, next) = offered().await;
    world.app.ignore_endorsements();
    let function = world.function();
    let mut offered_at = Vec::new();
    for tick in 1..=12 {
        let before = world.app.not_trusted();
        let summary = world.next_tick(&function).await;
        assert_eq!((summary.accepted, summary.not_accepted), (1, 0), "tick {tick}");
        let refusals = world.app.not_trusted() - before;
        assert_eq!(summary.next_key_refused, refusals, "tick {tick}");
        offered_at.extend((refusals > 0).then_some(tick));
    }
    // Long enough for the alarm, which looks at three periods; then not a callback too many.
    assert_eq!(offered_at, [1, 2, 3]);
    let last = signed_by(&world).pop().unwrap();
    assert_eq!(last, (present.kid().to_string(), true));

    // Endorsed anew, it is offered anew; and an app that has been updated meanwhile takes it.
    let renewed = world.offer_next_key(&world.app).await;
    assert_eq!(renewed.key, next.key);
    world.next_tick(&function).await;
    assert_eq!(world.app.not_trusted(), 4);
}

#[tokio::test]
async fn an_app_that_pins_another_deployment_key_takes_the_next_one_once_it_pins_ours() {
    let (world, present, next) = offered().await;
    let function = world.function();
    world.app.pin(&LocalAws::start().await.deployment_key().public_key().await.unwrap());
    for _ in 0..5 {
        assert_eq!(world.next_tick(&function).await.accepted, 1);
    }
    assert_eq!(trusted(&world), [present]);

    world.app.pin(&world.aws.deployment_key().public_key().await.unwrap());
    world.offer_next_key(&world.app).await;
    for _ in 0..2 {
        assert_eq!(world.next_tick(&function).await.accepted, 1);
    }
    assert_eq!(
        (tenant(&world).await.web_trigger().key.clone(), trusted(&world)[0].clone()),
        (next.key.clone(), next.key.public)
    );
}

#[tokio::test]
async fn an_introduction_that_has_ended_leaves_the_present_key_in_use() {
    let (world, present, _) = offered().await;
    world.clock.advance(14 * 24 * HOUR);
    let summary = world.next_tick(&world.function()).await;
    assert_eq!((summary.accepted, world.app.not_trusted()), (1, 0));
    assert_eq!(signed_by(&world).pop().unwrap().0, present.kid().to_string());
}

/// A tick's second call of the store is its read, its third is its commit.
const COMMIT: usize = 2;
/// What the app's response changes.
const RESPONSE: usize = 3;

/// Runs one tick and kills it at this call of the store, which is an update.
async fn kill_at(world: &World, call: usize) {
    let faults = Faults::at(call, Fault::Hang);
    let function = world.function_with_store_faults(&faults);
    world.clock.advance(300);
    let reached = async {
        while faults.operations().len() <= call {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(faults.operations()[call], "UpdateItem");
    };
    tokio::select! {
        _ = function.handle(world.scheduled(), world.deadline()) => panic!("the tick ended before call {call}"),
        () = reached => {}
    }
}

#[tokio::test]
async fn a_kill_between_commit_and_send_or_after_the_apps_answer_changes_nothing() {
    for (kills, call) in [(1, COMMIT), (3, COMMIT), (1, RESPONSE), (20, RESPONSE)] {
        let (world, _, next) = offered().await;
        for _ in 0..kills {
            kill_at(&world, call).await;
        }
        // Twenty ticks are longer than the hour after which the app forgets the present key.
        for _ in 0..2 {
            assert_eq!(world.next_tick(&world.function()).await.accepted, 1, "{kills} kills at call {call}");
        }
        let settled = tenant(&world).await;
        assert_eq!(
            (settled.web_trigger().key.clone(), settled.web_trigger().next_key.clone()),
            (next.key.clone(), None),
            "{kills} kills at call {call}"
        );
        assert_eq!(trusted(&world)[0], next.key.public, "{kills} kills at call {call}");
        assert_eq!(world.app.not_trusted(), 0, "{kills} kills at call {call}");
    }
}

#[tokio::test]
async fn a_kill_before_the_key_is_replaced_changes_nothing() {
    let (world, _, next) = offered().await;
    world.next_tick(&world.function()).await;
    for _ in 0..15 {
        kill_at(&world, RESPONSE).await;
    }
    assert_eq!(world.next_tick(&world.function()).await.accepted, 1);
    assert_eq!(tenant(&world).await.web_trigger().key, next.key);
}

#[tokio::test]
async fn an_answer_that_is_lost_is_repeated_under_the_same_key() {
    let (world, _, next) = offered().await;
    world.app.answer_next([Reply::LoseAnswer, Reply::Code(200, "DUPLICATE")]);
    assert_eq!(world.next_tick(&world.function()).await.accepted, 1);
    assert_eq!(
        (tenant(&world).await.web_trigger().next_key.clone().unwrap().is_accepted, world.app.not_trusted()),
        (true, 0)
    );
    assert_eq!(trusted(&world)[0], next.key.public);
}

#[tokio::test]
async fn the_same_tick_twice_hands_over_once() {
    let (world, _, _) = offered().await;
    let (one, two) = (world.function(), world.function());
    world.clock.advance(300);
    let (one, two) = tokio::join!(world.tick(&one), world.tick(&two));
    assert_eq!((one.accepted + two.accepted, one.skipped + two.skipped), (1, 1));
    assert_eq!(world.app.received("UPDATE").len(), 2);
}

#[tokio::test]
async fn a_registration_that_writes_over_what_the_app_has_just_noted_is_made_good() {
    let (world, present, next) = offered().await;
    let function = world.function();
    world.next_tick(&function).await;
    world.app.trust_only(&present);
    for _ in 0..2 {
        assert_eq!(world.next_tick(&function).await.accepted, 1);
    }
    assert_eq!(
        (tenant(&world).await.web_trigger().key.clone(), trusted(&world)[0].clone()),
        (next.key.clone(), next.key.public)
    );
}

#[tokio::test]
async fn a_registration_with_the_present_key_during_a_rotation_is_followed_by_the_next_key_again() {
    let (world, present, next) = offered().await;
    // The app has switched and forgotten the present key; the backend does not know. A fresh hand-off brings the key back
    // that the backend calls present.
    for _ in 0..14 {
        kill_at(&world, RESPONSE).await;
    }
    assert_eq!(trusted(&world), std::slice::from_ref(&next.key.public));
    world.app.trust(&present);
    assert_eq!(trusted(&world), [present]);
    for _ in 0..2 {
        assert_eq!(world.next_tick(&world.function()).await.accepted, 1);
    }
    assert_eq!(
        (tenant(&world).await.web_trigger().key.clone(), trusted(&world)[0].clone()),
        (next.key.clone(), next.key.public)
    );
}

#[tokio::test]
async fn a_next_key_that_cannot_be_unwrapped_leaves_the_present_one_in_use_and_is_noted_like_a_refusal() {
    let (world, present, _) = offered().await;
    world.spoil_next_key(&world.app).await;
    let function = world.function();
    let mut tried_at = Vec::new();
    for tick in 1..=6 {
        let summary = world.next_tick(&function).await;
        assert_eq!((summary.accepted, summary.not_accepted), (1, 0), "tick {tick}");
        tried_at.extend((summary.next_key_refused > 0).then_some(tick));
    }
    // As long as a key that the app refuses, for the alarm.
    assert_eq!(tried_at, [1, 2, 3]);
    assert_eq!(signed_by(&world).pop().unwrap(), (present.kid().to_string(), true));
    assert_eq!(world.app.not_trusted(), 0);
    let noted = tenant(&world).await.web_trigger().next_key.clone().unwrap();
    assert!(!noted.is_accepted && noted.refused_at.is_some(), "{:?}", noted.refused_at);
}

#[tokio::test]
async fn a_next_key_is_stored_only_beside_the_key_that_was_read_and_never_replaces_another() {
    let (world, _, next) = offered().await;
    let store = world.aws.store();
    let read = tenant(&world).await;
    let renewed = NextKey { refused_at: None, ..next.clone() };
    assert_eq!(store.store_next_key(&read, &renewed).await.unwrap(), WriteOutcome::Applied);
    let another = NextKey { key: read.web_trigger().key.clone(), ..next.clone() };
    assert_eq!(store.store_next_key(&read, &another).await.unwrap(), WriteOutcome::Conflict);
    // Accepted since it was read.
    let accepted = NextKey { is_accepted: true, ..next.clone() };
    store.record_next_key_response(&read.id(), &next, &accepted).await.unwrap();
    assert_eq!(store.store_next_key(&read, &renewed).await.unwrap(), WriteOutcome::Conflict);
    store.record_next_key_response(&read.id(), &accepted, &next).await.unwrap();
    for _ in 0..2 {
        world.next_tick(&world.function()).await;
    }
    assert_eq!(store.store_next_key(&read, &renewed).await.unwrap(), WriteOutcome::Conflict);
    assert_eq!(tenant(&world).await.web_trigger().next_key, None);
}
