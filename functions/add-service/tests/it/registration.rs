//! The order of a registration and its answers.

use add_service::config::ServiceLimits;
use aws::store::WriteOutcome;
use callback::HttpCallbacks;
use domain::clock::Clock as _;
use domain::key::TenantKey;
use domain::key_endorsement::endorse_key;
use domain::service::Lifecycle;
use domain::snapshot::TenantSnapshot;
use domain::tenant::TenantStatus;
use lambda_http::Response;
use serde_json::{Value, json};
use testing::forge_app::{ACCEPTED, ForgeApp, Reply};

use crate::world::{Deployed, World, document, json_request, text};

const LIMITS: ServiceLimits = ServiceLimits { per_tenant: 3, per_owner: 2 };

async fn send(function: &Deployed, body: &Value) -> Response<lambda_http::Body> {
    function.handle(json_request(body)).await
}

fn code(response: &Response<lambda_http::Body>) -> (u16, String) {
    let code = document(response)["code"].as_str().unwrap_or_default().to_owned();
    (response.status().as_u16(), code)
}

async fn stored(world: &World) -> Option<TenantSnapshot> {
    world.aws.store().find(&world.app.tenant_id(), world.clock.now()).await.unwrap()
}

#[tokio::test]
async fn a_service_is_checked_stored_introduced_and_active() {
    let world = World::start().await;
    let response = send(&world.function(), &world.wish("a").await).await;
    assert_eq!(response.status(), 201, "{}", text(&response));
    let answer = document(&response);
    assert_eq!(answer["service"]["status"], "ALIVE");
    assert_eq!(answer["service"]["check"]["httpStatus"], 200);

    let register = &world.app.received("REGISTER")[0];
    assert_eq!(register.claims["iss"], "https://backend.example");
    assert_eq!(register.body["service"]["id"], answer["service"]["id"]);
    assert_eq!(register.body["service"]["owner"], "owner-1");
    assert_eq!(register.body["service"]["status"], "ALIVE");
    assert_eq!(register.body["periodS"], 300);
    assert!(register.body["handoff"].is_string());

    let stored = stored(&world).await.unwrap();
    assert_eq!(stored.tenant.status, TenantStatus::Active);
    assert_eq!(stored.services[0].lifecycle, Lifecycle::Active);
    assert_eq!(register.body["jwk"]["x"], stored.tenant.web_trigger().key.public.jwk().x.as_str());
}

#[tokio::test]
async fn a_first_check_that_fails_is_told_but_is_no_verdict() {
    let world = World::start().await;
    world.target.answer(500);
    let answer = document(&send(&world.function(), &world.wish("a").await).await);
    assert_eq!(answer["service"]["status"], "UNKNOWN");
    assert_eq!(answer["service"]["check"]["failure"], "status");
    assert_eq!(world.app.received("REGISTER")[0].body["service"]["status"], "UNKNOWN");
}

#[tokio::test]
async fn second_registration_of_the_same_url_returns_the_first() {
    let world = World::start().await;
    let function = world.function();
    let first = document(&send(&function, &world.wish("a").await).await);
    let mut again = world.wish("a").await;
    again["name"] = json!("Another name");
    let response = send(&function, &again).await;
    assert_eq!(response.status(), 200);
    assert_eq!(document(&response)["service"], first["service"]);
    // REGISTER goes out again: that is how a person heals an app that has lost our key.
    assert_eq!(world.app.received("REGISTER").len(), 2);
    assert_eq!(stored(&world).await.unwrap().services.len(), 1);
}

#[tokio::test]
async fn another_person_who_adds_the_same_url_speaks_for_himself() {
    let world = World::start().await;
    let function = world.function();
    assert_eq!(send(&function, &world.wish("a").await).await.status(), 201);
    let mut again = world.wish("a").await;
    again["handoff"] = json!(world.app.handoff_of("owner-2", world.clock.now()).await);
    assert_eq!(send(&function, &again).await.status(), 200);
    let owners: Vec<_> = world
        .app
        .received("REGISTER")
        .iter()
        .map(|register| register.body["service"]["owner"].clone())
        .collect();
    assert_eq!(owners, ["owner-1", "owner-2"]);
    assert_eq!(stored(&world).await.unwrap().services[0].owner.as_str(), "owner-1");
}

