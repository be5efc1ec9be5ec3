//! `POST /addedMonitorService`: what the registration form sends. `POST /managedMonitorService`: what the page to remove,
//! pause or resume a service sends.
//!
//! HTTP in and out is here, the order of a registration in `registration`, of a change in `management`, the fields in `input`.

use std::sync::Arc;
use std::time::Duration;

use crate::config::ServiceLimits;
use aws::kms::{DeploymentKey, WrappingKey};
use aws::metrics::{Metric, Metrics, RegistrationResult};
use aws::store::Store;
use aws::system::Nonce;
use aws::telemetry::ErrorChain;
use callback::Deliver;
use domain::clock::Clock;
use domain::handoff::{Handoff, HandoffError, HandoffPolicy, Management, Purpose};
use domain::id::TenantId;
use domain::target_url::{TargetError, TargetPolicy};
use domain::tick::Period;
use lambda_http::http::Method;
use lambda_http::{Body, Request, RequestExt as _, Response};
use probe::HttpProbe;
use serde_json::json;
use web::form::{self, Form};
use web::gateway;
use web::page;
use web::problem::{Problem, handoff_problem};
use web::response::{self, Format};

mod begun;
pub mod config;
mod input;
mod management;
mod registration;
mod registration_error;

pub use registration::Added;
pub use registration_error::RegistrationError;

use input::Invalid;
use registration::Registrar;

/// A second less than the function's 29 s, so that a person gets an answer of ours and not API Gateway's.
const TIME_LIMIT: Duration = Duration::from_secs(28);

/// Answers the two routes.
pub struct AddService<K> {
    /// Rules for hand-offs; its audience is `BACKEND_URL`.
    pub handoffs: HandoffPolicy,
    /// What may be monitored.
    pub policy: TargetPolicy,
    /// How many services there may be.
    pub limits: ServiceLimits,
    /// How often Jira gets a report.
    pub period: Period,
    /// Tenants and services.
    pub store: Store,
    /// Signs REGISTER.
    pub deployment_key: DeploymentKey,
    /// Makes tenant keys.
    pub tenant_keys: WrappingKey,
    /// Sends REGISTER.
    pub callbacks: K,
    /// Makes the first check.
    pub probe: HttpProbe,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for the `jti` of REGISTER.
    pub nonce: fn() -> Nonce,
    /// Counts registrations and their callbacks.
    pub metrics: Metrics,
}

