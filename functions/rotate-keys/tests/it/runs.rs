//! Who gets a next key, when, and what is stored of it.

use aws::store::WriteOutcome;
use domain::clock::Clock as _;
use domain::jws;
use domain::key::Sign as _;
use domain::key_endorsement::ENDORSEMENT_TYPE;
use domain::tenant::NextKey;
use jiff::SignedDuration;
use rotate_keys::Summary;
use rotate_keys::event::Event;
use serde_json::{Value, json};

use crate::world::{World, scheduled};

fn asked() -> Event {
    serde_json::from_str(include_str!("../../../../events/rotate-keys/asked.json")).unwrap()
}

#[tokio::test]
async fn a_key_that_is_too_old_gets_a_successor_that_the_deployment_key_introduces() {
    let (world, ids) = World::with_old_keys(1).await;
    world.add().await;
    let summary = world.run(&world.function()).await;
    assert_eq!(summary, Summary { tenants: 2, started: 1, ..Summary::default() });

    let tenant = world.tenant(&ids[0]).await;
    let next = tenant.web_trigger().next_key.clone().unwrap();
    let signer = world.aws.deployment_key().public_key().await.unwrap();
    let claims: Value =
        jws::verify(next.endorsement.as_str(), ENDORSEMENT_TYPE, &[(signer.kid(), signer)]).unwrap();
    let now = world.clock.now().as_second();
    let expected = json!({
        "sub": ids[0], "aud": tenant.cloud_id, "currentKid": tenant.kid(), "jwk": next.key.public.jwk(),
        "iat": now, "exp": now + 14 * 86_400,
    });
    assert_eq!(claims, expected);
    assert_eq!(next.endorsed_until.as_second(), now + 14 * 86_400);
    assert_eq!((next.is_accepted, next.refused_at, next.key.made_at.as_second()), (false, None, now));

    // At rest the private half is what KMS wrapped under the tenant's own context, as for the first key.
    let private =
        world.aws.wrapping_key().unwrap_key(&next.key.wrapped, &tenant.key_context()).await.unwrap();
    assert_eq!(private.public_key().unwrap(), next.key.public);
}

#[tokio::test]
async fn the_schedule_delivered_twice_has_one_effect() {
    let (world, ids) = World::with_old_keys(3).await;
    let (one, two) = (world.function(), world.function());
    let (one, two) = tokio::join!(world.run(&one), world.run(&two));
    assert_eq!(one.started + two.started, 3, "{one:?} {two:?}");
    let before = world.tenant(&ids[0]).await;
    let again = world.run(&world.function()).await;
    assert_eq!(again, Summary { tenants: 3, under_way: 3, ..Summary::default() });
    assert_eq!(world.tenant(&ids[0]).await, before);
}

#[tokio::test]
async fn many_keys_of_one_age_are_spread_over_several_runs() {
    let (world, _) = World::with_old_keys(103).await;
    let function = world.function();
    let first = world.run(&function).await;
    assert_eq!(first, Summary { tenants: 103, started: 100, left: 3, ..Summary::default() });
    world.clock.advance(86_400);
    let second = world.run(&function).await;
    assert_eq!(second, Summary { tenants: 103, started: 3, under_way: 100, ..Summary::default() });
}

#[tokio::test]
async fn no_tenant_is_begun_shortly_before_the_deadline() {
    let (world, _) = World::with_old_keys(2).await;
    let soon = world.clock.now() + SignedDuration::from_secs(45);
    let summary = world.function().handle(scheduled(), soon).await.unwrap();
    assert_eq!(summary, Summary { left: 2, ..Summary::default() });
}

#[tokio::test]
async fn without_a_lifetime_the_schedule_begins_nothing_and_finishes_what_is_under_way() {
    let (world, ids) = World::with_old_keys(2).await;
    let mut function = world.function();
    function.key_lifetime = None;
    assert_eq!(world.run(&function).await, Summary { tenants: 2, ..Summary::default() });

    assert_eq!(function.handle(asked(), world.deadline()).await.unwrap().started, 2);
    world.clock.advance(7 * 86_400 + 1);
    assert_eq!(world.run(&function).await, Summary { tenants: 2, renewed: 2, ..Summary::default() });
    assert!(world.tenant(&ids[0]).await.web_trigger().next_key.is_some());
}