#[tokio::test]
async fn what_forge_did_not_accept_counts_against_the_site_and_not_the_person() {
    let world = World::start().await;
    let function = world.function_within(LIMITS);
    world.app.answer_always(Reply::Code(403, "HANDOFF_INVALID"));
    for (path, status) in [("a", 403), ("b", 403), ("c", 403), ("d", 409)] {
        assert_eq!(send(&function, &world.wish(path).await).await.status(), status, "{path}");
    }
    world.app.answer_always(ACCEPTED);
    assert_eq!(send(&function, &world.wish("a").await).await.status(), 201, "what waits can be finished");
}

#[tokio::test]
async fn two_first_registrations_at_once_end_with_one_key() {
    let world = World::start().await;
    let function = world.function();
    let wishes = [world.wish("a").await, world.wish("b").await, world.wish("c").await];
    let (a, b, c) =
        tokio::join!(send(&function, &wishes[0]), send(&function, &wishes[1]), send(&function, &wishes[2]));
    assert_eq!([a.status(), b.status(), c.status()].map(|status| status.as_u16()), [201; 3]);
    assert_eq!(world.app.known_tenant_keys(), 1);
    let stored = stored(&world).await.unwrap();
    assert_eq!(stored.services.len(), 3);
}

#[tokio::test]
async fn the_same_request_at_once_adds_one_service() {
    let world = World::start().await;
    let function = world.function();
    let wish = world.wish("a").await;
    let (a, b) = tokio::join!(send(&function, &wish), send(&function, &wish));
    for response in [a, b] {
        assert!(matches!(response.status().as_u16(), 200 | 201), "{}", text(&response));
    }
    assert_eq!(stored(&world).await.unwrap().services.len(), 1);
    assert_eq!(world.app.known_tenant_keys(), 1);
}

#[tokio::test]
async fn a_lost_answer_is_finished_by_the_same_request() {
    let world = World::start().await;
    let function = world.function();
    let wish = world.wish("a").await;
    world.app.answer_always(Reply::LoseAnswer);
    let response = send(&function, &wish).await;
    assert_eq!(
        (response.status().as_u16(), document(&response)["code"].clone()),
        (502, json!("NO_ANSWER_FROM_FORGE"))
    );
    let pending = stored(&world).await.unwrap();
    assert_eq!(
        (pending.tenant.status, pending.services[0].lifecycle),
        (TenantStatus::Pending, Lifecycle::Pending)
    );

    world.app.answer_always(ACCEPTED);
    assert_eq!(send(&function, &wish).await.status(), 201);
    assert_eq!(send(&function, &wish).await.status(), 200);
    assert_eq!(stored(&world).await.unwrap().services.len(), 1);
    assert_eq!(world.app.known_tenant_keys(), 1);
}

#[tokio::test]
async fn what_forge_never_accepted_is_forgotten_after_a_day() {
    let world = World::start().await;
    world.app.answer_always(Reply::Code(403, "HANDOFF_INVALID"));
    assert_eq!(send(&world.function(), &world.wish("a").await).await.status(), 403);
    assert!(stored(&world).await.is_some());
    world.clock.advance(24 * 3600 + 1);
    assert!(stored(&world).await.is_none());
    // A new attempt begins with a new key, over what DynamoDB has not deleted yet.
    world.app.answer_always(ACCEPTED);
    assert_eq!(send(&world.function(), &world.wish("a").await).await.status(), 201);
}

