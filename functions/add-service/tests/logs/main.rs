//! Every path leaves its line, and no line holds a secret.
//!
//! A test binary of its own, with one test: `tracing` remembers per process whether a call site has a listener, and tests
//! beside this one would have it remember that nobody listens.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is the test's failure")]

use std::time::Duration;

use add_service::AddService;
use add_service::config::ServiceLimits;
use aws::kms::{DeploymentKey, WrappingKey};
use callback::{Callback, Deliver};
use data_encoding::BASE64URL_NOPAD;
use domain::clock::Clock as _;
use domain::handoff::HandoffPolicy;
use domain::key::Sign as _;
use domain::response::CallbackResponse;
use domain::target_url::TargetPolicy;
use domain::tenant::TriggerPolicy;
use lambda_http::Request;
use probe::{HttpProbe, Limits};
use serde_json::{Value, json};
use testing::forge_app::{self, ForgeApp, Reply};
use testing::log::Log;
use testing::target;

#[path = "../it/world.rs"]
#[expect(dead_code, reason = "shared with the other tests")]
mod world;

use world::{Deployed, JSON, MANAGE_JSON, World, changed, json_request};

const LIMITS: ServiceLimits = ServiceLimits { per_tenant: 5, per_owner: 5 };

/// The one line of a request that registered nothing.
fn not_registered(status: u16, code: &str) -> Value {
    let (level, message) =
        if status < 500 { ("WARN", "registration refused") } else { ("ERROR", "registration failed") };
    json!({ "level": level, "message": message, "http.status": status, "problem.code": code })
}

fn with(mut line: Value, more: &Value) -> Value {
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    line
}

/// Sends a request and looks at its status and its lines.
async fn send(log: &mut Log, function: &Deployed, request: Request, status: u16, lines: &[Value]) {
    let step = format!("{status} {lines:?}");
    assert_eq!(function.handle(request).await.status(), status, "{step}");
    log.expect(&step, lines);
}

#[tokio::test]
async fn every_path_is_logged_and_no_secret_is() {
    let world = World::start().await;
    let mut log = Log::collect();
    let first = world.wish("secret-path-1?token=secret-query").await;
    answers_of_the_app(&world, &mut log, &first).await;
    refusals(&world, &mut log, &first).await;
    Box::pin(changes(&world, &mut log)).await;
    blocked_targets(&world, &mut log).await;
    Box::pin(failures_of_ours(&world, &mut log)).await;

    let stored = world.aws.store().find(&world.app.tenant_id(), world.clock.now()).await.unwrap().unwrap();
    let wrapped = BASE64URL_NOPAD.encode(stored.tenant.web_trigger().key.wrapped.as_bytes());
    let trigger_id = world.app.trigger_url.rsplit('/').next().unwrap();
    log.assert_without(&[
        &world.app.trigger_url,
        trigger_id,
        &wrapped,
        first["handoff"].as_str().unwrap(),
        "eyJ",
        "Bearer",
        "secret-path",
        "secret-query",
        "secret-header",
        target::ANSWERED,
        forge_app::ANSWERED,
        "Mozilla",
        "shop.atlassian.net",
        "Service secret",
        "Shop API",
        "shop.example",
    ]);
}

async fn answers_of_the_app(world: &World, log: &mut Log, first: &Value) {
    let function = world.function_with(world.app.handoff_rule(), LIMITS);
    let tenant = json!({ "tenant.id": world.app.tenant_id() });
    let sent =
        |answer: &str| json!({ "level": "INFO", "message": "REGISTER sent", "callback.response": answer });
    let request = || json_request(first);

    world.app.answer_next([Reply::Code(401, "UNAUTHORIZED")]);
    let made = with(json!({ "level": "INFO", "message": "tenant key made" }), &tenant);
    let failed = with(not_registered(502, "NOT_TRUSTED_BY_FORGE"), &tenant);
    send(log, &function, request(), 502, &[made, sent("UNAUTHORIZED"), failed]).await;

    world.app.answer_next([Reply::Platform(404)]);
    let failed = not_registered(502, "TRIGGER_GONE");
    send(log, &function, request(), 502, &[sent("PLATFORM"), failed]).await;

    world.app.answer_next([Reply::Code(403, "HANDOFF_INVALID")]);
    let refused = not_registered(403, "REFUSED_BY_FORGE");
    send(log, &function, request(), 403, &[sent("HANDOFF_INVALID"), refused]).await;

    world.target.answer(500);
    let check = with(
        json!({ "level": "INFO", "message": "service is not alive", "probe.outcome": "status" }),
        &tenant,
    );
    let request_id = json!({ "request.id": "ID0123456789" });
    let added = |status: u16| {
        let line = json!({ "level": "INFO", "message": "service registered", "http.status": status });
        with(with(line, &tenant), &request_id)
    };
    let lines = [check, with(sent("ACCEPTED"), &request_id), added(201)];
    send(log, &function, request(), 201, &lines).await;
    world.target.answer(200);
    send(log, &function, request(), 200, &[added(200)]).await;
}

