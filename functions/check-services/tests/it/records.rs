//! Records that are not what their key says block nobody and sign nothing.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use shared::id::TenantId;
use shared_testing::forge_app::ForgeApp;

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
async fn a_record_whose_tenant_does_not_follow_from_site_and_trigger_is_passed_over() {
    let (world, other) = two_tenants().await;
    let trigger = AttributeValue::S(other.trigger_url.clone());
    spoil(&world, &world.app.tenant_id(), HashMap::from([("triggerUrl".to_owned(), trigger)])).await;
    let summary = world.tick(&world.function()).await;
    assert_eq!((summary.accepted, summary.poisoned, summary.failed), (1, 1, 0));
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
        assert_eq!((summary.accepted, summary.poisoned), (1, 1), "{name}");
        spoil(&world, &world.app.tenant_id(), before).await;
    }
    assert_eq!(other.received("UPDATE").len(), 5);
}

#[tokio::test]
async fn an_index_entry_that_names_no_tenant_is_passed_over() {
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