#[tokio::test]
async fn a_handoff_is_bound_to_the_service_it_was_first_used_for() {
    let world = World::start().await;
    let function = world.function();
    let mut wish = world.wish("a").await;
    assert_eq!(send(&function, &wish).await.status(), 201);
    wish["url"] = json!(world.target.url("b"));
    let response = send(&function, &wish).await;
    assert_eq!(
        (response.status().as_u16(), document(&response)["code"].clone()),
        (401, json!("HANDOFF_USED"))
    );
    assert_eq!(world.target.asked(), 1, "a used hand-off makes nobody a prober");
}

#[tokio::test]
async fn invalid_input_binds_nothing() {
    let world = World::start().await;
    let function = world.function();
    let mut wish = world.wish("a").await;
    let right = std::mem::replace(&mut wish["name"], json!(""));
    assert_eq!(send(&function, &wish).await.status(), 400);
    assert!(stored(&world).await.is_none());
    wish["name"] = right;
    wish["url"] = json!(world.target.url("b"));
    assert_eq!(send(&function, &wish).await.status(), 201);
}

#[tokio::test]
async fn a_handoff_is_good_for_ten_attempts_whatever_they_come_to() {
    let world = World::start().await;
    let function = world.function();
    // Refused after its check, and nothing is bound.
    world.target.redirect_to("http://10.0.0.1/");
    let wish = world.wish("a").await;
    let twelve: Vec<_> =
        futures::future::join_all((0..12).map(|_| send(&function, &wish))).await.iter().map(code).collect();
    let count = |code: &str| twelve.iter().filter(|(_, found)| found == code).count();
    assert_eq!((count("TARGET_NOT_ALLOWED"), count("ATTEMPTS_USED")), (10, 2), "{twelve:?}");
    assert_eq!(world.target.asked(), 10);
    assert!(stored(&world).await.is_none() && world.app.callbacks().is_empty());

    world.target.answer(200);
    let response = send(&function, &wish).await;
    assert_eq!(code(&response), (429, "ATTEMPTS_USED".to_owned()));
    assert!(!response.headers().contains_key("retry-after"), "the same link never works again");
    let mut request = json_request(&wish);
    request.headers_mut().insert("accept", "text/html".parse().unwrap());
    let page = text(&function.handle(request).await);
    assert!(page.contains("press “Add service” again") && page.contains("Back to Jira"), "{page}");
    assert!(!page.contains("<form"), "no form that cannot succeed: {page}");
    assert_eq!(send(&function, &world.wish("a").await).await.status(), 201, "a new link does");
}

#[tokio::test]
async fn what_is_tried_ten_times_can_be_accepted_at_the_tenth_and_is_forgotten_with_its_handoff() {
    let world = World::start().await;
    let function = world.function();
    let wish = world.wish("a").await;
    world.app.answer_next(vec![Reply::Code(401, "UNAUTHORIZED"); 9]);
    for _ in 0..9 {
        assert_eq!(send(&function, &wish).await.status(), 502);
    }
    assert_eq!(send(&function, &wish).await.status(), 201);
    assert_eq!(code(&send(&function, &wish).await), (429, "ATTEMPTS_USED".to_owned()), "also a repetition");

    let items = world.aws.dynamo().scan().table_name(&world.aws.table).send().await.unwrap().items.unwrap();
    let handoff = items.iter().find(|item| item["sk"].as_s().unwrap() == "HANDOFF").unwrap();
    let end = world.clock.now().as_second() + 600 + 300;
    assert_eq!(
        (handoff["attempts"].as_n().unwrap().as_str(), handoff["expires_at"].as_n().unwrap()),
        ("10", &end.to_string())
    );
}

#[tokio::test]
async fn input_that_is_not_valid_uses_no_attempt() {
    let world = World::start().await;
    let function = world.function();
    let mut wish = world.wish("a").await;
    let right = std::mem::replace(&mut wish["name"], json!(""));
    for _ in 0..11 {
        assert_eq!(send(&function, &wish).await.status(), 400);
    }
    wish["name"] = right;
    assert_eq!(send(&function, &wish).await.status(), 201);
}

