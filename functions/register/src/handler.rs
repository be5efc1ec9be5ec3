//! `GET /register`: the registration page. `GET /.well-known/jwks.json`: the deployment key's public half.
//! `GET /style.css`: the stylesheet that the pages' policy allows.
//!
//! Deliberately absent: any access to stored data. Whether a hand-off was used before is decided when the form is sent.

use lambda_http::http::Method;
use lambda_http::{Body, Request, RequestExt as _, Response};
use shared::clock::Clock;
use shared::handoff::{HandoffError, HandoffParams, HandoffRule};
use shared::key::{Jwks, KeyError, Sign};
use shared::page::{self, FormInput};
use shared::problem::Problem;
use shared::response::{self, Format};
use shared::telemetry::Chain;

/// How long the key set may be cached: short, so that an announced second key is seen within minutes.
const JWKS_CACHE: &str = "public, max-age=300";
/// The stylesheet changes only with a deployment.
const STYLE_CACHE: &str = "public, max-age=3600";

/// Answers the three routes.
pub struct Register<K, C> {
    /// Rules for hand-offs.
    pub handoffs: HandoffRule,
    /// The deployment key.
    pub deployment_key: K,
    /// The time.
    pub clock: C,
}

impl<K: Sign, C: Clock> Register<K, C> {
    /// One request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let format = Format::accepted(request.headers());
        match (request.method(), request.raw_http_path().rsplit_once('/').map_or("", |(_, last)| last)) {
            (&Method::GET, "register") => self.page(&request, format),
            (&Method::GET, "jwks.json") => self.jwks(format).await,
            (&Method::GET, "style.css") => {
                response::answer(200, "text/css; charset=utf-8", STYLE_CACHE, page::STYLE)
            }
            _ => response::not_found(format),
        }
    }

    fn page(&self, request: &Request, format: Format) -> Response<Body> {
        let query = request.query_string_parameters();
        let get = |name: &str| query.first(name).map(ToOwned::to_owned);
        let params = HandoffParams {
            cloud_id: get("cloudId"),
            account_id: get("accountId"),
            trigger_url: get("triggerUrl"),
            callback_url: get("callbackUrl"),
            handoff: get("handoff"),
        };
        let now = self.clock.now();
        let read = self.handoffs.read(&params, now).and_then(|handoff| {
            // A late hand-off only resumes what it is bound to, and that is a form that was sent before.
            if handoff.is_late(now) { Err(HandoffError::Expired) } else { Ok(handoff) }
        });
        match read {
            Ok(handoff) => {
                let input = FormInput {
                    cloud_id: handoff.cloud_id.to_string(),
                    account_id: handoff.owner.to_string(),
                    trigger_url: handoff.trigger_url.as_str().to_owned(),
                    callback_url: params.callback_url.unwrap_or_default(),
                    handoff: handoff.token.clone().unwrap_or_default(),
                    ..FormInput::default()
                };
                tracing::info!(tenant.id = %handoff.tenant_id(), "registration page shown");
                response::html(200, page::register(&input, &handoff, None))
            }
            Err(error) => {
                tracing::warn!(%error, "hand-off refused");
                let problem = error.problem();
                response::problem(&problem, format, || page::notice(&problem, None))
            }
        }
    }

    async fn jwks(&self, format: Format) -> Response<Body> {
        match self.deployment_key.public_key().await {
            Ok(key) => {
                let keys = Jwks { keys: vec![key.jwk()] };
                let document = serde_json::to_string(&keys).unwrap_or_default();
                response::answer(200, "application/jwk-set+json", JWKS_CACHE, document)
            }
            Err(error) => {
                tracing::error!(
                    error = %Chain(&error),
                    "the deployment key's public half is not to be had"
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
