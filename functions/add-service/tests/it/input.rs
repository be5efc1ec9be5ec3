//! What is sent to the route: the sample events, and everything that is refused at the edge.

use domain::clock::Clock as _;
use domain::id::TenantId;
use domain::key::PublicKey;
use serde_json::{Value, json};

use crate::world::{FORM, JSON, World, changed, document, in_form, json_request, text};

/// What a case changes in the sample event.
type Change = Box<dyn Fn(&mut Value)>;

#[tokio::test]
async fn the_browsers_form_arrives_base64_encoded_and_gets_a_page() {
    let world = World::start().await;
    let handoff = world.app.handoff(world.clock.now()).await;
    let request = changed(FORM, |event| {
        in_form(event, &[("handoff", &handoff), ("url", &world.target.url("a"))]);
    });
    let response = world.function().handle(request).await;
    let page = text(&response);
    assert_eq!(response.status(), 201, "{page}");
    assert!(page.contains("Shop API is being monitored") && page.contains("Alive"), "{page}");
    assert!(page.contains(r#"href="https://shop.atlassian.net/jira" rel="noreferrer""#), "{page}");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert!(
        response.headers()["content-security-policy"].to_str().unwrap().contains("frame-ancestors 'none'")
    );
}

#[tokio::test]
async fn the_json_event_names_how_to_check() {
    let world = World::start().await;
    let handoff = world.app.handoff(world.clock.now()).await;
    let request = changed(JSON, |event| {
        let mut body: Value = serde_json::from_str(event["body"].as_str().unwrap()).unwrap();
        body["handoff"] = json!(handoff);
        body["url"] = json!(world.target.url("a"));
        event["body"] = json!(body.to_string());
    });
    let response = world.function().handle(request).await;
    let service = document(&response)["service"].clone();
    assert_eq!(response.status(), 201, "{service}");
    assert_eq!(
        (&service["method"], &service["expectedStatus"], &service["timeoutMs"]),
        (&json!("HEAD"), &json!("200-299,401"), &json!(3000))
    );
    assert_eq!((&service["downAfter"], &service["aliveAfter"]), (&json!("2/3"), &json!(2)));
    let tenant_id = TenantId::parse(document(&response)["tenantId"].as_str().unwrap()).unwrap();
    let stored = world.aws.store().find(&tenant_id, world.clock.now()).await.unwrap().unwrap();
    assert_eq!(stored.services[0].thresholds.down_after.to_string(), "2/3");
    assert_eq!(stored.services[0].thresholds.alive_after.checks(), 2);
}

#[tokio::test]
async fn a_browser_gets_the_page_again_with_its_input_and_the_message_at_its_field() {
    let world = World::start().await;
    let handoff = world.app.handoff(world.clock.now()).await;
    let request = changed(FORM, |event| {
        in_form(event, &[("handoff", &handoff), ("url", "http://10.0.0.1/"), ("name", "My \"API\"")]);
    });
    let response = world.function().handle(request).await;
    let page = text(&response);
    assert_eq!(response.status(), 403);
    assert!(page.contains(r#"id="url-error""#) && page.contains("not on the public internet"), "{page}");
    assert!(page.contains(&format!(r#"<input type="hidden" name="handoff" value="{handoff}">"#)), "{page}");
    assert!(page.contains("My &#34;API&#34;") && page.contains(r#"value="http://10.0.0.1/""#), "{page}");
}

#[tokio::test]
async fn each_wrong_field_has_its_message_and_nothing_is_stored() {
    let world = World::start().await;
    let function = world.function();
    for (field, value) in [
        ("name", json!("")),
        ("name", json!("x".repeat(81))),
        ("name", json!("nul\u{0}")),
        ("url", json!("")),
        ("url", json!("no url")),
        ("url", json!("ftp://example.com/")),
        ("url", json!(format!("https://example.com/{}", "a".repeat(2100)))),
        ("method", json!("DELETE")),
        ("expectedStatus", json!("200-")),
        ("expectedStatus", json!("600")),
        ("timeoutMs", json!(499)),
        ("timeoutMs", json!(10_001)),
        ("timeoutMs", json!("soon")),
        ("downAfter", json!("3/2")),
        ("downAfter", json!("6/6")),
        ("downAfter", json!("twice")),
        ("aliveAfter", json!(0)),
        ("aliveAfter", json!("6")),
    ] {
        let mut wish = world.wish("a").await;
        wish[field] = value.clone();
        let response = function.handle(json_request(&wish)).await;
        let problem = document(&response);
        assert_eq!(response.status(), 400, "{field} {value}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(problem["errors"][0]["pointer"], format!("/{field}"), "{problem}");
    }
    assert!(world.aws.store().find(&world.app.tenant_id(), world.clock.now()).await.unwrap().is_none());
    assert_eq!(world.app.callbacks().len(), 0);
}

#[tokio::test]
async fn requests_that_are_none_of_ours_get_a_clear_refusal() {
    let world = World::start().await;
    let function = world.function();
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let twice = r#"{"name":"a","name":"b"}"#;
    let cases: [(&str, u16, Change); 11] = [
        ("not JSON", 400, Box::new(|event| event["body"] = json!("{"))),
        ("deep JSON", 400, Box::new(move |event| event["body"] = json!(deep))),
        ("a field twice", 400, Box::new(move |event| event["body"] = json!(twice))),
        ("an unknown field", 400, Box::new(|event| event["body"] = json!(r#"{"nmae":"a"}"#))),
        ("no body", 400, Box::new(|event| event["body"] = Value::Null)),
        ("too much", 413, Box::new(|event| event["body"] = json!(" ".repeat(65_537)))),
        ("another type", 415, Box::new(|event| event["headers"]["content-type"] = json!("text/plain"))),
        (
            "no type",
            415,
            Box::new(|event| _ = event["headers"].as_object_mut().unwrap().remove("content-type")),
        ),
        ("another site", 403, Box::new(|event| event["headers"]["sec-fetch-site"] = json!("cross-site"))),
        ("another method", 404, Box::new(|event| event["requestContext"]["http"]["method"] = json!("PUT"))),
        ("another path", 404, Box::new(|event| event["rawPath"] = json!("/elsewhere"))),
    ];
    for (what, status, change) in cases {
        let response = function.handle(changed(JSON, |event| change(event))).await;
        assert_eq!(response.status(), status, "{what}: {}", text(&response));
        assert_eq!(document(&response)["status"], status, "{what}");
    }
}

#[tokio::test]
async fn a_form_field_that_is_there_twice_or_is_not_utf_8_is_refused() {
    let world = World::start().await;
    let function = world.function();
    for body in
        ["handoff=a&handoff=b", "name=a&name=b", "timeoutMs=1&timeoutMs=2", "aliveAfter=1&aliveAfter=1"]
    {
        let response = function
            .handle(changed(FORM, |event| {
                event["body"] = json!(body);
                event["isBase64Encoded"] = json!(false);
            }))
            .await;
        assert_eq!(response.status(), 400, "{body}");
    }
    let handoff = world.app.handoff(world.clock.now()).await;
    let response = function
        .handle(changed(FORM, |event| {
            in_form(event, &[("handoff", &handoff), ("url", &world.target.url("a"))]);
            let body = data_encoding::BASE64.decode(event["body"].as_str().unwrap().as_bytes()).unwrap();
            let body = String::from_utf8(body).unwrap().replace("Shop+API", "%FF%FE");
            event["body"] = json!(data_encoding::BASE64.encode(body.as_bytes()));
        }))
        .await;
    assert_eq!(response.status(), 400);
    assert!(text(&response).contains(r#"id="name-error""#));
}

#[tokio::test]
async fn a_trigger_that_is_not_atlassians_is_refused() {
    let world = World::start().await;
    let mut wish = world.wish("a").await;
    let elsewhere = json!({ "triggerUrl": "https://evil.example/x1/a" });
    wish["handoff"] = json!(world.app.handoff_with(elsewhere, world.clock.now()).await);
    let response = world.function().handle(json_request(&wish)).await;
    assert_eq!(
        (response.status().as_u16(), document(&response)["code"].clone()),
        (403, json!("TRIGGER_NOT_ALLOWED"))
    );
}

#[tokio::test]
async fn the_sample_events_carry_a_handoff_of_the_vectors() {
    let world = World::start().await;
    let mut function = world.function();
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let key =
        PublicKey::from_jwk(&serde_json::from_value(vectors["handoffs"]["key"].clone()).unwrap()).unwrap();
    function.handoffs.keys = vec![(key.kid(), key)];
    // Nothing of them may leave this machine: late hand-offs are read, and begin nothing.
    world.clock.advance(700);
    for event in [FORM, JSON] {
        let request = changed(event, |event| event["headers"]["accept"] = json!("application/json"));
        let response = function.handle(request).await;
        assert_eq!(
            (response.status().as_u16(), &document(&response)["code"]),
            (401, &json!("HANDOFF_EXPIRED"))
        );
    }
}

const VECTORS: &str = include_str!("../../../../testdata/callback/vectors.json");