#[tokio::test]
async fn a_handoff_that_was_only_tried_can_still_be_refused_for_another_purpose() {
    let world = World::start().await;
    let function = world.function();
    world.target.redirect_to("http://10.0.0.1/");
    let jti = "0123456789abcdef0123456789abcdef";
    let mut wish = world.wish("a").await;
    wish["handoff"] = json!(world.app.handoff_with(json!({ "jti": jti }), world.clock.now()).await);
    assert_eq!(send(&function, &wish).await.status(), 403);
    // An app that used a number twice: the change is made, and the registration is then over.
    let service = domain::id::ServiceId::derive(&world.app.tenant_id(), &world.target.url("a"));
    let mut claims = testing::forge_app::management_claims("remove", &service);
    claims["jti"] = json!(jti);
    let body = json!({ "handoff": world.app.handoff_with(claims, world.clock.now()).await });
    let request =
        crate::world::changed(crate::world::MANAGE_JSON, |event| event["body"] = json!(body.to_string()));
    assert_eq!(function.handle(request).await.status(), 200);
    assert_eq!(code(&send(&function, &wish).await), (401, "HANDOFF_USED".to_owned()));
}

#[tokio::test]
async fn an_expired_handoff_resumes_but_begins_nothing() {
    let world = World::start().await;
    let function = world.function();
    let (begun, unused) = (world.wish("a").await, world.wish("b").await);
    world.app.answer_next(vec![Reply::Code(401, "UNAUTHORIZED")]);
    assert_eq!(send(&function, &begun).await.status(), 502);
    world.clock.advance(700);
    assert_eq!(send(&function, &unused).await.status(), 401);
    assert_eq!(send(&function, &begun).await.status(), 201);
    world.clock.advance(300);
    assert_eq!(send(&function, &begun).await.status(), 401);
}

#[tokio::test]
async fn limits_hold_per_person_and_per_site() {
    let world = World::start().await;
    let function = world.function_within(LIMITS);
    for (path, owner, status) in [
        ("a", "one", 201),
        ("b", "one", 201),
        ("c", "one", 409),
        ("c", "two", 201),
        ("d", "two", 409),
        ("a", "one", 200),
    ] {
        let response = send(&function, &world.wish_of(owner, path).await).await;
        assert_eq!(response.status(), status, "{path} of {owner}: {}", text(&response));
    }
}

#[tokio::test]
async fn without_a_signed_handoff_nothing_is_requested_or_stored() {
    let world = World::start().await;
    let function = world.function();
    let plain = json!({
        "cloudId": world.app.cloud_id, "accountId": "owner-1", "triggerUrl": world.app.trigger_url,
        "name": "Service", "url": world.target.url("a")
    });
    let mut forged = world.wish("a").await;
    forged["handoff"] = json!(format!("{}A", forged["handoff"].as_str().unwrap()));
    let mut missing = world.wish("a").await;
    missing.as_object_mut().unwrap().remove("handoff");
    let mut beside = world.wish("a").await;
    beside["accountId"] = json!("owner-1");
    for (wish, status, code) in [
        (plain, 400, "INVALID_INPUT"),
        (beside, 400, "INVALID_INPUT"),
        (missing, 400, "HANDOFF_MISSING"),
        (forged, 401, "HANDOFF_INVALID"),
    ] {
        let response = send(&function, &wish).await;
        assert_eq!(
            (response.status().as_u16(), document(&response)["code"].clone()),
            (status, json!(code)),
            "{wish}"
        );
    }
    assert_eq!((world.target.asked(), world.app.callbacks().len()), (0, 0));
    assert!(stored(&world).await.is_none());
}