async fn refusals(world: &World, log: &mut Log, first: &Value) {
    let function = world.function_with(world.app.handoff_rule(), LIMITS);
    let mut used = first.clone();
    used["url"] = json!(world.target.url("secret-path-2"));
    let error = json!({ "error": "hand-off refused: used for another service" });
    let refused = with(not_registered(401, "HANDOFF_USED"), &error);
    send(log, &function, json_request(&used), 401, &[refused]).await;

    let mut forged = first.clone();
    forged["handoff"] = json!(format!("{}A", first["handoff"].as_str().unwrap()));
    let refused = with(not_registered(401, "HANDOFF_INVALID"), &json!({ "request.id": "ID0123456789" }));
    send(log, &function, json_request(&forged), 401, &[refused]).await;

    let mut local = world.wish("").await;
    local["url"] = json!("http://10.1.2.3/secret-path-3");
    let rule = json!({ "target.refusal": "address-forbidden", "target.range": "Private-Use" });
    let refused = with(not_registered(403, "TARGET_NOT_ALLOWED"), &rule);
    send(log, &function, json_request(&local), 403, &[refused]).await;
    local["url"] = json!("ftp://secret-path-3.example/");
    let refused = with(not_registered(400, "INVALID_INPUT"), &json!({ "target.refusal": "url-scheme" }));
    send(log, &function, json_request(&local), 400, &[refused]).await;
    let mut onwards = world.wish("secret-path-3").await;
    world.target.redirect_to("http://10.1.2.3/secret-path-3");
    let blocked = json!({ "level": "WARN", "message": "target blocked", "probe.outcome": "blocked" });
    let rule = json!({ "target.refusal": "redirect-forbidden" });
    let refused = with(not_registered(403, "TARGET_NOT_ALLOWED"), &rule);
    send(log, &function, json_request(&onwards), 403, &[blocked, refused]).await;
    world.target.answer(200);
    onwards["url"] = json!("http://localhost.localdomain/secret-path-3");
    let rule = json!({ "target.refusal": "host-local" });
    let refused = with(not_registered(403, "TARGET_NOT_ALLOWED"), &rule);
    send(log, &function, json_request(&onwards), 403, &[refused]).await;

    let rule = HandoffPolicy { triggers: TriggerPolicy::default(), ..world.app.handoff_rule() };
    let elsewhere = world.function_with(rule, LIMITS);
    let refused = not_registered(403, "TRIGGER_NOT_ALLOWED");
    send(log, &elsewhere, json_request(first), 403, &[refused]).await;

    let from_elsewhere = changed(JSON, |event| {
        event["headers"]["sec-fetch-site"] = json!("cross-site");
        event["headers"]["referer"] = json!("https://secret-header.example/");
    });
    send(log, &function, from_elsewhere, 403, &[not_registered(403, "CROSS_SITE")]).await;

    let unreadable = changed(JSON, |event| event["body"] = json!("{\"name\": \"Service secret"));
    send(log, &function, unreadable, 400, &[not_registered(400, "INVALID_INPUT")]).await;

    let full = world.function_with(world.app.handoff_rule(), ServiceLimits { per_owner: 1, ..LIMITS });
    let another = world.wish("secret-path-4").await;
    let error = json!({ "error": "service limit reached: per person" });
    let refused = with(not_registered(409, "SERVICE_LIMIT"), &error);
    send(log, &full, json_request(&another), 409, &[refused]).await;
}

