//! Answers of AWS that the local one cannot be made to give: an event bus that takes some entries and not others,
//! throttling, refusals, and silence.

use aws::kms::WrappingKey;
use aws::store::{Store, StoreError, TenantIdRange};
use check_services::bus::{BusError, EventBus};
use check_services::event::{Shard, VerdictsSuppressed};
use domain::id::{CloudId, TenantId};
use domain::key::{KeyContext, KeyError, WrappedKey};
use domain::tick::{Period, Tick};
use serde_json::{Value, json};
use testing::aws_server::AwsServer;

fn shards(count: u8) -> Vec<Shard> {
    let period = Period::from_minutes(5).unwrap();
    let tick = Tick::containing("2026-11-22T10:05:00Z".parse().unwrap(), period);
    (0..count).map(|generation| Shard { tick, after: None, through: None, generation }).collect()
}

fn bus(server: &AwsServer) -> EventBus {
    EventBus::new(server.eventbridge(), "bus".to_owned())
}

/// An answer to `PutEvents`: `+` for an entry that was taken, `-` for one that was not.
fn taken(entries: &str) -> (u16, Value) {
    let entry = |taken| match taken {
        '+' => json!({ "EventId": "11111111-2222-4333-8444-555555555555" }),
        _ => json!({ "ErrorCode": "ThrottlingException", "ErrorMessage": "slow down" }),
    };
    let failed = entries.chars().filter(|taken| *taken == '-').count();
    (200, json!({ "FailedEntryCount": failed, "Entries": entries.chars().map(entry).collect::<Vec<_>>() }))
}

/// The hops of the shards of each call, which tell them apart.
fn sent(server: &AwsServer) -> Vec<Vec<u64>> {
    let hop = |entry: &Value| {
        let detail: Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
        detail["hop"].as_u64().unwrap()
    };
    let entries = |request: &Value| request["Entries"].as_array().unwrap().iter().map(hop).collect();
    server.requests().iter().map(entries).collect()
}

#[tokio::test]
async fn entries_that_were_not_taken_are_sent_again_and_no_others() {
    let server = AwsServer::start([taken("+--+"), taken("-+"), taken("+")]).await;
    bus(&server).publish_shards(&shards(4)).await.unwrap();
    assert_eq!(sent(&server), [vec![0, 1, 2, 3], vec![1, 2], vec![1]]);
}

#[tokio::test]
async fn an_entry_that_is_never_taken_is_an_error() {
    let server = AwsServer::start([taken("+-"), taken("-")]).await;
    let failed = bus(&server).publish_shards(&shards(2)).await.unwrap_err();
    assert!(matches!(failed, BusError::Rejected(1)), "{failed:?}");
    assert_eq!(sent(&server), [vec![0, 1], vec![1], vec![1]]);
}

#[tokio::test]
async fn an_entry_without_an_answer_counts_as_not_taken() {
    let server = AwsServer::start([taken("+"), taken("+")]).await;
    bus(&server).publish_shards(&shards(2)).await.unwrap();
    assert_eq!(sent(&server), [vec![0, 1], vec![1]]);
}

#[tokio::test]
async fn a_call_takes_ten_entries() {
    let server = AwsServer::start([taken("++++++++++"), taken("++")]).await;
    bus(&server).publish_shards(&shards(12)).await.unwrap();
    assert_eq!(sent(&server).iter().map(Vec::len).collect::<Vec<_>>(), [10, 2]);
}

#[tokio::test]
async fn suppressed_verdicts_are_announced_under_a_name_of_their_own() {
    let server = AwsServer::start([taken("+")]).await;
    let suppressed = VerdictsSuppressed { tick: shards(1)[0].tick, tenants: 2, services: 7 };
    bus(&server).suppressed(&suppressed).await.unwrap();
    let entry = server.requests()[0]["Entries"][0].clone();
    assert_eq!((&entry["Source"], &entry["DetailType"]), (&json!("forge-health"), &json!("VerdictsHeld")));
    let detail: Value = serde_json::from_str(entry["Detail"].as_str().unwrap()).unwrap();
    assert_eq!(detail, json!({ "tick": "2026-11-22T10:05:00Z", "tenants": 2, "services": 7 }));
}

fn key_context() -> KeyContext {
    let cloud_id = CloudId::parse("11111111-2222-4333-8444-555555555555").unwrap();
    KeyContext { tenant_id: TenantId::derive(&cloud_id, "https://t.example/x1/a"), cloud_id }
}

/// What the three adapters say to each of their callers.
async fn said(server: &AwsServer) -> (BusError, StoreError, KeyError) {
    let store = Store::new(server.dynamo(), "table".to_owned());
    let keys = WrappingKey::new(server.kms(), "key".to_owned());
    let (wrapped, context) = (WrappedKey::new(vec![1]), key_context());
    let (one, all) = (shards(1), TenantIdRange::default());
    let bus = bus(server);
    let (bus, store, keys) =
        tokio::join!(bus.publish_shards(&one), store.active(&all), keys.unwrap_key(&wrapped, &context));
    let Err(keys) = keys else { unreachable!("no server here makes keys") };
    (bus.unwrap_err(), store.unwrap_err(), keys)
}

#[tokio::test]
async fn throttling_is_unavailable_after_three_attempts_and_a_refusal_is_one() {
    let server = AwsServer::refusing("ThrottlingException").await;
    let said_so = said(&server).await;
    let (BusError::Unavailable(_), StoreError::Unavailable(_), KeyError::Unavailable(_)) = said_so else {
        unreachable!("{said_so:?}")
    };
    assert_eq!(server.requests().len(), 9);

    let server = AwsServer::refusing("AccessDeniedException").await;
    let said_so = said(&server).await;
    let (BusError::Unavailable(_), StoreError::Refused(_), KeyError::Refused(_)) = said_so else {
        unreachable!("{said_so:?}")
    };
    assert_eq!(server.requests().len(), 3);
}

/// The clock is paused, so that the ten seconds of an operation pass as soon as nothing else happens.
#[tokio::test(start_paused = true)]
async fn an_aws_that_never_answers_is_given_up_and_unavailable() {
    let server = AwsServer::start([]).await;
    let began = tokio::time::Instant::now();
    let said_so = said(&server).await;
    let (BusError::Unavailable(_), StoreError::Unavailable(_), KeyError::Unavailable(_)) = said_so else {
        unreachable!("{said_so:?}")
    };
    let took = began.elapsed();
    assert!(took.as_secs() >= 4 && took.as_secs() < 20, "{took:?}");
}