#[tokio::test]
async fn every_answer_of_the_trigger_has_its_meaning() {
    let world = World::start().await;
    let function = world.function();
    for (reply, status, code) in [
        (Reply::Code(400, "BAD_REQUEST"), 403, "REFUSED_BY_FORGE"),
        (Reply::Code(413, "TOO_LARGE"), 403, "REFUSED_BY_FORGE"),
        (Reply::Code(409, "KEY_CONFLICT"), 403, "REFUSED_BY_FORGE"),
        (Reply::Code(403, "HANDOFF_INVALID"), 403, "REFUSED_BY_FORGE"),
        (Reply::Code(403, "HANDOFF_USED"), 403, "REFUSED_BY_FORGE"),
        (Reply::Code(401, "UNAUTHORIZED"), 502, "NOT_TRUSTED_BY_FORGE"),
        (Reply::Platform(404), 502, "TRIGGER_GONE"),
        (Reply::Platform(410), 502, "TRIGGER_GONE"),
    ] {
        world.app.answer_always(reply.clone());
        let response = send(&function, &world.wish("a").await).await;
        assert_eq!(
            (response.status().as_u16(), document(&response)["code"].clone()),
            (status, json!(code)),
            "{reply:?}"
        );
        assert_eq!(stored(&world).await.unwrap().services[0].lifecycle, Lifecycle::Pending);
    }
    world.app.answer_always(ACCEPTED);
    world.app.answer_next(vec![Reply::Platform(503), Reply::Code(503, "RETRY")]);
    assert_eq!(send(&function, &world.wish("a").await).await.status(), 201);
    // The same over retries, so that the app can tell a repetition.
    let registers = world.app.received("REGISTER");
    let last: Vec<_> =
        registers[registers.len() - 3..].iter().map(|register| register.claims["jti"].clone()).collect();
    assert!(last[0] == last[1] && last[1] == last[2], "{last:?}");
}

#[tokio::test]
async fn a_person_is_told_what_jira_said_and_how_to_go_on() {
    let world = World::start().await;
    for (reply, status, sentence, form) in [
        (Reply::Platform(404), 502, "the app has been uninstalled, or installed again", false),
        (Reply::Platform(410), 502, "the app has been uninstalled, or installed again", false),
        (Reply::Platform(429), 503, "Wait a minute, then send the form again.", true),
        (Reply::Platform(500), 502, "Send the form again in a moment.", true),
    ] {
        world.app.answer_always(reply.clone());
        let mut request = json_request(&world.wish("a").await);
        request.headers_mut().insert("accept", "text/html".parse().unwrap());
        let response = world.function().handle(request).await;
        let page = text(&response);
        assert_eq!(response.status(), status, "{reply:?}: {page}");
        assert!(page.contains(sentence) && page.contains("Back to Jira"), "{reply:?}: {page}");
        assert_eq!(page.contains("<form"), form, "{reply:?}: {page}");
        let waits = response.headers().get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
        assert_eq!(waits, (status == 503).then(|| "60".to_owned()), "{reply:?}");
    }
}

#[tokio::test]
async fn a_trigger_that_hangs_gets_an_answer_of_ours() {
    let world = World::start().await;
    world.app.answer_always(Reply::Hang);
    let response = send(&world.function(), &world.wish("a").await).await;
    assert_eq!(response.status(), 502);
}

#[tokio::test]
async fn a_stranger_with_a_trigger_of_his_own_touches_nothing_of_the_site() {
    let world = World::start().await;
    let function = world.function_within(LIMITS);
    assert_eq!(send(&function, &world.wish("a").await).await.status(), 201);
    let before = stored(&world).await;

    let key = domain::key::Sign::public_key(&world.aws.deployment_key()).await.unwrap();
    let stranger = ForgeApp::start(&key).await;
    // The same app, and the victim's site in the claims: only the trigger is another one.
    let claims = json!({ "cloudId": world.app.cloud_id, "triggerUrl": stranger.trigger_url });
    let mut wish = world.wish("b").await;
    wish["handoff"] = json!(world.app.handoff_with(claims, world.clock.now()).await);
    assert_eq!(send(&function, &wish).await.status(), 201);
    assert_eq!(stored(&world).await, before);
    assert_eq!(world.app.received("REGISTER").len(), 1);
}

