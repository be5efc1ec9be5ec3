//! Records that are not what their key says block nobody and sign nothing.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use domain::id::{ServiceId, TenantId};
use testing::forge_app::ForgeApp;

use crate::world::World;

/// Two tenants with a service each.
async fn two_tenants() -> (World, ForgeApp) {
    let world = World::with_one_service().await;
    let other = world.another_app().await;
    world.add(&other, "b").await;
    (world, other)
}

fn key(tenant: &TenantId) -> HashMap<String, AttributeValue> {
    HashMap::from([
        ("pk".to_owned(), AttributeValue::S(format!("TENANT#{tenant}"))),
        ("sk".to_owned(), AttributeValue::S("TENANT".to_owned())),
    ])
}

async fn spoil(world: &World, tenant: &TenantId, changes: HashMap<String, AttributeValue>) {
    let dynamo = world.aws.dynamo();
    let item =
        dynamo.get_item().table_name(&world.aws.table).set_key(Some(key(tenant))).send().await.unwrap().item;
    let mut item = item.unwrap();
    item.extend(changes);
    dynamo.put_item().table_name(&world.aws.table).set_item(Some(item)).send().await.unwrap();
}

async fn read(world: &World, tenant: &TenantId) -> HashMap<String, AttributeValue> {
    let dynamo = world.aws.dynamo();
    let answer = dynamo.get_item().table_name(&world.aws.table).set_key(Some(key(tenant))).send().await;
    answer.unwrap().item.unwrap()
}

#[tokio::test]
async fn a_wrapped_key_moved_to_another_tenant_signs_nothing() {
    let (world, other) = two_tenants().await;
    let foreign = read(&world, &other.tenant_id()).await;
    let moved = ["wrappedKey", "publicKey"].map(|name| (name.to_owned(), foreign[name].clone()));
    for stolen in [HashMap::from([moved[0].clone()]), HashMap::from(moved)] {
        spoil(&world, &world.app.tenant_id(), stolen).await;
        let summary = world.next_tick(&world.function()).await;
        assert_eq!((summary.accepted, summary.not_accepted), (1, 1));
        assert_eq!(world.app.callbacks().len(), 0);
    }
    assert_eq!(other.received("UPDATE").len(), 2);
}

#[tokio::test]
async fn a_record_whose_tenant_does_not_follow_from_site_and_trigger_is_skipped() {
    let (world, other) = two_tenants().await;
    let trigger = AttributeValue::S(other.trigger_url.clone());
    spoil(&world, &world.app.tenant_id(), HashMap::from([("triggerUrl".to_owned(), trigger)])).await;
    let summary = world.tick(&world.function()).await;
    assert_eq!((summary.accepted, summary.corrupt, summary.failed), (1, 1, 0));
    assert_eq!((world.app.callbacks().len(), other.received("UPDATE").len()), (0, 1));
    assert_eq!(other.received("UPDATE")[0].body["tenantId"], other.tenant_id().as_str());
}

#[tokio::test]
async fn a_record_that_cannot_be_read_blocks_nobody() {
    let (world, other) = two_tenants().await;
    for (name, value) in [
        ("publicKey", AttributeValue::S("AAAA".to_owned())),
        ("wrappedKey", AttributeValue::S("%".to_owned())),
        ("status", AttributeValue::S("cheerful".to_owned())),
        ("cloudId", AttributeValue::N("1".to_owned())),
        ("createdAt", AttributeValue::S("yesterday".to_owned())),
    ] {
        let before = read(&world, &world.app.tenant_id()).await;
        spoil(&world, &world.app.tenant_id(), HashMap::from([(name.to_owned(), value)])).await;
        let summary = world.next_tick(&world.function()).await;
        assert_eq!((summary.accepted, summary.corrupt), (1, 1), "{name}");
        spoil(&world, &world.app.tenant_id(), before).await;
    }
    assert_eq!(other.received("UPDATE").len(), 5);
}

#[tokio::test]
async fn an_index_entry_that_names_no_tenant_is_skipped() {
    let world = World::with_one_service().await;
    let stray = HashMap::from([
        ("pk".to_owned(), AttributeValue::S("TENANT#stray".to_owned())),
        ("sk".to_owned(), AttributeValue::S("TENANT".to_owned())),
        ("active".to_owned(), AttributeValue::S("ACTIVE".to_owned())),
        ("tenantId".to_owned(), AttributeValue::S("stray".to_owned())),
    ]);
    world.aws.dynamo().put_item().table_name(&world.aws.table).set_item(Some(stray)).send().await.unwrap();
    assert_eq!(world.tick(&world.function()).await.accepted, 1);
}

#[tokio::test]
async fn one_unreadable_service_silences_no_other_and_keeps_its_status() {
    let world = World::start().await;
    let (a, b) = (world.add(&world.app, "a").await, world.add(&world.app, "b").await);
    let function = world.function();
    world.tick(&function).await;
    let service = |id: &ServiceId| {
        HashMap::from([
            ("pk".to_owned(), AttributeValue::S(format!("TENANT#{}", world.app.tenant_id()))),
            ("sk".to_owned(), AttributeValue::S(format!("SERVICE#{id}"))),
        ])
    };
    let update = |check: AttributeValue| {
        let update = world.aws.dynamo().update_item().table_name(&world.aws.table);
        let update = update.set_key(Some(service(&a))).update_expression("SET #c = :check");
        update.expression_attribute_names("#c", "check").expression_attribute_values(":check", check).send()
    };
    let items = world.items(&world.app).await;
    let sound = items.iter().find(|item| item["sk"] == service(&a)["sk"]).unwrap()["check"].clone();
    for bad in [
        AttributeValue::S("{".to_owned()),
        AttributeValue::S(
            r#"{"url":"https://elsewhere.example/","method":"GET","expectedStatus":"200","timeoutMs":5000}"#
                .to_owned(),
        ),
        AttributeValue::Bool(true),
    ] {
        update(bad.clone()).await.unwrap();
        let summary = world.next_tick(&function).await;
        assert_eq!((summary.accepted, summary.corrupt, summary.alive), (1, 1, 1), "{bad:?}");
        let body = world.app.received("UPDATE").pop().unwrap().body;
        let services = body["services"].as_array().unwrap();
        assert_eq!((services.len(), &services[0]["id"]), (1, &serde_json::json!(b.as_str())));
        let state = world.watched(&world.app).await.unwrap().state;
        assert_eq!(state.services[&a].status, domain::status::Status::Alive, "{bad:?}");
    }
    update(sound).await.unwrap();
    let summary = world.next_tick(&function).await;
    assert_eq!((summary.corrupt, summary.alive), (0, 2));
    let body = world.app.received("UPDATE").pop().unwrap().body;
    assert_eq!(body["transitions"], serde_json::json!([]), "repaired, it goes on where it was");
}
