//! The page to remove, pause or resume a service: it shows what the app signed, and nothing else.

use std::sync::Arc;

use domain::key::Sign as _;
use lambda_http::Request;
use register::Register;
use serde_json::{Value, json};
use testing::aws::LocalAws;
use testing::forge_app::{ForgeApp, management_claims};
use testing::time::FixedClock;

use crate::{function, request, rule, text};

const MANAGE: &str = include_str!("../../../../events/register/manage.json");

fn link(query: &str) -> Request {
    request(MANAGE, |event| event["rawQueryString"] = json!(query))
}

struct World {
    app: ForgeApp,
    clock: FixedClock,
    function: Register,
}

impl World {
    async fn start() -> Self {
        let aws = LocalAws::start().await;
        let app = ForgeApp::start(&aws.deployment_key().public_key().await.unwrap()).await;
        let clock = FixedClock::at("2026-11-22T10:07:00Z");
        let function = Register {
            handoffs: app.handoff_rule(),
            deployment_key: aws.deployment_key(),
            clock: Arc::new(clock.clone()),
        };
        Self { app, clock, function }
    }

    /// The page for a hand-off with some claims changed.
    async fn page(&self, changes: Value) -> (u16, String) {
        let service = serde_json::from_value(json!("w4g76pj5y32txfsc")).unwrap();
        let mut claims = management_claims("remove", &service);
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let handoff = self.app.handoff_with(claims, domain::clock::Clock::now(&self.clock)).await;
        let response = self.function.handle(link(&format!("handoff={handoff}"))).await;
        (response.status().as_u16(), text(&response))
    }
}

#[tokio::test]
async fn the_link_from_jira_shows_which_service_where_and_what_happens() {
    let response = function(rule()).await.handle(request(MANAGE, |_| {})).await;
    let page = text(&response);
    assert_eq!(response.status(), 200, "{page}");
    for shown in [
        "Remove Shop – 店?",
        "https://example.com/health",
        "shop.atlassian.net",
        "added again, it starts afresh",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert!(page.contains(r#"<form method="post" action="managedMonitorService">"#), "{page}");
    assert!(
        page.contains(r#"href="https://shop.atlassian.net/jira/apps/health" rel="noreferrer""#),
        "{page}"
    );
    let handoff = request(MANAGE, |_| {});
    let handoff = handoff.uri().query().unwrap().strip_prefix("handoff=").unwrap();
    assert!(page.contains(&format!(r#"name="handoff" value="{handoff}""#)), "{page}");
    let policy = response.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("form-action 'self'; frame-ancestors 'none'"), "{policy}");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert!(!page.contains("<script") && !page.contains("style=") && !page.contains("//cdn"), "{page}");
}

#[tokio::test]
async fn each_change_has_its_words() {
    let world = World::start().await;
    for (change, title, button, sentence) in [
        ("remove", "Remove Shop API?", "Remove service", "disappears from the Health Monitor page"),
        ("pause", "Pause Shop API?", "Pause service", "It is not checked until you resume it"),
        ("resume", "Resume Shop API?", "Resume service", "It is checked again"),
    ] {
        let (status, page) = world.page(json!({ "change": change })).await;
        assert_eq!(status, 200, "{page}");
        assert!(page.contains(title) && page.contains(button) && page.contains(sentence), "{page}");
    }
}

#[tokio::test]
async fn names_and_addresses_are_escaped_and_only_sites_are_linked() {
    let world = World::start().await;
    let script = "\"><script>alert(1)</script>";
    let hostile =
        json!({ "serviceName": script, "serviceUrl": script, "callbackUrl": "https://evil.example/" });
    let (status, page) = world.page(hostile).await;
    assert_eq!(status, 200);
    assert!(!page.contains("<script") && !page.contains("evil.example"), "{page}");
}

#[tokio::test]
async fn a_link_that_is_over_forged_or_for_something_else_shows_no_button() {
    let world = World::start().await;
    for (what, changes, status) in [
        ("to register", json!({ "purpose": "register" }), 401),
        ("another backend's", json!({ "aud": "https://other.example" }), 401),
        ("no service", json!({ "serviceId": null }), 401),
        ("no change", json!({ "change": "destroy" }), 401),
        ("over", json!({ "iat": 1_795_341_000, "exp": 1_795_341_600 }), 401),
        ("a trigger elsewhere", json!({ "triggerUrl": "https://evil.example/x1/a" }), 403),
    ] {
        let (answered, page) = world.page(changes).await;
        assert_eq!(answered, status, "{what}: {page}");
        assert!(!page.contains("<form") && page.contains("<h1>"), "{what}: {page}");
    }
    for (query, status) in
        [("", 400), ("handoff=", 400), ("handoff=a.b.c", 401), ("handoff=a&handoff=a", 400)]
    {
        let response = world.function.handle(link(query)).await;
        assert_eq!(response.status(), status, "{query}: {}", text(&response));
    }
    // A link to manage is none to register either.
    let registration = request(MANAGE, |event| event["rawPath"] = json!("/register"));
    assert_eq!(function(rule()).await.handle(registration).await.status(), 401);
}
