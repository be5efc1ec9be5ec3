//! Requests that no form makes: each gets a clear answer of the documented form, never a 5xx, and nothing is stored.

use data_encoding::BASE64;
use domain::clock::Clock as _;
use lambda_http::{Request, Response};
use serde_json::{Value, json};

use crate::world::{Deployed, FORM, JSON, World, changed, document, json_request, text};

/// A deployment, and a good wish that is not sent yet.
struct Edge {
    world: World,
    function: Deployed,
    good: Value,
}

impl Edge {
    async fn start() -> Self {
        let world = World::start().await;
        let (function, good) = (world.function(), world.wish("a").await);
        Self { world, function, good }
    }

    async fn refuses(&self, what: &str, request: Request, status: u16) -> Response<lambda_http::Body> {
        let response = self.function.handle(request).await;
        assert_eq!(response.status(), status, "{what}: {}", text(&response));
        if response.headers()["content-type"] == "application/problem+json" {
            assert_eq!(document(&response)["status"], status, "{what}");
            assert!(document(&response)["code"].is_string(), "{what}");
        }
        response
    }

    /// A good wish with one field replaced.
    fn wish(&self, field: &str, value: impl Into<Value>) -> Value {
        let mut wish = self.good.clone();
        wish[field] = value.into();
        wish
    }

    async fn nothing_happened(self) {
        let Self { world, .. } = self;
        let stored = world.aws.store().find(&world.app.tenant_id(), world.clock.now()).await.unwrap();
        assert!(stored.is_none());
        assert_eq!((world.app.callbacks().len(), world.target.asked()), (0, 0));
    }
}

/// A JSON request whose body is these bytes, as API Gateway hands bytes on.
fn bytes_request(content_type: &str, body: &[u8]) -> Request {
    changed(JSON, |event| {
        event["headers"]["content-type"] = json!(content_type);
        event["isBase64Encoded"] = json!(true);
        event["body"] = json!(BASE64.encode(body));
    })
}

