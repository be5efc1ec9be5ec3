//! Requests that no link of Jira makes: each gets a clear answer, and never a 5xx.

use lambda_http::Request;
use serde_json::{Value, json};

use crate::{JWKS, PAGE, function, request, rule, text};

fn link(query: &str) -> Request {
    request(PAGE, |event| {
        event["rawQueryString"] = json!(query);
        event["headers"]["accept"] = json!("application/json");
    })
}

/// The sample event's query.
fn good() -> String {
    let event: Value = serde_json::from_str(PAGE).unwrap();
    event["rawQueryString"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_handoff_that_is_there_twice_is_refused_by_its_name() {
    let (function, good) = (function(rule()).await, good());
    assert_eq!(function.handle(link(&good)).await.status(), 200);
    for twice in [format!("{good}&handoff=a"), format!("handoff=a&{good}"), format!("{good}&{good}")] {
        let response = function.handle(link(&twice)).await;
        let problem: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!((response.status().as_u16(), &problem["code"]), (400, &json!("INVALID_LINK")), "{twice}");
        assert_eq!(problem["errors"][0]["pointer"], "/handoff");
    }
    assert_eq!(function.handle(link(&format!("{good}&other=a&other=a"))).await.status(), 200);
}

#[tokio::test]
async fn every_parameter_has_its_bound() {
    let (function, good) = (function(rule()).await, good());
    for (what, query, status) in [
        ("nothing", String::new(), 400),
        ("no names", "&&==&=".to_owned(), 400),
        ("another spelling", good.replace("handoff=", "Handoff="), 400),
        ("an empty hand-off", "handoff=".to_owned(), 400),
        ("a hand-off cut short", good[..good.len() - 1].to_owned(), 401),
        ("a hand-off of 8,193 characters", format!("handoff={}", "a".repeat(8193)), 401),
        ("a hand-off outside ASCII", "handoff=%C3%A9".to_owned(), 401),
        ("a hand-off that is not UTF-8", "handoff=%FF%FE".to_owned(), 401),
        ("a hand-off with NUL", format!("{good}%00"), 401),
        ("markup", "handoff=<script>\"'>".to_owned(), 401),
        ("a thousand other parameters", format!("{good}{}", "&a=b".repeat(1000)), 200),
        ("more than any link has", format!("{good}&a={}", "b".repeat(1 << 20)), 400),
    ] {
        let response = function.handle(link(&query)).await;
        assert_eq!(response.status(), status, "{what}: {}", text(&response));
    }
}

#[tokio::test]
async fn nothing_of_a_link_but_its_handoff_fills_the_page() {
    let (function, good) = (function(rule()).await, good());
    for other in
        ["callbackUrl=https://evil.atlassian.net/", "name=Mallory", "cloudId=x", "url=http://evil.example"]
    {
        let response = function.handle(link(&format!("{good}&{other}"))).await;
        assert_eq!(response.status(), 200);
        let (_, value) = other.split_once('=').unwrap();
        assert!(!text(&response).contains(&format!("\"{value}\"")), "{other}");
    }
}

#[tokio::test]
async fn headers_of_any_shape_change_nothing_but_the_format() {
    let function = function(rule()).await;
    for (name, value) in [
        ("accept", "x".repeat(9000)),
        ("accept", "text/html;q=0, é, */*".to_owned()),
        ("host", "a b".to_owned()),
        ("x-forwarded-proto", "gopher".to_owned()),
        ("x-forwarded-for", "é".repeat(2000)),
        ("cookie", "a=b; ".repeat(1000)),
        ("content-type", "application/json".to_owned()),
        ("authorization", "Bearer a.b.c".to_owned()),
    ] {
        let request = request(PAGE, |event| {
            event["rawQueryString"] = json!(good());
            event["headers"][name] = json!(value);
        });
        assert_eq!(function.handle(request).await.status(), 200, "{name}");
    }
}

#[tokio::test]
async fn other_methods_and_paths_find_nothing() {
    let function = function(rule()).await;
    for method in ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW"] {
        let request = request(PAGE, |event| event["requestContext"]["http"]["method"] = json!(method));
        assert_eq!(function.handle(request).await.status(), 404, "{method}");
    }
    for path in [
        "",
        "/",
        "//",
        "/register/",
        "/Register",
        "/register%00",
        "/register/..",
        "/jwks",
        "/é",
        "register.php",
    ] {
        let response = function.handle(request(JWKS, |event| event["rawPath"] = json!(path))).await;
        assert_eq!(response.status(), 404, "{path:?}");
    }
}