async fn changes(world: &World, log: &mut Log) {
    let (function, now) = (world.function_with(world.app.handoff_rule(), LIMITS), world.clock.now());
    let stored = world.aws.store().find(&world.app.tenant_id(), now).await.unwrap().unwrap();
    let service = &stored.services[0].id;
    let request = |handoff: &str| {
        changed(MANAGE_JSON, |event| event["body"] = json!(json!({ "handoff": handoff }).to_string()))
    };
    let about =
        json!({ "tenant.id": world.app.tenant_id(), "service.id": service, "request.id": "ID0123456789" });
    let refused = |status: u16, code: &str| {
        let (level, message) =
            if status < 500 { ("WARN", "change refused") } else { ("ERROR", "change failed") };
        json!({ "level": level, "message": message, "http.status": status, "problem.code": code })
    };

    for change in ["pause", "resume"] {
        let handoff = world.app.management(change, service, now).await;
        let line = json!({ "level": "INFO", "message": "service changed", "service.change": change, "http.status": 200 });
        send(log, &function, request(&handoff), 200, &[with(line, &about)]).await;
    }
    let mut others = forge_app::management_claims("remove", service);
    others["accountId"] = json!("owner-2");
    let handoff = world.app.handoff_with(others, now).await;
    let why = json!({ "service.change": "remove", "error": "the service is another person's" });
    let line = with(with(refused(403, "NOT_YOUR_SERVICE"), &about), &why);
    send(log, &function, request(&handoff), 403, &[line]).await;

    let forged = format!("{}A", world.app.management("remove", service, now).await);
    let line = with(refused(401, "HANDOFF_INVALID"), &json!({ "request.id": "ID0123456789" }));
    send(log, &function, request(&forged), 401, &[line]).await;

    let store = aws::store::Store::new(world.aws.dynamo(), "no-such-table".to_owned());
    let broken = AddService { store, ..world.function_with(world.app.handoff_rule(), LIMITS) };
    let handoff = world.app.management("remove", service, now).await;
    let line = with(refused(500, "INTERNAL"), &about);
    send(log, &broken, request(&handoff), 500, &[line]).await;
}

async fn blocked_targets(world: &World, log: &mut Log) {
    // The policy of the form lets loopback through, the probe's does not: what a name that resolves to a forbidden
    // address looks like.
    let blocked = json!({ "level": "WARN", "message": "target blocked", "probe.outcome": "blocked" });
    let mut function = world.function_with(world.app.handoff_rule(), LIMITS);
    function.probe =
        HttpProbe::new(TargetPolicy::public(vec![], vec![]), Limits::default(), world.clock.clone()).unwrap();
    let wish = world.wish("secret-path-5").await;
    let rule = json!({ "target.refusal": "address-forbidden" });
    let refused = with(not_registered(403, "TARGET_NOT_ALLOWED"), &rule);
    send(log, &function, json_request(&wish), 403, &[blocked, refused]).await;
}

async fn failures_of_ours(world: &World, log: &mut Log) {
    let internal = not_registered(500, "INTERNAL");
    let another = world.wish("secret-path-7").await;
    let function = || world.function_with(world.app.handoff_rule(), LIMITS);
    let kms = || aws_sdk_kms::Client::new(&world.aws.settings);

    let store = aws::store::Store::new(world.aws.dynamo(), "no-such-table".to_owned());
    let broken = AddService { store, ..function() };
    send(log, &broken, json_request(&another), 500, std::slice::from_ref(&internal)).await;

    let broken =
        AddService { deployment_key: DeploymentKey::new(kms(), "no-such-key".to_owned()), ..function() };
    send(log, &broken, json_request(&another), 500, std::slice::from_ref(&internal)).await;

    let key = world.aws.deployment_key().public_key().await.unwrap();
    let handoff = ForgeApp::start(&key).await.handoff(world.clock.now()).await;
    let wish =
        json!({ "handoff": handoff, "name": "Service secret", "url": world.target.url("secret-path-8") });
    let broken = AddService { tenant_keys: WrappingKey::new(kms(), "no-such-key".to_owned()), ..function() };
    send(log, &broken, json_request(&wish), 500, &[internal]).await;

    let hanging = world.function_through(Silent, world.app.handoff_rule(), LIMITS);
    assert_eq!(Box::pin(hanging.handle(json_request(&another))).await.status(), 503);
    tokio::time::resume();
    let failed = with(not_registered(503, "OUT_OF_TIME"), &json!({ "error": "not done within 28 s" }));
    log.expect("an app that never answers", &[failed]);
}

/// Never answers. Nothing else happens then, so the time that is left passes at once.
struct Silent;

impl Deliver for Silent {
    async fn post(&self, _: &Callback<'_>, _: Duration) -> CallbackResponse {
        tokio::time::pause();
        std::future::pending().await
    }
}
