//! Every path leaves its line, and no line holds a secret. A test binary with one test, as in add-service.

use std::sync::Arc;

use aws::kms::DeploymentKey;
use domain::clock::Clock as _;
use domain::key::Sign as _;
use register::Register;
use serde_json::{Value, json};
use testing::aws::LocalAws;
use testing::forge_app::ForgeApp;
use testing::log::Log;
use testing::time::FixedClock;
use web::gateway;

const PAGE: &str = include_str!("../../../../events/register/page.json");
const MANAGE: &str = include_str!("../../../../events/register/manage.json");
const JWKS: &str = include_str!("../../../../events/register/jwks.json");

#[tokio::test]
async fn every_path_is_logged_and_no_secret_is() {
    let aws = LocalAws::start().await;
    let app = ForgeApp::start(&aws.deployment_key().public_key().await.unwrap()).await;
    let clock = FixedClock::at("2026-11-22T10:07:00Z");
    let handoff = app.handoff(clock.now()).await;
    let mut function = Register {
        handoffs: app.handoff_rule(),
        deployment_key: aws.deployment_key(),
        clock: Arc::new(clock.clone()),
    };
    let mut log = Log::collect();
    let link = |handoff: &str| {
        let mut event: Value = serde_json::from_str(PAGE).unwrap();
        event["rawQueryString"] = json!(format!("handoff={handoff}&note=secret-query"));
        event["queryStringParameters"] = json!({ "handoff": handoff, "note": "secret-query" });
        event["headers"]["x-secret"] = json!("secret-header");
        gateway::read(&event.to_string()).unwrap()
    };

    assert_eq!(function.handle(link(&handoff)).await.status(), 200);
    let shown = json!({ "level": "INFO", "message": "registration page shown",
                        "tenant.id": app.tenant_id(), "request.id": "ID0123456789" });
    log.expect("a good link", &[shown]);

    let service = serde_json::from_value(json!("w4g76pj5y32txfsc")).unwrap();
    let management = app.management("pause", &service, clock.now()).await;
    let manage = |handoff: &str| {
        let mut event: Value = serde_json::from_str(MANAGE).unwrap();
        event["rawQueryString"] = json!(format!("handoff={handoff}"));
        gateway::read(&event.to_string()).unwrap()
    };
    assert_eq!(function.handle(manage(&management)).await.status(), 200);
    let shown = json!({ "level": "INFO", "message": "management page shown", "tenant.id": app.tenant_id(),
                        "service.id": service, "service.change": "pause", "request.id": "ID0123456789" });
    log.expect("a good link to manage", &[shown]);
    assert_eq!(function.handle(manage(&handoff)).await.status(), 401);
    let refused = json!({ "level": "WARN", "message": "hand-off refused", "problem.code": "HANDOFF_INVALID",
                          "error": "the hand-off's purpose is wrong" });
    log.expect("a link to register at the wrong page", &[refused]);

    assert_eq!(function.handle(link(&format!("{handoff}A"))).await.status(), 401);
    let refused = |code: &str, status: u16| {
        json!({ "level": "WARN", "message": "hand-off refused", "problem.code": code, "http.status": status,
                "request.id": "ID0123456789" })
    };
    log.expect("a forged link", &[refused("HANDOFF_INVALID", 401)]);
    clock.advance(601);
    assert_eq!(function.handle(link(&handoff)).await.status(), 401);
    log.expect("a late link", &[refused("HANDOFF_EXPIRED", 401)]);

    let keys = || gateway::read(JWKS).unwrap();
    assert_eq!(function.handle(keys()).await.status(), 200);
    log.expect("the key set", &[]);
    let kms = aws_sdk_kms::Client::new(&aws.settings);
    function.deployment_key = DeploymentKey::new(kms, "no-such-key".to_owned());
    assert_eq!(function.handle(keys()).await.status(), 503);
    let message = "the deployment key's public half cannot be read";
    log.expect("no key", &[json!({ "level": "ERROR", "message": message, "request.id": "ID0123456789" })]);

    log.assert_without(&[
        &app.trigger_url,
        app.trigger_url.rsplit('/').next().unwrap(),
        &handoff,
        &management,
        "Shop API",
        "shop.example",
        "eyJ",
        "secret-query",
        "secret-header",
        "Mozilla",
        "shop.atlassian.net",
        "owner-1",
    ]);
}
