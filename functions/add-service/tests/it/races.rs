//! What changes between a read and the write that rests on it: each test lets it change at the very point where it matters.

use std::sync::Arc;

use aws::store::WriteOutcome;
use domain::clock::Clock as _;
use domain::id::ServiceId;
use domain::key::{KeyContext, TenantKey};
use domain::key_endorsement::endorse_key;
use domain::service::Lifecycle;
use domain::snapshot::TenantSnapshot;
use domain::tenant::{NextKey, TenantStatus};
use lambda_http::{Body, Response};
use serde_json::{Value, json};
use testing::faults::Faults;
use testing::forge_app::{ACCEPTED, Reply};
use testing::stored;

use crate::world::{MANAGE_JSON, World, changed, document, json_request, text};

/// A registration's transactions, in order.
const BEGIN: usize = 0;
const ACTIVATE: usize = 1;
/// A change has one.
const CHANGE: usize = 0;

/// What happens right before this transaction of a request.
fn before(transaction: usize, what: impl Future<Output = ()> + Send + 'static) -> Faults {
    Faults::before("TransactWriteItems", transaction, what)
}

async fn world() -> Arc<World> {
    Arc::new(World::start().await)
}

async fn send(world: &World, wish: &Value) -> Response<Body> {
    Box::pin(world.function().handle(json_request(wish))).await
}

async fn add(world: &World, wish: &Value) -> ServiceId {
    let response = send(world, wish).await;
    assert_eq!(response.status(), 201, "{}", text(&response));
    ServiceId::parse(document(&response)["service"]["id"].as_str().unwrap()).unwrap()
}

async fn change(world: &World, change: &str, service: &ServiceId) {
    let handoff = world.app.management(change, service, world.clock.now()).await;
    let body = json!({ "handoff": handoff }).to_string();
    let response = world.function().handle(changed(MANAGE_JSON, |event| event["body"] = json!(body))).await;
    assert_eq!(response.status(), 200, "{change}: {}", text(&response));
}

async fn found(world: &World) -> TenantSnapshot {
    world.aws.store().find(&world.app.tenant_id(), world.clock.now()).await.unwrap().unwrap()
}

/// The service of a wish that Forge has not accepted.
async fn pend(world: &World, wish: &Value) -> ServiceId {
    world.app.answer_next([Reply::Code(401, "UNAUTHORIZED")]);
    assert_eq!(send(world, wish).await.status(), 502);
    let pending =
        found(world).await.services.into_iter().find(|service| service.lifecycle == Lifecycle::Pending);
    pending.unwrap().id
}

/// The sort keys of the tenant's items that DynamoDB will delete.
async fn ending(world: &World) -> Vec<String> {
    let pk = format!("TENANT#{}", world.app.tenant_id());
    let query = world.aws.dynamo().query().table_name(&world.aws.table);
    let query = query
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", aws_sdk_dynamodb::types::AttributeValue::S(pk));
    let items = query.send().await.unwrap().items.unwrap();
    let ending = items.iter().filter(|item| item.contains_key("expires_at"));
    ending.map(|item| item["sk"].as_s().unwrap().clone()).collect()
}

