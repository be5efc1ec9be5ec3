//! `GET /register`: the registration page. `GET /manage`: the page to remove, pause or resume a service.
//! `GET /.well-known/jwks.json`: the deployment key's public half. `GET /style.css`: the stylesheet that the pages' policy
//! allows.
//!
//! Not here: any access to stored data. Whether a hand-off was used before, and whose a service is, is decided when
//! the form is sent.

use std::sync::Arc;

use aws::kms::DeploymentKey;
use aws::telemetry::ErrorChain;
use domain::clock::Clock;
use domain::handoff::{Handoff, HandoffError, HandoffPolicy, Purpose};
use domain::key::{Jwks, KeyError, Sign as _};
use jiff::Timestamp;
use lambda_http::http::Method;
use lambda_http::{Body, Request, RequestExt as _, Response};
use web::form::Form;
use web::gateway::request_id;
use web::page;
use web::problem::{Problem, handoff_problem};
use web::response::{self, Format};

pub mod config;

/// How long the key set may be cached: short, so that an announced second key is seen within minutes.
const JWKS_CACHE: &str = "public, max-age=300";
/// The stylesheet changes only with a deployment.
const STYLE_CACHE: &str = "public, max-age=3600";

/// Answers the four routes.
pub struct Register {
    /// Rules for hand-offs.
    pub handoffs: HandoffPolicy,
    /// The deployment key.
    pub deployment_key: DeploymentKey,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Register {
    /// One request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let format = Format::accepted(request.headers());
        match (request.method(), request.raw_http_path().rsplit_once('/').map_or("", |(_, last)| last)) {
            (&Method::GET, "register") => self.register(&request, format),
            (&Method::GET, "manage") => self.manage(&request, format),
            (&Method::GET, "jwks.json") => self.jwks(&request, format).await,
            (&Method::GET, "style.css") => {
                response::answer(200, "text/css; charset=utf-8", STYLE_CACHE, page::STYLE)
            }
            _ => response::not_found(format),
        }
    }

    fn register(&self, request: &Request, format: Format) -> Response<Body> {
        let now = self.clock.now();
        let read = token(request).and_then(|token| {
            // A late hand-off only resumes what it is bound to, and that is a form that was sent before.
            timely(self.handoffs.read(token.as_deref(), now)?, now)
        });
        match read {
            Ok(handoff) => {
                tracing::info!(
                    request.id = request_id(request),
                    tenant.id = %handoff.tenant_id(),
                    "registration page shown"
                );
                response::html(200, page::register(&Form::default(), &handoff, None))
            }
            Err(error) => refuse(request, format, &error, Purpose::Register),
        }
    }

    fn manage(&self, request: &Request, format: Format) -> Response<Body> {
        let now = self.clock.now();
        let read = token(request).and_then(|token| {
            let management = self.handoffs.read_management(token.as_deref(), now)?;
            timely(management.handoff.clone(), now)?;
            Ok(management)
        });
        match read {
            Ok(management) => {
                tracing::info!(
                    request.id = request_id(request),
                    tenant.id = %management.handoff.tenant_id(),
                    service.id = %management.service_id,
                    service.change = management.change.as_str(),
                    "management page shown"
                );
                response::html(200, page::manage(&management, None))
            }
            Err(error) => refuse(request, format, &error, Purpose::Manage),
        }
    }

    async fn jwks(&self, request: &Request, format: Format) -> Response<Body> {
        match self.deployment_key.public_key().await {
            Ok(key) => {
                let keys = Jwks { keys: vec![key.jwk()] };
                let document = serde_json::to_string(&keys).unwrap_or_default();
                response::answer(200, "application/jwk-set+json", JWKS_CACHE, document)
            }
            Err(error) => {
                tracing::error!(
                    request.id = request_id(request),
                    error = %ErrorChain(&error),
                    "the deployment key's public half cannot be read"
                );
                let mut problem = Problem::new(
                    503,
                    "UNAVAILABLE",
                    "The key set is not available right now",
                    "Try again in a minute.",
                );
                problem.retry_after_s = matches!(error, KeyError::Unavailable(_)).then_some(60);
                response::problem(&problem, format, || page::notice(&problem, None))
            }
        }
    }
}

/// The link's hand-off. Anything else in a link is ignored.
fn token(request: &Request) -> Result<Option<String>, HandoffError> {
    let query = request.query_string_parameters();
    match query.all("handoff").as_deref() {
        None => Ok(None),
        Some([token]) => Ok(Some((*token).to_owned())),
        Some(_) => Err(HandoffError::Repeated),
    }
}

fn timely(handoff: Handoff, now: Timestamp) -> Result<Handoff, HandoffError> {
    if handoff.is_late(now) { Err(HandoffError::Expired) } else { Ok(handoff) }
}

fn refuse(request: &Request, format: Format, error: &HandoffError, purpose: Purpose) -> Response<Body> {
    let problem = handoff_problem(error, purpose);
    tracing::warn!(
        request.id = request_id(request),
        http.status = problem.status,
        problem.code = problem.code,
        %error,
        "hand-off refused"
    );
    response::problem(&problem, format, || page::notice(&problem, None))
}
