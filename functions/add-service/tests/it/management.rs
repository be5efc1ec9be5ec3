//! Removing, pausing and resuming: who may, what it does, and what a repetition does.

use add_service::config::ServiceLimits;
use aws::store::WriteOutcome;
use domain::clock::Clock as _;
use domain::id::ServiceId;
use domain::service::Lifecycle;
use domain::snapshot::TenantSnapshot;
use domain::status::{History, ServiceStatus, State, Status};
use domain::tenant::TenantStatus;
use domain::tick::{Period, Tick};
use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use serde_json::{Value, json};
use testing::forge_app::{ForgeApp, management_claims};
use testing::stored;

use crate::world::{
    Deployed, MANAGE_FORM, MANAGE_JSON, World, changed, document, in_form, json_request, text,
};

/// The sample event with another hand-off.
fn request(handoff: &str) -> Request {
    changed(MANAGE_JSON, |event| event["body"] = json!(json!({ "handoff": handoff }).to_string()))
}

async fn send(function: &Deployed, handoff: &str) -> Response<Body> {
    function.handle(request(handoff)).await
}

fn refusal(response: &Response<Body>) -> (u16, String) {
    let code = document(response)["code"].as_str().unwrap_or_default().to_owned();
    (response.status().as_u16(), code)
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

async fn add(world: &World, path: &str) -> ServiceId {
    let response = world.function().handle(json_request(&world.wish(path).await)).await;
    assert_eq!(response.status(), 201, "{}", text(&response));
    ServiceId::parse(document(&response)["service"]["id"].as_str().unwrap()).unwrap()
}

async fn ask(world: &World, change: &str, service: &ServiceId) -> Response<Body> {
    let handoff = world.app.management(change, service, world.clock.now()).await;
    send(&world.function(), &handoff).await
}

async fn stored(world: &World) -> TenantSnapshot {
    world.aws.store().find(&world.app.tenant_id(), world.clock.now()).await.unwrap().unwrap()
}

async fn activities(world: &World) -> Vec<(ServiceId, Lifecycle)> {
    stored(world).await.services.into_iter().map(|service| (service.id, service.lifecycle)).collect()
}

#[tokio::test]
async fn a_removed_service_is_gone_and_its_place_is_free() {
    let world = World::start().await;
    let (a, b) = (add(&world, "a").await, add(&world, "b").await);
    let response = ask(&world, "remove", &a).await;
    assert_eq!(response.status(), 200, "{}", text(&response));
    let expected = json!({ "tenantId": world.app.tenant_id(), "service": { "id": a }, "change": "remove" });
    assert_eq!(document(&response), expected);
    assert_eq!(activities(&world).await, [(b.clone(), Lifecycle::Active)]);
    assert_eq!(world.app.callbacks().len(), 2, "the app hears of it with the next report");

    let full = world
        .function_within(ServiceLimits { per_tenant: 2, per_owner: 2 })
        .handle(json_request(&world.wish("c").await))
        .await;
    assert_eq!(full.status(), 201);
    // The last ones: the tenant and its key stay for the next person.
    assert_eq!(ask(&world, "remove", &b).await.status(), 200);
    let c = ServiceId::parse(document(&full)["service"]["id"].as_str().unwrap()).unwrap();
    assert_eq!(ask(&world, "remove", &c).await.status(), 200);
    let left = stored(&world).await;
    assert_eq!((left.tenant.status, left.services.len()), (TenantStatus::Active, 0));
    add(&world, "a").await;
    assert_eq!(world.app.known_tenant_keys(), 1);
}

#[tokio::test]
async fn a_service_is_paused_and_resumed_as_often_as_asked() {
    let world = World::start().await;
    let a = add(&world, "a").await;
    for (change, activity) in [
        ("resume", Lifecycle::Active),
        ("pause", Lifecycle::Paused),
        ("pause", Lifecycle::Paused),
        ("resume", Lifecycle::Active),
        ("resume", Lifecycle::Active),
    ] {
        assert_eq!(ask(&world, change, &a).await.status(), 200, "{change}");
        assert_eq!(activities(&world).await, [(a.clone(), activity)]);
    }
}

#[tokio::test]
async fn the_same_handoff_again_answers_the_same_and_changes_nothing() {
    let world = World::start().await;
    let (function, now) = (world.function(), world.clock.now());
    let a = add(&world, "a").await;
    let remove = world.app.management("remove", &a, now).await;
    let first = send(&function, &remove).await;
    add(&world, "a").await;
    let again = send(&function, &remove).await;
    assert_eq!((again.status(), document(&again)), (StatusCode::OK, document(&first)));
    assert_eq!(activities(&world).await, [(a.clone(), Lifecycle::Active)], "a reload removes nothing new");

    let pause = world.app.management("pause", &a, now).await;
    assert_eq!(send(&function, &pause).await.status(), 200);
    assert_eq!(ask(&world, "resume", &a).await.status(), 200);
    assert_eq!(send(&function, &pause).await.status(), 200);
    assert_eq!(activities(&world).await, [(a, Lifecycle::Active)]);
}

#[tokio::test]
async fn the_same_handoff_at_once_and_changes_beside_registrations_leave_the_right_count() {
    let world = World::start().await;
    let function = world.function();
    let (a, b) = (add(&world, "a").await, add(&world, "b").await);
    let remove_a = world.app.management("remove", &a, world.clock.now()).await;
    let remove_b = world.app.management("remove", &b, world.clock.now()).await;
    let (first, second, third, added) = tokio::join!(
        send(&function, &remove_a),
        send(&function, &remove_a),
        send(&function, &remove_b),
        add(&world, "c")
    );
    assert_eq!([first.status(), second.status(), third.status()].map(|status| status.as_u16()), [200; 3]);
    assert_eq!(activities(&world).await, [(added, Lifecycle::Active)]);
}

#[tokio::test]
async fn a_management_handoff_is_bound_to_its_service_and_change() {
    let world = World::start().await;
    let (function, now) = (world.function(), world.clock.now());
    let (a, b) = (add(&world, "a").await, add(&world, "b").await);
    let jti = "0123456789abcdef0123456789abcdef";
    let token = async |change: &str, service: &ServiceId| {
        let mut claims = management_claims(change, service);
        claims["jti"] = json!(jti);
        world.app.handoff_with(claims, now).await
    };
    assert_eq!(send(&function, &token("pause", &a).await).await.status(), 200);
    for (change, service) in [("remove", &a), ("resume", &a), ("pause", &b)] {
        let response = send(&function, &token(change, service).await).await;
        assert_eq!(refusal(&response), refused(401, "HANDOFF_USED"), "{change}");
    }
    // Nor is it one to register, or the other way round, even if an app used a number twice.
    let mut wish = world.wish("a").await;
    wish["handoff"] = json!(world.app.handoff_with(json!({ "jti": jti }), now).await);
    let response = function.handle(json_request(&wish)).await;
    assert_eq!(refusal(&response), refused(401, "HANDOFF_USED"));
    let (jti, mut wish) = ("fedcba9876543210fedcba9876543210", world.wish("a").await);
    wish["handoff"] = json!(world.app.handoff_with(json!({ "jti": jti }), now).await);
    assert_eq!(function.handle(json_request(&wish)).await.status(), 200);
    let mut claims = management_claims("remove", &a);
    claims["jti"] = json!(jti);
    let response = send(&function, &world.app.handoff_with(claims, now).await).await;
    assert_eq!(refusal(&response), refused(401, "HANDOFF_USED"));
    let mut expected = [(a, Lifecycle::Paused), (b, Lifecycle::Active)];
    expected.sort_by(|x, y| x.0.cmp(&y.0));
    assert_eq!(activities(&world).await, expected);
}

#[tokio::test]
async fn a_handoff_for_the_one_is_nothing_to_the_other() {
    let world = World::start().await;
    let (function, now) = (world.function(), world.clock.now());
    let a = add(&world, "a").await;
    let response = send(&function, &world.app.handoff(now).await).await;
    assert_eq!(refusal(&response), refused(401, "HANDOFF_INVALID"));
    let mut wish = world.wish("b").await;
    wish["handoff"] = json!(world.app.management("remove", &a, now).await);
    let response = function.handle(json_request(&wish)).await;
    assert_eq!(refusal(&response), refused(401, "HANDOFF_INVALID"));
    assert_eq!(activities(&world).await, [(a, Lifecycle::Active)]);
}

#[tokio::test]
async fn only_who_added_a_service_changes_it() {
    let world = World::start().await;
    let (function, now) = (world.function(), world.clock.now());
    let a = add(&world, "a").await;
    // Who adds the same URL again becomes no owner by that.
    let mut again = world.wish("a").await;
    again["handoff"] = json!(world.app.handoff_of("owner-2", now).await);
    assert_eq!(function.handle(json_request(&again)).await.status(), 200);
    let registers = world.app.received("REGISTER");
    let told = |index: usize| {
        (&registers[index].body["service"]["owner"], &registers[index].body["service"]["addedBy"])
    };
    assert_eq!(told(0), (&json!("owner-1"), &json!("owner-1")));
    assert_eq!(told(1), (&json!("owner-2"), &json!("owner-1")));

    for change in ["remove", "pause", "resume"] {
        let mut claims = management_claims(change, &a);
        claims["accountId"] = json!("owner-2");
        let response = send(&function, &world.app.handoff_with(claims, now).await).await;
        assert_eq!(refusal(&response), refused(403, "NOT_YOUR_SERVICE"), "{change}");
    }
    assert_eq!(activities(&world).await, [(a.clone(), Lifecycle::Active)]);
    assert_eq!(ask(&world, "remove", &a).await.status(), 200);
}

#[tokio::test]
async fn a_handoff_of_another_installation_reaches_nothing_of_the_site() {
    let world = World::start().await;
    let a = add(&world, "a").await;
    let before = stored(&world).await;
    let key = domain::key::Sign::public_key(&world.aws.deployment_key()).await.unwrap();
    // The same app and key, another installation, which names this one's service.
    let stranger = ForgeApp::start(&key).await;
    for (change, status) in [("remove", 200), ("pause", 404), ("resume", 404)] {
        let handoff = stranger.management(change, &a, world.clock.now()).await;
        assert_eq!(send(&world.function(), &handoff).await.status(), status, "{change}");
    }
    // Nor with a claim of its own about whose site it is: the tenant follows from site and trigger together.
    let mut claims = management_claims("remove", &a);
    claims["cloudId"] = json!(world.app.cloud_id);
    let handoff = stranger.handoff_with(claims, world.clock.now()).await;
    assert_eq!(send(&world.function(), &handoff).await.status(), 200);
    assert_eq!(stored(&world).await, before);
}

#[tokio::test]
async fn a_forged_handoff_changes_nothing() {
    let world = World::start().await;
    let a = add(&world, "a").await;
    let good = world.app.management("remove", &a, world.clock.now()).await;
    for forged in [format!("{good}A"), good.replace('.', ".."), "a.b.c".to_owned()] {
        let response = send(&world.function(), &forged).await;
        assert_eq!(refusal(&response), refused(401, "HANDOFF_INVALID"));
    }
    for (body, code) in [(json!({}), "HANDOFF_MISSING"), (json!({ "handoff": "" }), "HANDOFF_MISSING")] {
        let request = changed(MANAGE_JSON, |event| event["body"] = json!(body.to_string()));
        assert_eq!(refusal(&world.function().handle(request).await), refused(400, code));
    }
    let more = json!({ "handoff": good, "accountId": "owner-2" });
    let request = changed(MANAGE_JSON, |event| event["body"] = json!(more.to_string()));
    assert_eq!(refusal(&world.function().handle(request).await), refused(400, "INVALID_INPUT"));
    assert_eq!(activities(&world).await, [(a, Lifecycle::Active)]);
}

#[tokio::test]
async fn after_its_expiry_a_management_handoff_only_repeats_its_answer() {
    let world = World::start().await;
    let function = world.function();
    let (a, b) = (add(&world, "a").await, add(&world, "b").await);
    let used = world.app.management("remove", &a, world.clock.now()).await;
    let unused = world.app.management("remove", &b, world.clock.now()).await;
    assert_eq!(send(&function, &used).await.status(), 200);
    world.clock.advance(700);
    assert_eq!(refusal(&send(&function, &unused).await), refused(401, "HANDOFF_EXPIRED"));
    assert_eq!(send(&function, &used).await.status(), 200);
    world.clock.advance(300);
    assert_eq!(refusal(&send(&function, &used).await), refused(401, "HANDOFF_EXPIRED"));
    assert_eq!(activities(&world).await, [(b, Lifecycle::Active)]);
}

#[tokio::test]
async fn what_is_not_there_is_removed_already_and_cannot_be_paused() {
    let world = World::start().await;
    let a = add(&world, "a").await;
    assert_eq!(ask(&world, "remove", &a).await.status(), 200);
    let removed_again = world.app.management("remove", &a, world.clock.now()).await;
    assert_eq!(send(&world.function(), &removed_again).await.status(), 200);
    for change in ["pause", "resume"] {
        assert_eq!(refusal(&ask(&world, change, &a).await), refused(404, "NO_SUCH_SERVICE"));
    }
    // That answer, too, is bound: repeated later it does not remove what was added since.
    add(&world, "a").await;
    assert_eq!(send(&world.function(), &removed_again).await.status(), 200);
    assert_eq!(activities(&world).await.len(), 1);
}

#[tokio::test]
async fn what_forge_has_not_accepted_can_be_removed_and_nothing_else() {
    let world = World::start().await;
    let a = add(&world, "a").await;
    assert_eq!(ask(&world, "remove", &a).await.status(), 200);
    world.app.answer_next([testing::forge_app::Reply::Code(403, "HANDOFF_INVALID")]);
    assert_eq!(world.function().handle(json_request(&world.wish("a").await)).await.status(), 403);
    for change in ["pause", "resume"] {
        assert_eq!(ask(&world, change, &a).await.status(), 404, "{change}");
    }
    let mut claims = management_claims("remove", &a);
    claims["accountId"] = json!("owner-2");
    let response = send(&world.function(), &world.app.handoff_with(claims, world.clock.now()).await).await;
    assert_eq!(refusal(&response), refused(403, "NOT_YOUR_SERVICE"));
    assert_eq!(activities(&world).await, [(a.clone(), Lifecycle::Pending)]);
    assert_eq!(ask(&world, "remove", &a).await.status(), 200);
    assert_eq!(activities(&world).await, vec![]);
}

#[tokio::test]
async fn a_service_that_is_removed_and_added_again_starts_afresh() {
    let world = World::start().await;
    let a = add(&world, "a").await;
    let period = Period::from_minutes(5).unwrap();
    let tick = Tick::containing(world.clock.now(), period);
    let down = ServiceStatus {
        status: Status::Down,
        since: world.clock.now(),
        created_at: world.clock.now(),
        history: History::default(),
        suppressed: 3,
        unseen: 0,
        unconfirmed_at: None,
    };
    let state = State { last_tick: Some(tick), services: [(a.clone(), down)].into(), ..State::default() };
    let committed = world.aws.store().commit(&world.app.tenant_id(), None, &state).await.unwrap();
    assert_eq!(committed, WriteOutcome::Applied);

    world.clock.advance(60);
    assert_eq!(ask(&world, "remove", &a).await.status(), 200);
    add(&world, "a").await;
    let register = world.app.received("REGISTER").pop().unwrap();
    assert_eq!(register.body["service"]["status"], "ALIVE");
    let stored = stored(&world).await;
    let now = domain::status::current(&stored.state, &stored.services[0]);
    assert_eq!((now.status, now.since, now.suppressed), (Status::Alive, world.clock.now(), 0));
}

#[tokio::test]
async fn a_registration_that_is_sent_again_brings_nothing_back() {
    let world = World::start().await;
    let wish = world.wish("a").await;
    let a = {
        let response = world.function().handle(json_request(&wish)).await;
        ServiceId::parse(document(&response)["service"]["id"].as_str().unwrap()).unwrap()
    };
    assert_eq!(world.function().handle(json_request(&wish)).await.status(), 200, "as long as it is there");
    assert_eq!(ask(&world, "remove", &a).await.status(), 200);
    // A browser that loads "is being monitored" again.
    let again = world.function().handle(json_request(&wish)).await;
    assert_eq!(refusal(&again), refused(401, "HANDOFF_USED"));
    assert_eq!(activities(&world).await, []);
    assert_eq!(add(&world, "a").await, a, "to get it back, a person asks in Jira");
}

#[tokio::test]
async fn a_registration_that_lost_its_place_activates_nothing() {
    let world = World::start().await;
    let a = add(&world, "a").await;
    let (service, now) = (stored(&world).await.services[0].clone(), world.clock.now());
    assert_eq!(ask(&world, "remove", &a).await.status(), 200);
    world.clock.advance(60);
    add(&world, "a").await;
    // What Forge accepted was the earlier service, or another person's.
    let stranger = domain::id::Owner::parse("another-person").unwrap();
    let TenantSnapshot { tenant, services, .. } = stored(&world).await;
    let now_there = services[0].clone();
    for lost in [service, domain::service::Service { owner: stranger, ..now_there.clone() }] {
        let outcome = world.aws.store().activate(&tenant, &lost, &[], now).await;
        assert_eq!(outcome.unwrap(), WriteOutcome::Conflict);
    }
    let outcome = world.aws.store().activate(&tenant, &now_there, &[], now).await;
    assert_eq!(outcome.unwrap(), WriteOutcome::Applied);
}

#[tokio::test]
async fn a_paused_service_that_is_added_again_stays_paused() {
    let world = World::start().await;
    let a = add(&world, "a").await;
    assert_eq!(ask(&world, "pause", &a).await.status(), 200);
    let response = world.function().handle(json_request(&world.wish("a").await)).await;
    assert_eq!(
        (response.status().as_u16(), &document(&response)["service"]["status"]),
        (200, &json!("PAUSED"))
    );
    assert_eq!(world.app.received("REGISTER")[1].body["service"]["status"], "PAUSED");
    assert_eq!(activities(&world).await, [(a, Lifecycle::Paused)]);
    let mut request = json_request(&world.wish("a").await);
    request.headers_mut().insert("accept", "text/html".parse().unwrap());
    let page = text(&world.function().handle(request).await);
    assert!(page.contains("is paused") && !page.contains("First check"), "{page}");
}

#[tokio::test]
async fn a_browser_gets_a_page_that_says_when_jira_shows_it() {
    let world = World::start().await;
    let a = add(&world, "a").await;
    for (change, title, sentence) in [
        ("pause", "Shop API is paused", "Jira shows it as PAUSED with the next report"),
        ("resume", "Shop API is being monitored again", "Jira shows its status with the next report"),
        ("remove", "Shop API is removed", "It disappears from Jira with the next report"),
    ] {
        let handoff = world.app.management(change, &a, world.clock.now()).await;
        let response = world
            .function()
            .handle(changed(MANAGE_FORM, |event| in_form(event, &[("handoff", &handoff)])))
            .await;
        let page = text(&response);
        assert_eq!(
            (response.status(), &response.headers()["cache-control"]),
            (StatusCode::OK, &"no-store".parse().unwrap())
        );
        assert!(
            page.contains(title) && page.contains(sentence) && page.contains("within about 5 minutes."),
            "{page}"
        );
        assert!(page.contains(r#"href="https://shop.atlassian.net/jira" rel="noreferrer""#), "{page}");
    }
    let handoff = world.app.management("pause", &a, world.clock.now()).await;
    let response =
        world.function().handle(changed(MANAGE_FORM, |event| in_form(event, &[("handoff", &handoff)]))).await;
    let page = text(&response);
    assert!(
        response.status() == 404
            && page.contains("This service is not monitored")
            && page.contains("Back to Jira")
    );
    assert!(!page.contains("<form"), "no button that cannot succeed: {page}");
}

#[tokio::test]
async fn the_page_says_when_jira_shows_it_also_where_no_report_is_due() {
    let world = World::start().await;
    let (a, b) = (add(&world, "a").await, add(&world, "b").await);
    let (store, tenant, now) = (world.aws.store(), world.app.tenant_id(), world.clock.now());
    let page = async |handoff: &str| {
        let request = changed(MANAGE_FORM, |event| in_form(event, &[("handoff", handoff)]));
        let page = text(&world.function().handle(request).await);
        page.split("<p>").nth(1).and_then(|rest| rest.split("</p>").next()).unwrap().to_owned()
    };
    let pause = world.app.management("pause", &a, now).await;
    let due = "Jira shows it as PAUSED with the next report, within about 5 minutes.";
    assert_eq!(page(&pause).await, due);
    stored::tick(&store, &tenant, now).await;
    stored::suspend(&store, &tenant, true, now).await;
    let daily =
        "with the next report that it accepts. It has accepted none for long, so one is sent once a day.";
    assert_eq!(page(&pause).await, format!("Jira shows it as PAUSED {daily}"), "the same again, now");
    let remove = world.app.management("remove", &b, now).await;
    assert_eq!(page(&remove).await, format!("It disappears from Jira {daily}"));
    stored::suspend(&store, &tenant, false, now).await;
    store.mark(&stored(&world).await.tenant, TenantStatus::Unregistered).await.unwrap();
    let resume = world.app.management("resume", &a, now).await;
    let none =
        "with the first report after “Add service” has been used there again. Until then it accepts none.";
    assert_eq!(page(&resume).await, format!("Jira shows its status {none}"));
}

#[tokio::test]
async fn the_sample_events_carry_a_handoff_of_the_vectors() {
    let world = World::start().await;
    let mut function = world.function();
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let key = serde_json::from_value(vectors["handoffs"]["key"].clone()).unwrap();
    let key = domain::key::PublicKey::from_jwk(&key).unwrap();
    function.handoffs.keys = vec![(key.kid(), key)];
    let answer = async |event| {
        let request = changed(event, |event| event["headers"]["accept"] = json!("application/json"));
        function.handle(request).await
    };
    for event in [MANAGE_FORM, MANAGE_JSON] {
        let done = document(&answer(event).await);
        assert_eq!((&done["change"], &done["tenantId"]), (&json!("remove"), &vectors["ids"][0]["tenantId"]));
    }
    world.clock.advance(900);
    for event in [MANAGE_FORM, MANAGE_JSON] {
        assert_eq!(refusal(&answer(event).await), refused(401, "HANDOFF_EXPIRED"));
    }
}

const VECTORS: &str = include_str!("../../../../testdata/callback/vectors.json");

/// A name, the expected status, and what is changed in the sample event.
type Case = (&'static str, u16, Box<dyn Fn(&mut Value)>);

#[tokio::test]
async fn requests_that_no_page_makes_are_refused_before_anything_is_read() {
    let world = World::start().await;
    let a = add(&world, "a").await;
    let function = world.function();
    let good = json!({ "handoff": world.app.management("remove", &a, world.clock.now()).await });
    let with = |more: &str| format!("{}{more}}}", good.to_string().trim_end_matches('}'));
    let (unknown, twice) = (with(r#","url":"a""#), with(r#","handoff":"a""#));
    let cases: [Case; 9] = [
        ("not JSON", 400, Box::new(|event| event["body"] = json!("{"))),
        ("an unknown field", 400, Box::new(move |event| event["body"] = json!(unknown))),
        ("a field twice", 400, Box::new(move |event| event["body"] = json!(twice))),
        ("no body", 400, Box::new(|event| event["body"] = Value::Null)),
        ("too much", 413, Box::new(|event| event["body"] = json!(" ".repeat(65_537)))),
        ("another type", 415, Box::new(|event| event["headers"]["content-type"] = json!("text/plain"))),
        ("another site", 403, Box::new(|event| event["headers"]["sec-fetch-site"] = json!("cross-site"))),
        ("another method", 404, Box::new(|event| event["requestContext"]["http"]["method"] = json!("GET"))),
        ("a path below", 404, Box::new(|event| event["rawPath"] = json!("/managedMonitorService/a"))),
    ];
    for (what, status, change) in cases {
        let body = good.to_string();
        let request = changed(MANAGE_JSON, |event| {
            event["body"] = json!(body);
            change(event);
        });
        let response = function.handle(request).await;
        assert_eq!(response.status(), status, "{what}: {}", text(&response));
        assert_eq!(document(&response)["status"], status, "{what}");
    }
    for body in ["handoff=a&handoff=b", "handoff=a&hand%6Fff=b"] {
        let request = changed(MANAGE_FORM, |event| {
            event["headers"]["accept"] = json!("*/*");
            event["isBase64Encoded"] = json!(false);
            event["body"] = json!(body);
        });
        assert_eq!(refusal(&function.handle(request).await), refused(400, "INVALID_INPUT"), "{body}");
    }
    assert_eq!(activities(&world).await, [(a, Lifecycle::Active)]);
}