fn outcome(response: &Response<Body>) -> (u16, Value) {
    (response.status().as_u16(), document(response)["code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_accepted_while_another_registration_begins_is_not_forgotten() {
    let world = world().await;
    let (first, second) = (world.wish("a").await, world.wish("b").await);
    pend(&world, &first).await;

    // The second one has read the tenant as pending and made its check; then the first one is accepted.
    let other = Arc::clone(&world);
    let faults = before(BEGIN, async move {
        other.app.answer_next([ACCEPTED, Reply::Code(403, "HANDOFF_INVALID")]);
        add(&other, &first).await;
    });
    let response = Box::pin(world.function_with_store_faults(&faults).handle(json_request(&second))).await;
    assert_eq!(outcome(&response), (403, json!("REFUSED_BY_FORGE")));

    let pending = ServiceId::derive(&world.app.tenant_id(), &world.target.url("b"));
    assert_eq!(ending(&world).await, [format!("SERVICE#{pending}")]);
    world.clock.advance(24 * 3600 + 1);
    let left = found(&world).await;
    assert_eq!((left.tenant.status, left.services.len()), (TenantStatus::Active, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_suspended_while_a_registration_is_accepted_is_active_with_all_it_has() {
    let world = world().await;
    add(&world, &world.wish("a").await).await;
    let (tenant, now) = (world.app.tenant_id(), world.clock.now());
    stored::tick(&world.aws.store(), &tenant, now).await;
    for at in [BEGIN, ACTIVATE] {
        let (store, id) = (world.aws.store(), tenant.clone());
        let faults = before(at, async move { stored::suspend(&store, &id, true, now).await });
        let before = world.app.received("REGISTER").len();
        let response = Box::pin(
            world
                .function_with_store_faults(&faults)
                .handle(json_request(&world.wish(&format!("during-{at}")).await)),
        )
        .await;
        assert_eq!(response.status(), 201, "{at}: {}", text(&response));
        assert_eq!(world.app.received("REGISTER").len(), before + 1, "one REGISTER is enough");
        assert_eq!(found(&world).await.tenant.status, TenantStatus::Active, "{at}");
        assert_eq!(ending(&world).await, Vec::<String>::new(), "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_is_revived_while_a_registration_is_accepted_is_active() {
    let world = world().await;
    add(&world, &world.wish("a").await).await;
    let (tenant, now) = (world.app.tenant_id(), world.clock.now());
    stored::tick(&world.aws.store(), &tenant, now).await;
    stored::suspend(&world.aws.store(), &tenant, true, now).await;
    let store = world.aws.store();
    let faults = before(ACTIVATE, async move { stored::suspend(&store, &tenant, false, now).await });
    let response =
        Box::pin(world.function_with_store_faults(&faults).handle(json_request(&world.wish("b").await)))
            .await;
    assert_eq!(response.status(), 201, "{}", text(&response));
    assert_eq!(found(&world).await.tenant.status, TenantStatus::Active);
    assert_eq!(ending(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_mark_of_a_tick_gives_way_to_a_registration_and_to_a_suspension() {
    let world = world().await;
    add(&world, &world.wish("a").await).await;
    let (store, now, id) = (world.aws.store(), world.clock.now(), world.app.tenant_id());
    // The app had lost its keys when the tick asked; then a person registered.
    let as_read = found(&world).await.tenant;
    world.clock.advance(60);
    assert_eq!(send(&world, &world.wish("a").await).await.status(), 200);
    store.mark(&as_read, TenantStatus::Unregistered).await.unwrap();
    assert_eq!(found(&world).await.tenant.status, TenantStatus::Active);

    // The app has taken a report, but another round has suspended the tenant.
    let as_read = found(&world).await.tenant;
    store.mark(&as_read, TenantStatus::Unregistered).await.unwrap();
    let as_read = found(&world).await.tenant;
    assert_eq!(as_read.status, TenantStatus::Unregistered);
    stored::tick(&store, &id, now).await;
    stored::suspend(&store, &id, true, now).await;
    store.mark(&as_read, TenantStatus::Active).await.unwrap();
    assert_eq!(
        found(&world).await.tenant.status,
        TenantStatus::Suspended,
        "an active one would be forgotten"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_activation_does_not_undo_a_pause() {
    let world = world().await;
    // In the same second, so that only the service's own record can tell.
    add(&world, &world.wish("other").await).await;
    let wish = world.wish("a").await;
    // The same form sent twice: one is through, and its service paused, before the other is activated.
    let (other, again) = (Arc::clone(&world), wish.clone());
    let faults = before(ACTIVATE, async move {
        let service = add(&other, &again).await;
        change(&other, "pause", &service).await;
    });
    let response = Box::pin(world.function_with_store_faults(&faults).handle(json_request(&wish))).await;
    assert_eq!(response.status(), 200, "{}", text(&response));
    assert_eq!(document(&response)["service"]["status"], "PAUSED");
    let left = found(&world).await;
    let activities: Vec<_> = left.services.iter().map(|service| service.lifecycle).collect();
    assert!(activities.contains(&Lifecycle::Paused), "{activities:?}");
    assert_eq!(activities.len(), 2);
    assert_eq!(ending(&world).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_before_it_is_activated_stays_away() {
    let world = world().await;
    let wish = world.wish("a").await;
    let service = pend(&world, &wish).await;
    for at in [ACTIVATE, BEGIN] {
        let (other, id) = (Arc::clone(&world), service.clone());
        let faults = before(at, async move { change(&other, "remove", &id).await });
        let fresh = world.wish("a").await;
        pend(&world, &fresh).await;
        let response = Box::pin(world.function_with_store_faults(&faults).handle(json_request(&fresh))).await;
        assert_eq!(outcome(&response), (401, json!("HANDOFF_USED")), "{at}");
        assert!(text(&response).contains("has been removed"), "{}", text(&response));
        let again = send(&world, &fresh).await;
        assert_eq!(outcome(&again), (401, json!("HANDOFF_USED")), "a retry brings nothing back");
        let left = found(&world).await;
        assert_eq!(left.services.len(), 0, "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_stays_away_also_when_the_count_is_the_same_again() {
    let world = world().await;
    add(&world, &world.wish("other").await).await;
    let wish = world.wish("a").await;
    let service = pend(&world, &wish).await;
    let (other, id, in_its_place) = (Arc::clone(&world), service, world.wish("b").await);
    let faults = before(BEGIN, async move {
        change(&other, "remove", &id).await;
        add(&other, &in_its_place).await;
    });
    let response = Box::pin(world.function_with_store_faults(&faults).handle(json_request(&wish))).await;
    assert_eq!(outcome(&response), (401, json!("HANDOFF_USED")));
    let left = found(&world).await;
    let urls: Vec<_> = left.services.iter().map(|service| service.check.url.to_string()).collect();
    assert_eq!(urls.len(), 2, "{urls:?}");
    assert!(!urls.contains(&world.target.url("a")), "{urls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_of_another_person_in_between_is_reported_as_theirs() {
    let world = world().await;
    let (mine, theirs) = (world.wish("a").await, world.wish_of("owner-2", "a").await);
    let other = Arc::clone(&world);
    let faults = before(ACTIVATE, async move { drop(add(&other, &theirs).await) });
    let response = Box::pin(world.function_with_store_faults(&faults).handle(json_request(&mine))).await;
    assert_eq!(response.status(), 200, "{}", text(&response));
    let left = found(&world).await;
    assert_eq!((left.services.len(), left.services[0].owner.as_str()), (1, "owner-2"));
    let named: Vec<_> = world
        .app
        .received("REGISTER")
        .iter()
        .map(|register| {
            let service = &register.body["service"];
            (service["owner"].clone(), service["addedBy"].clone())
        })
        .collect();
    let (one, two) = (json!("owner-1"), json!("owner-2"));
    let expected = [(one.clone(), one.clone()), (two.clone(), two.clone()), (one, two)];
    assert_eq!(named, expected, "finally the app knows whose it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revival_gives_no_pending_service_eternal_life() {
    let world = world().await;
    let (a, _) = (add(&world, &world.wish("a").await).await, add(&world, &world.wish("b").await).await);
    let (tenant, now) = (world.app.tenant_id(), world.clock.now());
    stored::tick(&world.aws.store(), &tenant, now).await;
    stored::suspend(&world.aws.store(), &tenant, true, now).await;
    // One of the others is removed, and registered again without Forge's acceptance, right before the activation.
    let (other, id, again) = (Arc::clone(&world), a.clone(), world.wish("a").await);
    let faults = before(ACTIVATE, async move {
        change(&other, "remove", &id).await;
        pend(&other, &again).await;
    });
    let response =
        Box::pin(world.function_with_store_faults(&faults).handle(json_request(&world.wish("c").await)))
            .await;
    assert_eq!(response.status(), 201, "{}", text(&response));
    assert_eq!(ending(&world).await, [format!("SERVICE#{a}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_of_nothing_gives_way_to_what_is_registered_meanwhile() {
    let world = world().await;
    add(&world, &world.wish("other").await).await;
    let a = ServiceId::derive(&world.app.tenant_id(), &world.target.url("a"));
    let (other, wish) = (Arc::clone(&world), world.wish("a").await);
    let faults = before(CHANGE, async move { drop(add(&other, &wish).await) });
    let handoff = world.app.management("remove", &a, world.clock.now()).await;
    let body = json!({ "handoff": handoff }).to_string();
    let request = changed(MANAGE_JSON, |event| event["body"] = json!(body));
    assert_eq!(Box::pin(world.function_with_store_faults(&faults).handle(request)).await.status(), 200);
    assert!(found(&world).await.services.iter().all(|service| service.id != a), "removed means removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_paused_while_its_removal_is_decided_is_removed() {
    let world = world().await;
    let a = add(&world, &world.wish("a").await).await;
    let (other, id) = (Arc::clone(&world), a.clone());
    let faults = before(CHANGE, async move { change(&other, "pause", &id).await });
    let handoff = world.app.management("remove", &a, world.clock.now()).await;
    let body = json!({ "handoff": handoff }).to_string();
    let request = changed(MANAGE_JSON, |event| event["body"] = json!(body));
    assert_eq!(Box::pin(world.function_with_store_faults(&faults).handle(request)).await.status(), 200);
    let left = found(&world).await;
    assert_eq!(left.services.len(), 0);
}

#[tokio::test]
async fn an_activation_rests_on_the_registration_that_was_read() {
    let world = world().await;
    add(&world, &world.wish("a").await).await;
    let TenantSnapshot { tenant, services, .. } = found(&world).await;
    let (store, now) = (world.aws.store(), world.clock.now());
    let at = |seconds| now + jiff::SignedDuration::from_secs(seconds);
    assert_eq!(store.activate(&tenant, &services[0], &[], at(1)).await.unwrap(), WriteOutcome::Applied);
    // The same again rests on what is not there any more.
    assert_eq!(store.activate(&tenant, &services[0], &[], at(2)).await.unwrap(), WriteOutcome::Conflict);
    assert_eq!(found(&world).await.tenant.registered_at, Some(at(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_registration_passes_the_limit_while_a_pending_service_ends() {
    let world = world().await;
    add(&world, &world.wish("a").await).await;
    pend(&world, &world.wish("ended").await).await;
    world.clock.advance(24 * 3600 + 1);
    // One service is left, two are allowed, and three registrations have read that before any of them begins.
    let mut wishes = Vec::new();
    for path in ["x", "y", "z"] {
        wishes.push(world.wish_of(&format!("owner-{path}"), path).await);
    }
    let [x, y, z] = <[Value; 3]>::try_from(wishes).unwrap();
    let (second, third) = (Arc::clone(&world), Arc::clone(&world));
    let innermost = before(BEGIN, async move {
        let mut function = third.function();
        function.limits.per_tenant = 2;
        assert_eq!(Box::pin(function.handle(json_request(&z))).await.status(), 201);
    });
    let middle = before(BEGIN, async move {
        let mut function = second.function_with_store_faults(&innermost);
        function.limits.per_tenant = 2;
        assert_eq!(Box::pin(function.handle(json_request(&y))).await.status(), 409);
    });
    let mut function = world.function_with_store_faults(&middle);
    function.limits.per_tenant = 2;
    assert_eq!(Box::pin(function.handle(json_request(&x))).await.status(), 409);
    assert_eq!(found(&world).await.services.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_under_a_key_that_is_replaced_meanwhile_is_accepted_once() {
    let world = world().await;
    add(&world, &world.wish("a").await).await;
    let (store, now) = (world.aws.store(), world.clock.now());
    let tenant = found(&world).await.tenant;
    let context = KeyContext { cloud_id: world.app.cloud_id.clone(), tenant_id: world.app.tenant_id() };
    let (public, wrapped) = world.aws.wrapping_key().make_key(&context).await.unwrap();
    let key = TenantKey { public, wrapped, made_at: now };
    let next = endorse_key(&tenant, key, &world.aws.deployment_key(), now).await.unwrap();
    assert_eq!(store.store_next_key(&tenant, &next).await.unwrap(), WriteOutcome::Applied);
    let accepted = NextKey { is_accepted: true, ..next.clone() };
    store.record_next_key_response(&world.app.tenant_id(), &next, &accepted).await.unwrap();
    let other = Arc::clone(&world);
    let faults = before(ACTIVATE, async move {
        let tenant = found(&other).await.tenant;
        assert_eq!(
            other.aws.store().promote_next_key(&tenant, &accepted).await.unwrap(),
            WriteOutcome::Applied
        );
    });
    let registers = world.app.received("REGISTER").len();
    let response =
        Box::pin(world.function_with_store_faults(&faults).handle(json_request(&world.wish("b").await)))
            .await;
    assert_eq!(response.status(), 201, "{}", text(&response));
    assert_eq!(world.app.received("REGISTER").len(), registers + 1);
    assert_eq!(found(&world).await.tenant.web_trigger().key, next.key);
}