impl<K: Deliver> AddService<K> {
    /// One request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        let format = Format::accepted(request.headers());
        let route = request.raw_http_path().rsplit_once('/').map_or("", |(_, last)| last);
        match (request.method(), route) {
            (&Method::POST, "addedMonitorService") => {
                let response = self.add(&request, format).await;
                let result = match response.status().as_u16() {
                    200..=299 => RegistrationResult::Accepted,
                    400..=499 => RegistrationResult::Refused,
                    _ => RegistrationResult::Failed,
                };
                self.metrics.put(Metric::Registrations(result), 1, self.clock.now());
                response
            }
            (&Method::POST, "managedMonitorService") => self.manage(&request, format).await,
            _ => response::not_found(format),
        }
    }

    async fn add(&self, request: &Request, format: Format) -> Response<Body> {
        let request_id = gateway::request_id(request);
        let (form, handoff) = match self.read(request) {
            Ok(read) => read,
            Err(refused) => {
                refused.log("registration", request_id, None, None);
                let problem = refused.problem;
                return response::problem(&problem, format, || page::notice(&problem, None));
            }
        };
        let outcome = match input::validate(&form, &self.policy) {
            Ok(wanted) => {
                let registrar = self.registrar(request_id);
                match tokio::time::timeout(TIME_LIMIT, registrar.register(&handoff, &wanted)).await {
                    Ok(Ok(added)) => Ok(added),
                    Ok(Err(error)) => Err(Refused {
                        problem: error.problem(),
                        error: Some(ErrorChain(&error).to_string()),
                        target: if let RegistrationError::Target(refusal) = error {
                            Some(refusal)
                        } else {
                            None
                        },
                    }),
                    Err(_) => Err(out_of_time()),
                }
            }
            Err(Invalid { problem, refusal }) => Err(Refused { target: refusal, ..problem.into() }),
        };
        match outcome {
            Ok(added) => Self::answer(request_id, &handoff, &added, format),
            Err(refused) => {
                refused.log("registration", request_id, Some(&handoff.tenant_id()), None);
                let problem = refused.problem;
                response::problem(&problem, format, || {
                    // Only a person who can change something, or send it again, gets the form again.
                    if matches!(problem.status, 401 | 429)
                        || ["REFUSED_BY_FORGE", "TRIGGER_GONE"].contains(&problem.code)
                    {
                        page::notice(&problem, handoff.return_url.as_ref())
                    } else {
                        page::register(&form, &handoff, Some(&problem))
                    }
                })
            }
        }
    }

    fn read(&self, request: &Request) -> Result<(Form, Handoff), Box<Refused>> {
        from_our_page(request)?;
        let form = Form::read(request.headers(), request.body(), form::SERVICE_FIELDS)?;
        let handoff = self.handoffs.read(form.given("handoff"), self.clock.now());
        let handoff = handoff.map_err(|error| Box::new(Refused::handoff(&error, Purpose::Register)))?;
        Ok((form, handoff))
    }

    async fn manage(&self, request: &Request, format: Format) -> Response<Body> {
        let request_id = gateway::request_id(request);
        let management = match self.read_management(request) {
            Ok(management) => management,
            Err(refused) => {
                refused.log("change", request_id, None, None);
                let problem = refused.problem;
                return response::problem(&problem, format, || page::notice(&problem, None));
            }
        };
        let (tenant_id, service_id) = (management.handoff.tenant_id(), &management.service_id);
        let change = management::change(&self.store, self.clock.as_ref(), self.period, &management);
        let refused = match tokio::time::timeout(TIME_LIMIT, change).await {
            Ok(Ok(next_report)) => {
                tracing::info!(
                    request.id = request_id,
                    tenant.id = %tenant_id,
                    service.id = %service_id,
                    service.change = management.change.as_str(),
                    http.status = 200,
                    "service changed"
                );
                return match format {
                    Format::Html => response::html(200, page::managed(&management, next_report)),
                    Format::Json => {
                        let service = json!({ "id": service_id });
                        let document =
                            json!({ "tenantId": tenant_id, "service": service, "change": management.change });
                        response::json(200, document.to_string())
                    }
                };
            }
            Ok(Err(error)) => {
                Refused { error: Some(ErrorChain(&error).to_string()), ..error.problem().into() }
            }
            Err(_) => out_of_time(),
        };
        refused.log("change", request_id, Some(&tenant_id), Some(&management));
        let problem = refused.problem;
        response::problem(&problem, format, || {
            // The button comes again only where pressing it again may help.
            if problem.status < 500 {
                page::notice(&problem, management.handoff.return_url.as_ref())
            } else {
                page::manage(&management, Some(&problem))
            }
        })
    }

    fn read_management(&self, request: &Request) -> Result<Management, Box<Refused>> {
        from_our_page(request)?;
        let form = Form::read(request.headers(), request.body(), form::CHANGE_FIELDS)?;
        let management = self.handoffs.read_management(form.given("handoff"), self.clock.now());
        management.map_err(|error| Box::new(Refused::handoff(&error, Purpose::Manage)))
    }

    fn registrar<'a>(&'a self, request_id: Option<&'a str>) -> Registrar<'a, K> {
        Registrar {
            request_id,
            store: &self.store,
            deployment_key: &self.deployment_key,
            tenant_keys: &self.tenant_keys,
            callbacks: &self.callbacks,
            probe: &self.probe,
            clock: self.clock.as_ref(),
            nonce: self.nonce,
            issuer: &self.handoffs.audience,
            limits: self.limits,
            period: self.period,
            metrics: &self.metrics,
        }
    }

    fn answer(request_id: Option<&str>, handoff: &Handoff, added: &Added, format: Format) -> Response<Body> {
        let status = if added.is_new { 201 } else { 200 };
        let service = &added.service;
        tracing::info!(
            request.id = request_id,
            tenant.id = %handoff.tenant_id(),
            service.id = %service.id,
            service.status = ?added.status,
            http.status = status,
            "service registered"
        );
        match format {
            Format::Html => {
                response::html(status, page::added(service, added.is_new, handoff.return_url.as_ref()))
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

/// Another site's page must not send our forms; browsers that say where a request comes from are believed.
fn from_our_page(request: &Request) -> Result<(), Problem> {
    if request.headers().get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        let detail = "Go back to Jira and start again from the Health Monitor page.";
        return Err(Problem::new(403, "CROSS_SITE", "This form was sent from another site", detail));
    }
    Ok(())
}

/// Why nothing was done: what the sender is told, and what is only logged.
struct Refused {
    problem: Problem,
    error: Option<String>,
    /// Which rule refused the target.
    target: Option<TargetError>,
}

impl Refused {
    fn handoff(error: &HandoffError, purpose: Purpose) -> Self {
        Self { error: Some(error.to_string()), ..handoff_problem(error, purpose).into() }
    }

    /// The one line of a request that did nothing: the sender's mistake, or one that an operator must look at. `what` is
    /// a registration or a change.
    fn log(
        &self,
        what: &str,
        request_id: Option<&str>,
        tenant_id: Option<&TenantId>,
        management: Option<&Management>,
    ) {
        let Problem { status, code, .. } = self.problem;
        let tenant_id = tenant_id.map(tracing::field::display);
        let service_id = management.map(|management| tracing::field::display(&management.service_id));
        let change = management.map(|management| management.change.as_str());
        let error = self.error.as_deref();
        let refusal = self.target.map(TargetError::code);
        let range = self.target.and_then(TargetError::range);
        if status >= 500 {
            tracing::error!(
                request.id = request_id,
                tenant.id = tenant_id,
                service.id = service_id,
                service.change = change,
                http.status = status,
                problem.code = code,
                error,
                "{what} failed"
            );
        } else {
            tracing::warn!(
                request.id = request_id,
                tenant.id = tenant_id,
                service.id = service_id,
                service.change = change,
                http.status = status,
                problem.code = code,
                target.refusal = refusal,
                target.range = range,
                error,
                "{what} refused"
            );
        }
    }
}

impl From<Problem> for Box<Refused> {
    fn from(problem: Problem) -> Self {
        Self::new(problem.into())
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem, error: None, target: None }
    }
}

fn out_of_time() -> Refused {
    let detail = "Send the form again in a moment. Nothing will be done twice.";
    let problem = Problem::new(503, "OUT_OF_TIME", "That took too long", detail);
    let error = format!("not done within {} s", TIME_LIMIT.as_secs());
    Refused { error: Some(error), ..Problem { retry_after_s: Some(5), ..problem }.into() }
}
