//! API Gateway's events on their way into `lambda_http`, which panics over some that any client can cause.
//!
//! It makes a URI of scheme, host, path and raw query and expects that to succeed: a bare `<` in a query is enough, and the
//! client gets a 500. Not here: everything that routes, refuses or answers; that is the handlers'.

use std::fmt::Write as _;

use data_encoding::BASE64;
use lambda_http::lambda_runtime::{self, Diagnostic};
use lambda_http::request::{LambdaRequest, RequestContext};
use lambda_http::tower::ServiceExt as _;
use lambda_http::{Adapter, Error, IntoResponse, LambdaEvent, Request, RequestExt as _, Service};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// A longer raw query is dropped, as if the link had none. API Gateway takes 10,240 bytes of request line and headers; a
/// URI of more than 65,534 bytes cannot be made.
const MAX_QUERY_BYTES: usize = 16 * 1024;

/// Runs a handler of HTTP requests as a Lambda function.
pub async fn run<'a, S, R, E>(service: S) -> Result<(), Error>
where
    S: Service<Request, Response = R, Error = E>,
    S::Future: Send + 'a,
    R: IntoResponse,
    E: std::fmt::Debug + Into<Diagnostic>,
{
    let adapted = Adapter::from(service);
    lambda_runtime::run(
        adapted.map_request(|event: LambdaEvent<Event>| LambdaEvent::new(event.payload.0, event.context)),
    )
    .await
}

/// The request of an event, read as [`run`] reads it.
pub fn read(event: &str) -> serde_json::Result<Request> {
    serde_json::from_str(event).map(|Event(request)| request.into())
}

/// API Gateway's id of a request. The access log has it as well, so that the two can be joined.
#[must_use]
pub fn request_id(request: &Request) -> Option<&str> {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.request_id.as_deref(),
        _ => None,
    }
}

/// An event of which `lambda_http` can make a request.
struct Event(LambdaRequest);

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut event = Value::deserialize(deserializer)?;
        repair(&mut event);
        serde_json::from_str(&event.to_string()).map(Self).map_err(de::Error::custom)
    }
}

fn repair(event: &mut Value) {
    if let Some(query) = event["rawQueryString"].as_str() {
        event["rawQueryString"] = escape(query).into();
    }
    // Without them the URI is made of the domain that API Gateway names, which no client chooses.
    if let Some(headers) = event["headers"].as_object_mut() {
        headers.retain(|name, _| {
            !["host", "x-forwarded-proto"].iter().any(|unused| name.eq_ignore_ascii_case(unused))
        });
    }
    let body = event["body"].as_str().unwrap_or_default();
    if event["isBase64Encoded"] == true && BASE64.decode(body.as_bytes()).is_err() {
        event["body"] = Value::Null;
    }
}

/// Percent-encodes what may not stand in a URI's query (RFC 3986); what is encoded already stays as it is.
fn escape(query: &str) -> String {
    let mut escaped = String::with_capacity(query.len());
    for byte in query.bytes().take_while(|_| query.len() <= MAX_QUERY_BYTES) {
        match byte {
            0x21 | 0x24..=0x3b | 0x3d | 0x3f..=0x7e => escaped.push(byte.into()),
            // Writing into a String cannot fail.
            _ => _ = write!(escaped, "%{byte:02X}"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use lambda_http::RequestExt as _;
    use serde_json::json;

    use super::*;

    const PAGE: &str = include_str!("../../../events/register/page.json");

    fn changed(change: impl FnOnce(&mut Value)) -> Request {
        let mut event: Value = serde_json::from_str(PAGE).unwrap();
        change(&mut event);
        read(&event.to_string()).unwrap()
    }

    #[test]
    fn every_character_of_a_query_arrives() {
        for character in (1..=0x7f_u8).map(char::from).chain("é店😀".chars()) {
            if ['%', '&', '+', '#', '='].contains(&character) {
                continue;
            }
            let request = changed(|event| event["rawQueryString"] = json!(format!("a=<{character}>")));
            let parameters = request.query_string_parameters();
            assert_eq!(parameters.first("a"), Some(format!("<{character}>").as_str()), "{character:?}");
        }
    }

    #[test]
    fn an_encoded_query_arrives_as_it_is() {
        let request = changed(|event| event["rawQueryString"] = json!("a=%3C+%25&b=%zz&c&c=1#d"));
        let parameters = request.query_string_parameters();
        let got = ["a", "b", "c"].map(|name| parameters.all(name).unwrap_or_default());
        assert_eq!(got, [vec!["< %"], vec!["%zz"], vec!["", "1#d"]]);
    }

    #[test]
    fn a_query_longer_than_any_is_none() {
        let request =
            changed(|event| event["rawQueryString"] = json!(format!("a={}", "b".repeat(MAX_QUERY_BYTES))));
        assert_eq!(request.query_string_parameters().first("a"), None);
    }

    #[test]
    fn headers_that_would_be_part_of_the_uri_are_not() {
        for (header, value) in
            [("host", "a b"), ("Host", "a:99999"), ("x-forwarded-proto", ""), ("X-Forwarded-Proto", "x y")]
        {
            let request = changed(|event| event["headers"][header] = json!(value));
            assert_eq!(request.raw_http_path(), "/register", "{header}: {value}");
        }
    }

    #[test]
    fn a_body_that_is_not_the_base64_it_claims_to_be_is_none() {
        for body in ["!", "QQ", "QR==", "QQ==\n"] {
            let request = changed(|event| {
                event["isBase64Encoded"] = json!(true);
                event["body"] = json!(body);
            });
            assert!(request.body().is_empty(), "{body:?}");
        }
    }
}