#[tokio::test]
async fn an_introduction_with_a_week_left_is_made_anew_for_the_same_key() {
    let (world, ids) = World::with_old_keys(1).await;
    let function = world.function();
    world.run(&function).await;
    let tenant = world.tenant(&ids[0]).await;
    let first = tenant.web_trigger().next_key.clone().unwrap();
    let refused = NextKey { refused_at: Some(world.clock.now()), ..first.clone() };
    world.aws.store().record_next_key_response(&ids[0], &first, &refused).await.unwrap();

    world.clock.advance(7 * 86_400);
    assert_eq!(world.run(&function).await.under_way, 1);
    world.clock.advance(1);
    assert_eq!(world.run(&function).await.renewed, 1);
    let second = world.tenant(&ids[0]).await.web_trigger().next_key.clone().unwrap();
    assert_eq!((&second.key, second.refused_at), (&first.key, None));
    assert_eq!(second.endorsed_until.as_second(), world.clock.now().as_second() + 14 * 86_400);
    assert_ne!(second.endorsement, first.endorsement);
}

#[tokio::test]
async fn an_operator_replaces_every_key_made_before_a_time_and_may_ask_again() {
    let world = World::start().await;
    let (one, two) = (world.add().await, world.add().await);
    let function = world.function();
    let asked = |time: &str, tenant: Option<&str>| -> Event {
        let mut event: Value =
            serde_json::from_str(include_str!("../../../../events/rotate-keys/one-tenant.json")).unwrap();
        event["madeBefore"] = time.into();
        event["tenantId"] = tenant.into();
        serde_json::from_value(event).unwrap()
    };
    let ask = async |event| function.handle(event, world.deadline()).await.unwrap();
    let made = world.clock.now().to_string();
    assert_eq!(ask(asked(&made, None)).await, Summary { tenants: 2, ..Summary::default() });

    world.clock.advance(60);
    let since = world.clock.now().to_string();
    let only_one = ask(asked(&since, Some(one.as_str()))).await;
    assert_eq!(only_one, Summary { tenants: 1, started: 1, ..Summary::default() });
    assert_eq!(world.tenant(&two).await.web_trigger().next_key, None);
    let both = ask(asked(&since, None)).await;
    assert_eq!(both, Summary { tenants: 2, started: 1, under_way: 1, ..Summary::default() });

    // What an app has refused is offered again because an operator asks; nothing else is touched.
    let next = world.tenant(&one).await.web_trigger().next_key.clone().unwrap();
    let refused = NextKey { refused_at: Some(world.clock.now()), ..next.clone() };
    world.aws.store().record_next_key_response(&one, &next, &refused).await.unwrap();
    let again = ask(asked(&since, None)).await;
    assert_eq!(again, Summary { tenants: 2, renewed: 1, under_way: 1, ..Summary::default() });

    for id in [&one, &two] {
        let tenant = world.tenant(id).await;
        let next = tenant.web_trigger().next_key.clone().unwrap();
        assert_eq!(world.aws.store().promote_next_key(&tenant, &next).await.unwrap(), WriteOutcome::Applied);
    }
    assert_eq!(ask(asked(&since, None)).await, Summary { tenants: 2, ..Summary::default() });
    // A time that is yet to come would be another replacement with every repetition.
    assert_eq!(ask(asked("2099-01-01T00:00:00Z", None)).await.started, 0);
    let nobody = asked(&since, Some("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
    assert_eq!(ask(nobody).await, Summary { tenants: 1, ..Summary::default() });
}

#[test]
fn a_request_with_a_mistake_in_it_replaces_nothing() {
    for wrong in [
        json!({}),
        json!({ "before": "2026-11-22T10:00:00Z" }),
        json!({ "madeBefore": "yesterday" }),
        json!({ "madeBefore": "2026-11-22T10:00:00Z", "tenant": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" }),
        json!({ "madeBefore": "2026-11-22T10:00:00Z", "tenantId": "x" }),
        json!({ "detail-type": "CheckRange" }),
    ] {
        assert!(serde_json::from_value::<Event>(wrong.clone()).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_registration_that_begins_the_tenant_anew_wins() {
    let (world, ids) = World::with_old_keys(1).await;
    let read = world.tenant(&ids[0]).await;
    world.run(&world.function()).await;
    let offered = world.tenant(&ids[0]).await.web_trigger().next_key.clone().unwrap();

    // The operator deletes the record; a person adds the service again.
    let items = world.aws.dynamo().scan().table_name(&world.aws.table).send().await.unwrap().items.unwrap();
    for mut item in items {
        item.retain(|name, _| name == "pk" || name == "sk");
        let delete = world.aws.dynamo().delete_item().table_name(&world.aws.table);
        delete.set_key(Some(item)).send().await.unwrap();
    }
    let store = world.aws.store();
    assert_eq!(store.store_next_key(&read, &offered).await.unwrap(), WriteOutcome::Conflict);
    assert_eq!(store.tenant(&ids[0], world.clock.now()).await.unwrap(), None);
    assert_eq!(world.register(&read.cloud_id).await, ids[0]);
    let anew = world.tenant(&ids[0]).await;
    assert_eq!(anew.web_trigger().next_key, None);

    assert_eq!(store.store_next_key(&read, &offered).await.unwrap(), WriteOutcome::Conflict);
    store.record_next_key_response(&ids[0], &offered, &offered).await.unwrap();
    assert_eq!(store.promote_next_key(&read, &offered).await.unwrap(), WriteOutcome::Conflict);
    assert_eq!(world.tenant(&ids[0]).await, anew);
}

#[tokio::test]
async fn of_a_registration_and_a_promotion_at_once_one_gives_way() {
    let (world, ids) = World::with_old_keys(1).await;
    world.run(&world.function()).await;
    let (store, read) = (world.aws.store(), world.tenant(&ids[0]).await);
    let next = read.web_trigger().next_key.clone().unwrap();
    let found = store.find(&ids[0], world.clock.now()).await.unwrap().unwrap();

    // The app has just been told the present key again, so it may have dropped the next one.
    world.clock.advance(60);
    let outcome = store.activate(&read, &found.services[0], &[], world.clock.now()).await.unwrap();
    assert_eq!(outcome, WriteOutcome::Applied);
    assert_eq!(store.promote_next_key(&read, &next).await.unwrap(), WriteOutcome::Conflict);

    // And the other way round: what the app was told is not the tenant's key any more.
    let read = world.tenant(&ids[0]).await;
    assert_eq!(store.promote_next_key(&read, &next).await.unwrap(), WriteOutcome::Applied);
    let outcome = store.activate(&read, &found.services[0], &[], world.clock.now()).await;
    assert_eq!(outcome.unwrap(), WriteOutcome::Conflict);
    let promoted = world.tenant(&ids[0]).await;
    assert_eq!((promoted.web_trigger().key.clone(), promoted.registered_at), (next.key, read.registered_at));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_keeps_nobody_else_from_a_new_key() {
    let (world, ids) = World::with_old_keys(2).await;
    let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    let spoil = world.aws.dynamo().update_item().table_name(&world.aws.table);
    let spoil = spoil.key("pk", text(&format!("TENANT#{}", ids[0]))).key("sk", text("TENANT"));
    let spoil = spoil.update_expression("SET publicKey = :k").expression_attribute_values(":k", text("x"));
    spoil.send().await.unwrap();
    let summary = world.run(&world.function()).await;
    assert_eq!(summary, Summary { tenants: 2, started: 1, corrupt: 1, ..Summary::default() });
}