#[tokio::test]
async fn the_body_is_bounded_and_must_be_what_its_type_says() {
    let edge = Edge::start().await;
    let json = "application/json";
    let form = "application/x-www-form-urlencoded";
    for (what, content_type, body, status) in [
        ("64 KiB of space", json, vec![b' '; 65_536], 400),
        ("a byte more", json, vec![b' '; 65_537], 413),
        ("a byte more in a form", form, vec![b'a'; 65_537], 413),
        ("6 MB", json, vec![b'['; 6_000_000], 413),
        ("60,000 open brackets", json, vec![b'['; 60_000], 400),
        ("60,000 open objects", json, r#"{"a":"#.repeat(12_000).into_bytes(), 400),
        ("not UTF-8", json, b"{\"name\":\"\xff\xfe\"}".to_vec(), 400),
        ("UTF-16", json, "{}".encode_utf16().flat_map(u16::to_le_bytes).collect(), 400),
        ("a byte-order mark", json, b"\xef\xbb\xbf{}".to_vec(), 400),
        ("half a surrogate", json, br#"{"name":"\ud800"}"#.to_vec(), 400),
        ("NUL outside a text", json, b"{\0}".to_vec(), 400),
        ("something behind the end", json, b"{}{}".to_vec(), 400),
        ("a list", json, b"[]".to_vec(), 400),
        ("null", json, b"null".to_vec(), 400),
        ("a text", json, b"\"name\"".to_vec(), 400),
        ("a number beyond all", json, br#"{"timeoutMs":1e999}"#.to_vec(), 400),
        ("a form sent as JSON", json, b"name=a&url=b".to_vec(), 400),
        ("JSON sent as a form", form, b"{\"name\":\"a\"}".to_vec(), 400),
        ("a compressed body", json, b"\x1f\x8b\x08\0\0\0\0\0".to_vec(), 400),
        ("an empty body", form, Vec::new(), 400),
        ("nothing but separators", form, b"&&&===&&".to_vec(), 400),
        ("ten thousand fields", form, "a=b&".repeat(10_000).into_bytes(), 400),
        ("bytes that are no characters", form, vec![0xff; 60_000], 400),
        ("broken escapes", form, b"name=%&url=%z%%".to_vec(), 400),
    ] {
        edge.refuses(what, bytes_request(content_type, &body), status).await;
    }
    let garbage = changed(FORM, |event| event["body"] = json!("not base64!"));
    edge.refuses("base64 that is none", garbage, 400).await;
    let unmarked = changed(FORM, |event| event["isBase64Encoded"] = json!(false));
    edge.refuses("base64 that is not said to be", unmarked, 400).await;
    edge.nothing_happened().await;
}

#[tokio::test]
async fn only_two_content_types_are_read() {
    let edge = Edge::start().await;
    for content_type in [
        "",
        " ",
        ";",
        "text/plain",
        "text/json",
        "application/jsonp",
        "application/json/x",
        "application/json, text/plain",
        "application/problem+json",
        "application/xml",
        "multipart/form-data; boundary=a",
        "application/x-www-form-urlencoded2",
        "é",
        &"a".repeat(9000),
    ] {
        let request = changed(JSON, |event| event["headers"]["content-type"] = json!(content_type));
        edge.refuses(content_type, request, 415).await;
    }
    for content_type in ["application/json; charset=utf-8", "Application/JSON", "application/json;;;"] {
        let request = changed(JSON, |event| {
            event["headers"]["content-type"] = json!(content_type);
            event["body"] = json!("{}");
        });
        edge.refuses(content_type, request, 400).await;
    }
    edge.nothing_happened().await;
}

#[tokio::test]
async fn a_field_of_another_kind_or_beyond_its_bound_is_refused() {
    let edge = Edge::start().await;
    for field in ["handoff", "name", "url", "method", "cloudId", "accountId", "triggerUrl", "callbackUrl"] {
        for value in [json!(1), json!(true), json!([]), json!({}), json!(["a"]), json!({ "a": "b" })] {
            let what = format!("{field}: {value}");
            edge.refuses(&what, json_request(&edge.wish(field, value)), 400).await;
        }
    }
    for (field, value, status) in [
        ("cloudId", json!("11111111-2222-4333-8444-555555555555"), 400),
        ("handoff", json!(null), 400),
        ("handoff", json!(""), 400),
        ("handoff", json!("a".repeat(8193)), 401),
        ("handoff", json!("a".repeat(60_000)), 401),
        ("handoff", json!("é"), 401),
        ("handoff", json!("a.b.c\u{0}"), 401),
        ("name", json!("a\u{0}b"), 400),
        ("name", json!("a\u{202e}b"), 400),
        ("name", json!("店".repeat(81)), 400),
        ("name", json!(" \u{a0}\t\n "), 400),
        ("name", json!(null), 400),
        ("url", json!("http://example.com/\u{0}"), 400),
        ("url", json!(format!("http://example.com/{}", "a".repeat(60_000))), 400),
        ("url", json!("http://exa mple.com/"), 400),
        ("url", json!(null), 400),
        ("method", json!("get\u{0}"), 400),
        ("method", json!("G".repeat(60_000)), 400),
        ("expectedStatus", json!(vec!["200"; 1000].join(",")), 400),
        ("expectedStatus", json!("200-299\u{0}"), 400),
        ("expectedStatus", json!("9".repeat(60_000)), 400),
        ("timeoutMs", json!(-1), 400),
        ("timeoutMs", json!(499.5), 400),
        ("timeoutMs", json!(1_000_000_000_000_000_000_u64), 400),
        ("timeoutMs", json!("9".repeat(60_000)), 400),
        ("timeoutMs", json!([5000]), 400),
        ("timeoutMs", json!("5000\u{0}"), 400),
    ] {
        let what = format!("{field}: {:.60}", value.to_string());
        edge.refuses(&what, json_request(&edge.wish(field, value)), status).await;
    }
    edge.nothing_happened().await;
}

#[tokio::test]
async fn a_field_is_there_once_in_every_spelling_of_its_name() {
    let edge = Edge::start().await;
    for field in ["handoff", "name", "url", "method", "expectedStatus", "timeoutMs"] {
        let json =
            format!(r#"{{"{field}":"a","\u{:04x}{}":"a"}}"#, u32::from(field.as_bytes()[0]), &field[1..]);
        edge.refuses(field, bytes_request("application/json", json.as_bytes()), 400).await;
        let form = format!("{field}=a&%{:02X}{}=a", field.as_bytes()[0], &field[1..]);
        let request = bytes_request("application/x-www-form-urlencoded", form.as_bytes());
        edge.refuses(field, request, 400).await;
    }
    edge.nothing_happened().await;
}

#[tokio::test]
async fn every_beginning_of_a_good_request_is_refused() {
    let edge = Edge::start().await;
    let json = edge.good.to_string();
    for end in 0..json.len() {
        edge.refuses(&json[..end], bytes_request("application/json", &json.as_bytes()[..end]), 400).await;
    }
    edge.nothing_happened().await;
}

#[tokio::test]
async fn headers_of_any_shape_get_no_further_than_the_fields() {
    let edge = Edge::start().await;
    for (name, value, status) in [
        ("accept", "x".repeat(9000), 400),
        ("accept", "text/html".to_owned(), 400),
        ("host", "a b".to_owned(), 400),
        ("x-forwarded-proto", String::new(), 400),
        ("x-forwarded-for", "é".repeat(2000), 400),
        ("content-length", "-1".to_owned(), 400),
        ("content-encoding", "gzip".to_owned(), 400),
        ("transfer-encoding", "chunked".to_owned(), 400),
        ("cookie", "a=b; ".repeat(1000), 400),
        ("authorization", "Bearer a.b.c".to_owned(), 400),
        ("sec-fetch-site", "cross-site".to_owned(), 403),
    ] {
        let request = changed(JSON, |event| {
            event["headers"][name] = json!(value);
            event["body"] = json!("{}");
        });
        edge.refuses(name, request, status).await;
    }
    edge.nothing_happened().await;
}

#[tokio::test]
async fn other_methods_paths_and_queries_change_nothing() {
    let edge = Edge::start().await;
    for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let request = changed(JSON, |event| event["requestContext"]["http"]["method"] = json!(method));
        edge.refuses(method, request, 404).await;
    }
    for path in ["", "/", "/addedMonitorService/", "/addedmonitorservice", "/addedMonitorService%00", "/é"] {
        let request = changed(JSON, |event| event["rawPath"] = json!(path));
        edge.refuses(path, request, 404).await;
    }
    // Fields are read from the body alone.
    let fields = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(edge.good.as_object().unwrap().iter().map(|(k, v)| (k, v.as_str().unwrap())))
        .finish();
    for query in [fields, "<\"\u{1}>".repeat(100), "a".repeat(1 << 20)] {
        let request = changed(JSON, |event| {
            event["rawQueryString"] = json!(query);
            event["body"] = json!("{}");
        });
        edge.refuses(&query[..20], request, 400).await;
    }
    edge.nothing_happened().await;
}
