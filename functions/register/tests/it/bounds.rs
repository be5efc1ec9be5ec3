//! Requests that no link of Jira makes: each gets a clear answer, and never a 5xx.

use lambda_http::Request;
use serde_json::{Value, json};

use crate::{JWKS, PAGE, function, open_rule, request, text};

const GOOD: &str = "cloudId=11111111-2222-4333-8444-555555555555&accountId=p-1&triggerUrl=https%3A%2F%2F99999999-8888-4777-8666-555555555555.hello.atlassian-dev.net%2Fx1%2FabcDEF_-123";

fn link(query: &str) -> Request {
    request(PAGE, |event| {
        event["rawQueryString"] = json!(query);
        event["headers"]["accept"] = json!("application/json");
    })
}

#[tokio::test]
async fn a_parameter_that_is_there_twice_is_refused_by_its_name() {
    let function = function(open_rule()).await;
    assert_eq!(function.handle(link(GOOD)).await.status(), 200);
    for name in ["cloudId", "accountId", "triggerUrl", "callbackUrl", "handoff"] {
        let response = function.handle(link(&format!("{GOOD}&{name}=a&{name}=a"))).await;
        let problem: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!((response.status().as_u16(), &problem["code"]), (400, &json!("INVALID_LINK")), "{name}");
        assert_eq!(problem["errors"][0]["pointer"], format!("/{name}"));
    }
    assert_eq!(function.handle(link(&format!("{GOOD}&other=a&other=a"))).await.status(), 200);
}

#[tokio::test]
async fn every_parameter_has_its_bound() {
    let function = function(open_rule()).await;
    for (what, query, status) in [
        ("nothing", String::new(), 400),
        ("no names", "&&==&=".to_owned(), 400),
        ("an upper-case site", GOOD.replace("8444", "844A"), 400),
        ("an owner of 129 characters", GOOD.replace("p-1", &"p".repeat(129)), 400),
        ("an owner with NUL", GOOD.replace("p-1", "p%00"), 400),
        ("an owner that is not UTF-8", GOOD.replace("p-1", "%FF%FE"), 400),
        ("markup", GOOD.replace("p-1", "<script>\"'>"), 400),
        ("a trigger of 257 characters", format!("{GOOD}{}", "a".repeat(257)), 403),
        ("a trigger elsewhere", GOOD.replace("hello.atlassian-dev.net", "evil.example"), 403),
        ("a trigger with NUL", format!("{GOOD}%00"), 403),
        ("a hand-off of 8,193 characters", format!("{GOOD}&handoff={}", "a".repeat(8193)), 400),
        ("a hand-off outside ASCII", format!("{GOOD}&handoff=%C3%A9"), 400),
        ("a thousand other parameters", format!("{GOOD}{}", "&a=b".repeat(1000)), 200),
        ("more than any link has", format!("{GOOD}&a={}", "b".repeat(1 << 20)), 400),
    ] {
        let response = function.handle(link(&query)).await;
        assert_eq!(response.status(), status, "{what}: {}", text(&response));
    }
}

#[tokio::test]
async fn a_way_back_that_may_not_be_linked_does_not_fill_the_page() {
    let function = function(open_rule()).await;
    for callback in [
        "https://evil.example/",
        "javascript:alert(1)",
        &format!("https://a.atlassian.net/{}", "a".repeat(4000)),
    ] {
        let response = function.handle(link(&format!("{GOOD}&callbackUrl={callback}"))).await;
        assert_eq!(response.status(), 200);
        assert!(!text(&response).contains(callback), "{callback}");
    }
}

#[tokio::test]
async fn headers_of_any_shape_change_nothing_but_the_format() {
    let function = function(open_rule()).await;
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
            event["rawQueryString"] = json!(GOOD);
            event["headers"][name] = json!(value);
        });
        assert_eq!(function.handle(request).await.status(), 200, "{name}");
    }
}

#[tokio::test]
async fn other_methods_and_paths_find_nothing() {
    let function = function(open_rule()).await;
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
