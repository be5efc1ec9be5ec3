//! How many connections AWS's services can hold open when they do not answer, and for how long.

use std::time::{Duration, Instant};

use aws::kms::{DeploymentKey, WrappingKey};
use aws::store::{Store, StoreError, TenantIdRange};
use domain::id::{CloudId, HandoffId, TenantId};
use domain::key::{KeyContext, KeyError, PrivateKey, Sign as _, TenantKey, WrappedKey};
use domain::tenant::{Delivery, Tenant, TenantStatus, TriggerPolicy, WebTrigger};
use futures::future::{BoxFuture, FutureExt as _, join_all};
use jiff::Timestamp;
use testing::aws_server::AwsServer;

/// What a call ended with, as far as it matters here.
type Call<'a> = BoxFuture<'a, bool>;

fn is_unavailable<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Unavailable(_)))
}

fn is_key_unavailable<T>(outcome: &Result<T, KeyError>) -> bool {
    matches!(outcome, Err(KeyError::Unavailable(_)))
}

/// Makes many calls to a server that never answers: `bound` of them reach it, and all end in time.
async fn hold(server: &AwsServer, calls: Vec<Call<'_>>, bound: usize) {
    assert!(calls.len() > 2 * bound);
    let began = Instant::now();
    let counted = async {
        while server.requests().len() < bound {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // A further one would be here at once; the second attempts come after four seconds.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(server.requests().len(), bound);
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    };
    let (outcomes, ()) = tokio::join!(join_all(calls), counted);
    assert!(outcomes.into_iter().all(|is_unavailable| is_unavailable));
    // Ten seconds; a wait for a permit without a bound would make it twenty and more.
    assert!(began.elapsed() < Duration::from_secs(18), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_kms_that_hangs_holds_32_connections_and_no_call_beyond_ten_seconds() {
    let server = AwsServer::start([]).await;
    let key = WrappingKey::new(server.kms(), "key".to_owned());
    let cloud_id = CloudId::parse("11111111-2222-4333-8444-555555555555").unwrap();
    let tenant_id = TenantId::derive(&cloud_id, "trigger");
    let context = KeyContext { cloud_id, tenant_id };
    let wrapped = WrappedKey::new(vec![1]);
    let unwrap = || async { is_key_unavailable(&key.unwrap_key(&wrapped, &context).await) }.boxed();
    let make = || async { is_key_unavailable(&key.make_key(&context).await) }.boxed();
    let calls = (0..50).flat_map(|_| [unwrap(), make()]).collect();
    hold(&server, calls, 32).await;
}

#[tokio::test]
async fn signing_has_the_same_bound() {
    let server = AwsServer::start([]).await;
    let key = DeploymentKey::new(server.kms(), "key".to_owned());
    let calls = (0..100).map(|_| async { is_key_unavailable(&key.sign(b"message").await) }.boxed()).collect();
    hold(&server, calls, 32).await;
}

#[tokio::test]
async fn no_call_of_the_store_goes_without_a_permit() {
    let server = AwsServer::start([]).await;
    let store = Store::new(server.dynamo(), "table".to_owned());
    let (handoff, now) = (HandoffId::derive("app", "1"), Timestamp::UNIX_EPOCH);
    let cloud_id = CloudId::parse("11111111-2222-4333-8444-555555555555").unwrap();
    let tenant = TenantId::derive(&cloud_id, "trigger");
    let triggers = TriggerPolicy { hosts: vec!["t.example".to_owned()], allow_loopback: false };
    let key = TenantKey {
        public: PrivateKey::from_seed(&[1; 32]).public_key().unwrap(),
        wrapped: WrappedKey::new(vec![1]),
        made_at: now,
    };
    let marked = Tenant {
        cloud_id,
        delivery: Delivery::WebTrigger(WebTrigger::new(
            triggers.parse("https://t.example/x1/a").unwrap(),
            key,
        )),
        status: TenantStatus::Unregistered,
        created_at: now,
        registered_at: Some(now),
    };
    let range = TenantIdRange::default();
    let calls = (0..50).flat_map(|_| -> [Call<'_>; 5] {
        [
            async { is_unavailable(&store.handoff_use(&handoff, now).await) }.boxed(),
            async { is_unavailable(&store.mark(&marked, TenantStatus::Active).await) }.boxed(),
            async { is_unavailable(&store.active(&range).await) }.boxed(),
            async { is_unavailable(&store.tenant(&tenant, now).await) }.boxed(),
            async { is_unavailable(&store.find(&tenant, now).await) }.boxed(),
        ]
    });
    hold(&server, calls.collect(), 64).await;
}