#[tokio::test]
async fn a_target_that_turns_out_to_be_forbidden_is_refused_beside_its_field() {
    let world = World::start().await;
    let mut function = world.function();
    // The policy of the form lets loopback through, the probe's does not: what a name that resolves to a forbidden
    // address looks like.
    let strict = domain::target_url::TargetPolicy::public(vec![], vec![]);
    function.probe = probe::HttpProbe::new(strict, probe::Limits::default(), world.clock.clone()).unwrap();
    let response = send(&function, &world.wish("a").await).await;
    let answer = document(&response);
    assert_eq!(
        (response.status().as_u16(), answer["errors"][0]["pointer"].clone()),
        (403, json!("/url")),
        "{answer}"
    );
    assert!(stored(&world).await.is_none());
}

#[tokio::test]
async fn a_redirecting_trigger_is_not_followed() {
    // HttpCallbacks is built without redirects: a 302 is the platform's answer, and retried like one.
    let world = World::start().await;
    world.app.answer_next(vec![Reply::Platform(302)]);
    let function = add_service::AddService {
        callbacks: HttpCallbacks::new(world.clock.clone()).unwrap(),
        ..world.function()
    };
    assert_eq!(send(&function, &world.wish("a").await).await.status(), 201);
    assert_eq!(world.app.received("REGISTER").len(), 2);
}

#[tokio::test]
async fn a_registration_while_a_key_is_handed_over_names_the_present_key_and_leaves_the_next_one() {
    let world = World::start().await;
    let function = world.function();
    send(&function, &world.wish("a").await).await;
    let tenant = stored(&world).await.unwrap().tenant;
    let (public, wrapped) = world.aws.wrapping_key().make_key(&tenant.key_context()).await.unwrap();
    let key = TenantKey { public, wrapped, made_at: world.clock.now() };
    let next = endorse_key(&tenant, key, &world.aws.deployment_key(), world.clock.now()).await.unwrap();
    assert_eq!(world.aws.store().store_next_key(&tenant, &next).await.unwrap(), WriteOutcome::Applied);

    assert_eq!(send(&function, &world.wish("b").await).await.status(), 201);
    let present = tenant.web_trigger().key.public.jwk().x;
    assert_eq!(world.app.received("REGISTER")[1].body["jwk"]["x"], present.as_str());
    let after = stored(&world).await.unwrap();
    assert_eq!(
        (after.tenant.web_trigger().key.clone(), after.tenant.web_trigger().next_key.clone()),
        (tenant.web_trigger().key.clone(), Some(next))
    );
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_not_replaced_and_takes_its_place() {
    let world = World::start().await;
    assert_eq!(send(&world.function(), &world.wish("a").await).await.status(), 201);
    let pk = aws_sdk_dynamodb::types::AttributeValue::S(format!("TENANT#{}", world.app.tenant_id()));
    let query = world.aws.dynamo().query().table_name(&world.aws.table).key_condition_expression("pk = :pk");
    let items = query.expression_attribute_values(":pk", pk).send().await.unwrap().items.unwrap();
    let service = items.iter().find(|item| item["sk"].as_s().unwrap().starts_with("SERVICE#")).unwrap();
    let spoilt = aws_sdk_dynamodb::types::AttributeValue::S("{".to_owned());
    let put = world.aws.dynamo().put_item().table_name(&world.aws.table).set_item(Some(service.clone()));
    put.item("check", spoilt).send().await.unwrap();

    assert_eq!(send(&world.function(), &world.wish("a").await).await.status(), 500);
    let mut full = world.function();
    full.limits.per_tenant = 1;
    assert_eq!(send(&full, &world.wish("b").await).await.status(), 409);
    assert_eq!(send(&world.function(), &world.wish("b").await).await.status(), 201);
}
