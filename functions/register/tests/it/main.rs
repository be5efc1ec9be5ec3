//! register with the sample events and a deployment key in the local AWS.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is the test's failure")]

mod bounds;
mod manage;

use std::sync::Arc;

use domain::clock::Clock as _;
use domain::handoff::{HandoffPolicy, ReturnUrlPolicy};
use domain::key::{Jwks, PublicKey, Sign as _};
use domain::tenant::TriggerPolicy;
use lambda_http::{Body, Request, Response};
use register::Register;
use serde_json::{Value, json};
use testing::aws::LocalAws;
use testing::forge_app::ForgeApp;
use testing::time::FixedClock;
use web::gateway;

const PAGE: &str = include_str!("../../../../events/register/page.json");
const INCOMPLETE: &str = include_str!("../../../../events/register/incomplete-link.json");
const VECTORS: &str = include_str!("../../../../testdata/callback/vectors.json");
const JWKS: &str = include_str!("../../../../events/register/jwks.json");

fn request(event: &str, change: impl FnOnce(&mut Value)) -> Request {
    let mut event: Value = serde_json::from_str(event).unwrap();
    change(&mut event);
    gateway::read(&event.to_string()).unwrap()
}

/// The rules of a deployment that knows the app of the vectors, which signed the sample events' hand-offs.
fn rule() -> HandoffPolicy {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let key = serde_json::from_value(vectors["handoffs"]["key"].clone()).unwrap();
    let key = PublicKey::from_jwk(&key).unwrap();
    HandoffPolicy {
        keys: vec![(key.kid(), key)],
        audience: "https://backend.example".into(),
        triggers: TriggerPolicy::default(),
        return_urls: ReturnUrlPolicy::default(),
    }
}

async fn function(handoffs: HandoffPolicy) -> Register {
    let aws = LocalAws::start().await;
    Register {
        handoffs,
        deployment_key: aws.deployment_key(),
        clock: Arc::new(FixedClock::at("2026-11-22T10:07:00Z")),
    }
}

fn text(response: &Response<Body>) -> String {
    String::from_utf8(response.body().to_vec()).unwrap()
}

#[tokio::test]
async fn the_link_from_jira_shows_the_form() {
    let response = function(rule()).await.handle(request(PAGE, |_| {})).await;
    let page = text(&response);
    assert_eq!(response.status(), 200, "{page}");
    assert!(
        page.contains(r#"action="addedMonitorService""#) && page.contains("shop.atlassian.net"),
        "{page}"
    );
    let link = request(PAGE, |_| {});
    let handoff = link.uri().query().unwrap().strip_prefix("handoff=").unwrap();
    assert!(page.contains(&format!(r#"<input type="hidden" name="handoff" value="{handoff}">"#)), "{page}");
    assert_eq!(page.matches(r#"type="hidden""#).count(), 1, "{page}");
    for (header, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-opener-policy", "same-origin"),
        ("strict-transport-security", "max-age=63072000"),
        (
            "content-security-policy",
            "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ] {
        assert_eq!(response.headers()[header], value);
    }
    assert!(!page.contains("<script") && !page.contains("style=") && !page.contains("//cdn"), "{page}");
}

#[tokio::test]
async fn an_incomplete_link_says_what_to_do() {
    let response = function(rule()).await.handle(request(INCOMPLETE, |_| {})).await;
    assert_eq!(response.status(), 400);
    let page = text(&response);
    assert!(page.contains("This link is incomplete") && page.contains("Add service"), "{page}");
    assert!(!page.contains("<form"), "no form that cannot succeed: {page}");
}

#[tokio::test]
async fn a_signed_handoff_is_enough_and_nothing_else_will_do() {
    let aws = LocalAws::start().await;
    let app = ForgeApp::start(&aws.deployment_key().public_key().await.unwrap()).await;
    let clock = FixedClock::at("2026-11-22T10:07:00Z");
    let function = Register {
        handoffs: app.handoff_rule(),
        deployment_key: aws.deployment_key(),
        clock: Arc::new(clock.clone()),
    };
    let handoff = app.handoff(clock.now()).await;
    let ask = |handoff: String| {
        request(PAGE, move |event| {
            event["rawQueryString"] = json!(format!("handoff={handoff}"));
            event["queryStringParameters"] = json!({ "handoff": handoff });
        })
    };
    let page = function.handle(ask(handoff.clone())).await;
    assert_eq!(page.status(), 200, "{}", text(&page));

    assert_eq!(function.handle(ask(format!("{handoff}A"))).await.status(), 401);
    let foreign = function.handle(request(PAGE, |_| {})).await;
    assert_eq!(foreign.status(), 401, "another app's");
    for plain in [
        format!("cloudId={}&accountId=owner-1&triggerUrl={}", app.cloud_id, app.trigger_url),
        "handoff=".to_owned(),
        String::new(),
    ] {
        let response = function.handle(request(PAGE, |event| event["rawQueryString"] = json!(plain))).await;
        assert_eq!(response.status(), 400, "{plain}");
        assert!(text(&response).contains("press “Add service” again"), "{}", text(&response));
    }
    clock.advance(601);
    let late = function.handle(ask(handoff)).await;
    assert_eq!(late.status(), 401);
    assert!(text(&late).contains("expired"));
}

#[tokio::test]
async fn the_key_set_is_the_deployment_keys_public_half() {
    let function = function(rule()).await;
    let response = function.handle(request(JWKS, |_| {})).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["cache-control"]),
        (200, &"public, max-age=300".parse().unwrap())
    );
    let keys: Jwks = serde_json::from_slice(response.body()).unwrap();
    let key = PublicKey::from_jwk(&keys.keys[0]).unwrap();
    let signature = function.deployment_key.sign(b"message").await.unwrap();
    assert!(key.verifies(b"message", &signature));
    assert_eq!(keys.keys[0].kid.as_deref(), Some(key.kid().as_str()));
}

#[tokio::test]
async fn the_stylesheet_is_served_and_nothing_else_is() {
    let function = function(rule()).await;
    let at = |path: &str| request(JWKS, |event| event["rawPath"] = json!(path));
    let style = function.handle(at("/style.css")).await;
    assert_eq!(
        (style.status().as_u16(), &style.headers()["content-type"]),
        (200, &"text/css; charset=utf-8".parse().unwrap())
    );
    assert_eq!(function.handle(at("/elsewhere")).await.status(), 404);
    let post = request(PAGE, |event| event["requestContext"]["http"]["method"] = json!("POST"));
    assert_eq!(function.handle(post).await.status(), 404);
}
