//! HTTP answers: the headers that every answer carries, and a page or JSON by what the client accepts.

use lambda_http::http::HeaderMap;
use lambda_http::http::header::{ACCEPT, RETRY_AFTER};
use lambda_http::{Body, Response};

use crate::page;
use crate::problem::Problem;

/// Headers of every answer. No page of ours is framed, cached, indexed by its referrer or allowed to load anything.
const HEADERS: [(&str, &str); 5] = [
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("cross-origin-opener-policy", "same-origin"),
    ("strict-transport-security", "max-age=63072000"),
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
];

/// Whether a client wants a page or a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A browser.
    Html,
    /// Everything else.
    Json,
}

impl Format {
    /// A page for a client that names `text/html` in `Accept`.
    #[must_use]
    pub fn accepted(headers: &HeaderMap) -> Self {
        let accepts = |value: &str| value.to_ascii_lowercase().contains("text/html");
        let html = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(accepts);
        if html { Self::Html } else { Self::Json }
    }
}

/// An answer of `content_type` with the headers of every answer; `cache_control` other than `no-store` only for what
/// is the same for everybody.
#[must_use]
pub fn answer(status: u16, content_type: &str, cache_control: &str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder()
        .status(status)
        .header("content-type", content_type)
        .header("cache-control", cache_control);
    for (name, value) in HEADERS {
        response = response.header(name, value);
    }
    response.body(body.into()).unwrap_or_default()
}

/// A page.
#[must_use]
pub fn html(status: u16, page: String) -> Response<Body> {
    answer(status, "text/html; charset=utf-8", "no-store", page)
}

/// A JSON document.
#[must_use]
pub fn json(status: u16, document: String) -> Response<Body> {
    answer(status, "application/json", "no-store", document)
}

/// A problem in the client's format; `page` draws it for a browser.
#[must_use]
pub fn problem(problem: &Problem, format: Format, page: impl FnOnce() -> String) -> Response<Body> {
    let mut response = match format {
        Format::Html => html(problem.status, page()),
        Format::Json => answer(problem.status, "application/problem+json", "no-store", problem.to_json()),
    };
    if let Some(seconds) = problem.retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// A method or path that does not exist.
#[must_use]
pub fn not_found(format: Format) -> Response<Body> {
    let missing =
        Problem::new(404, "NOT_FOUND", "There is nothing here", "Go back to Jira and press “Add service”.");
    problem(&missing, format, || page::notice(&missing, None))
}
