//! `POST /addedMonitorService`: what the registration form sends.
//!
//! HTTP in and out is here, the order of a registration in `registration`, the fields in `input`.

use std::time::Duration;

use lambda_http::http::Method;
use lambda_http::{Body, Request, RequestExt as _, Response};
use serde_json::json;
use shared::callback::http::Deliver;
use shared::clock::{Clock, Nonce};
use shared::config::ServiceLimits;
use shared::handoff::{Handoff, HandoffRule};
use shared::key::{MakeKey, Sign};
use shared::metrics::{Metric, Metrics, RegistrationResult};
use shared::page;
use shared::probe::{HttpProbe, Policy};
use shared::problem::Problem;
use shared::response::{self, Format};
use shared::store::Registrations;
use shared::telemetry::Chain;

mod input;
mod registration;

pub use registration::{Added, NotAdded};

use input::Fields;
use registration::Registrar;

/// A second less than the function's 29 s, so that a person gets an answer of ours and not API Gateway's.
const TIME_LIMIT: Duration = Duration::from_secs(28);

/// Answers the route.
pub struct AddService<S, D, M, K, C> {
    /// Rules for hand-offs; its audience is `BACKEND_URL`.
    pub handoffs: HandoffRule,
    /// What may be monitored.
    pub policy: Policy,
    /// How many services there may be.
    pub limits: ServiceLimits,
    /// Tenants and services.
    pub store: S,
    /// Signs REGISTER.
    pub deployment_key: D,
    /// Makes tenant keys.
    pub tenant_keys: M,
    /// Sends REGISTER.
    pub callbacks: K,
    /// Makes the first check.
    pub probe: HttpProbe<C>,
    /// The time.
    pub clock: C,
    /// Randomness for the `jti` of REGISTER.
    pub nonce: fn() -> Nonce,
    /// Counts registrations and their callbacks.
    pub metrics: Metrics,
}

impl<S: Registrations, D: Sign, M: MakeKey, K: Deliver, C: Clock> AddService<S, D, M, K, C> {
    /// One request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let response = self.respond(request).await;
        let result = match response.status().as_u16() {
            200..=299 => RegistrationResult::Accepted,
            400..=499 => RegistrationResult::Refused,
            _ => RegistrationResult::Failed,
        };
        self.metrics.put(Metric::Registrations(result), 1, self.clock.now());
        response
    }

    async fn respond(&self, request: Request) -> Response<Body> {
        let format = Format::accepted(request.headers());
        let route =
            request.raw_http_path().rsplit_once('/').is_some_and(|(_, last)| last == "addedMonitorService");
        if request.method() != Method::POST || !route {
            return response::not_found(format);
        }
        let (fields, handoff) = match self.read(&request) {
            Ok(read) => read,
            Err(problem) => {
                tracing::warn!(
                    http.status = problem.status,
                    problem.code = problem.code,
                    "registration refused"
                );
                return response::problem(&problem, format, || page::notice(&problem, None));
            }
        };
        let outcome = match fields.validate(&self.policy) {
            Ok(wanted) => {
                match tokio::time::timeout(TIME_LIMIT, self.registrar().register(&handoff, wanted)).await {
                    Ok(Ok(added)) => Ok(added),
                    Ok(Err(error)) => Err(Self::report(&handoff, &error)),
                    Err(_) => Err(out_of_time()),
                }
            }
            Err(problem) => Err(problem),
        };
        match outcome {
            Ok(added) => Self::answer(&handoff, &added, format),
            Err(problem) => {
                tracing::warn!(
                    tenant.id = %handoff.tenant_id(),
                    http.status = problem.status,
                    problem.code = problem.code,
                    "registration refused"
                );
                response::problem(&problem, format, || {
                    // Only a person who can change something, or send it again, gets the form again.
                    if problem.status == 401 || problem.code == "REFUSED_BY_FORGE" {
                        page::notice(&problem, handoff.callback_url.as_ref())
                    } else {
                        page::register(&fields.form_input(), &handoff, Some(&problem))
                    }
                })
            }
        }
    }

    fn read(&self, request: &Request) -> Result<(Fields, Handoff), Problem> {
        // Another site's page must not send our form; browsers that say where a request comes from are believed.
        if request.headers().get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
            let detail = "Go back to Jira and press “Add service” again.";
            return Err(Problem::new(403, "CROSS_SITE", "This form was sent from another site", detail));
        }
        let fields = Fields::read(request.headers(), request.body())?;
        let handoff = self.handoffs.read(&fields.handoff_params(), self.clock.now()).map_err(|error| {
            tracing::warn!(%error, "hand-off refused");
            error.problem()
        })?;
        Ok((fields, handoff))
    }

    fn registrar(&self) -> Registrar<'_, S, D, M, K, C> {
        Registrar {
            store: &self.store,
            deployment_key: &self.deployment_key,
            tenant_keys: &self.tenant_keys,
            callbacks: &self.callbacks,
            probe: &self.probe,
            clock: &self.clock,
            nonce: self.nonce,
            issuer: &self.handoffs.audience,
            limits: self.limits,
            metrics: &self.metrics,
        }
    }

    fn report(handoff: &Handoff, error: &NotAdded) -> Problem {
        let problem = error.problem();
        let tenant_id = handoff.tenant_id();
        if problem.status >= 500 {
            tracing::error!(tenant.id = %tenant_id, error = %Chain(error), "registration failed");
        } else {
            tracing::warn!(tenant.id = %tenant_id, %error, "registration not carried out");
        }
        problem
    }

    fn answer(handoff: &Handoff, added: &Added, format: Format) -> Response<Body> {
        let status = if added.is_new { 201 } else { 200 };
        let service = &added.service;
        tracing::info!(
            tenant.id = %handoff.tenant_id(),
            service.id = %service.id,
            service.status = ?added.status,
            http.status = status,
            "service registered"
        );
        match format {
            Format::Html => {
                response::html(status, page::added(service, added.is_new, handoff.callback_url.as_ref()))
            }
            Format::Json => {
                let mut document = json!({
                    "tenantId": handoff.tenant_id(),
                    "service": {
                        "id": service.id,
                        "name": service.name,
                        "url": service.check.url,
                        "method": service.check.method,
                        "expectedStatus": service.check.expected_status,
                        "timeoutMs": service.check.timeout_ms,
                        "downAfter": service.thresholds.down_after,
                        "aliveAfter": service.thresholds.alive_after,
                        "status": added.status,
                    }
                });
                if let Some(first) = &service.first {
                    document["service"]["check"] = json!(first);
                }
                response::json(status, document.to_string())
            }
        }
    }
}

fn out_of_time() -> Problem {
    let detail = "Send the form again in a moment. It will not be added twice.";
    let problem = Problem::new(503, "OUT_OF_TIME", "That took too long", detail);
    Problem { retry_after_s: Some(5), ..problem }
}
