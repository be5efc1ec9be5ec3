//! The order of a registration, so that a crash, a refusal or a lost answer at any point leaves nothing that the same
//! request does not finish: count the attempt, check, store as pending, REGISTER, activate.
//!
//! Not here: HTTP, and any private key. This function can have REGISTER signed, never an UPDATE.

use crate::config::ServiceLimits;
use aws::kms::{DeploymentKey, WrappingKey};
use aws::metrics::{CallbackResult, Metric, Metrics};
use aws::store::{
    ATTEMPTS_PER_HANDOFF, HandoffUse, PendingRegistration, RegisteredTenant, Store, StoreError, WriteOutcome,
};
use aws::system::Nonce;
use callback::{Callback, Deliver, RetryPolicy, deliver};
use domain::check::{Observation, ProbeFailure};
use domain::clock::{Clock, whole_seconds};
use domain::handoff::{Handoff, HandoffError, Purpose};
use domain::id::{ServiceId, TenantId};
use domain::jws::{self, CallbackClaims, Subject};
use domain::key::{KeyError, TenantKey};
use domain::report::{Register, RegisteredService, VERSION};
use domain::response::{CallbackResponse, ResponseCode};
use domain::service::{Lifecycle, Service};
use domain::status::{self, Status};
use domain::target_url::TargetError;
use domain::tenant::{Tenant, TenantStatus};
use domain::tick::Period;
use jiff::Timestamp;
use probe::{Attempt, HttpProbe, TenantQuota};
use web::problem::{FieldError, Problem, handoff_problem};

use crate::input::Wanted;

/// How often a registration reads again and decides again because something changed in between. Each round is lost to a
/// request that got further, or to a round of checks, so a handful is plenty.
const ROUNDS: usize = 8;
/// Between these a client waits that Jira limits, in seconds.
const MIN_WAIT_S: u64 = 60;
const MAX_WAIT_S: u64 = 600;

/// A registration that Forge has accepted.
#[derive(Debug)]
pub struct Added {
    /// The service as stored, with its first check.
    pub service: Service,
    /// Its status.
    pub status: Status,
    /// Whether it was not active before.
    pub is_new: bool,
}

/// Why a registration ended without a service.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The hand-off is late, and bound to nothing that it could resume.
    #[error("hand-off refused: expired")]
    HandoffExpired,
    #[error("hand-off refused: used for another service")]
    HandoffUsed,
    /// The hand-off was tried as often as allowed.
    #[error("hand-off refused: all {ATTEMPTS_PER_HANDOFF} attempts are used")]
    AttemptsUsed,
    /// The service that the hand-off added is gone.
    #[error("hand-off refused: used for a service that was removed")]
    Removed,
    /// The name leads to an address that may not be probed, or that cannot be reached from here.
    #[error("target refused: {}", .0.code())]
    Target(TargetError),
    /// As many services as allowed.
    #[error("service limit reached: {0}")]
    Limit(&'static str),
    /// Forge's answer to REGISTER was no acceptance.
    #[error("callback not accepted: {}", .0.name())]
    Callback(CallbackResponse),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// KMS.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Too many others at once.
    #[error("in conflict with other writes again and again")]
    Busy,
}

/// Everything a registration needs.
pub(crate) struct Registrar<'a, K> {
    pub(crate) request_id: Option<&'a str>,
    pub(crate) store: &'a Store,
    pub(crate) deployment_key: &'a DeploymentKey,
    pub(crate) tenant_keys: &'a WrappingKey,
    pub(crate) callbacks: &'a K,
    pub(crate) probe: &'a HttpProbe,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) nonce: fn() -> Nonce,
    pub(crate) issuer: &'a str,
    pub(crate) limits: ServiceLimits,
    pub(crate) period: Period,
    pub(crate) metrics: &'a Metrics,
}

/// What is asked for, and by whom.
struct Request<'a> {
    handoff: &'a Handoff,
    wanted: &'a Wanted,
    tenant_id: TenantId,
    service_id: ServiceId,
}

impl<K: Deliver> Registrar<'_, K> {
    pub(crate) async fn register(
        &self,
        handoff: &Handoff,
        wanted: &Wanted,
    ) -> Result<Added, RegistrationError> {
        let tenant_id = handoff.tenant_id();
        let service_id = ServiceId::derive(&tenant_id, wanted.check.url.as_str());
        let request = Request { handoff, wanted, tenant_id, service_id };
        let resumes = self.check_use(&request).await?;
        if self.store.count_attempt(&handoff.reference).await? == WriteOutcome::Conflict {
            return Err(RegistrationError::AttemptsUsed);
        }

        let found = self.store.find(&request.tenant_id, self.clock.now()).await?;
        let mine = found.as_ref().and_then(|found| service_of(found, &request.service_id));
        if resumes && mine.is_none() {
            // Both were stored together. A page that is loaded again must not bring back what its owner has removed.
            return Err(RegistrationError::Removed);
        }
        let first =
            if mine.is_some_and(is_accepted) { None } else { Some(self.first_check(&request).await?) };

        let mut begun = self.begin(&request, found, resumes).await?;
        for _ in 0..ROUNDS {
            if begun.service.first.is_none() {
                begun.service.first.clone_from(&first);
            }
            self.send_register(handoff, &begun).await?;
            match self.activate(&request, begun).await? {
                Activation::Done(begun) => {
                    let status = begun.status();
                    let is_new = begun.service.lifecycle == Lifecycle::Pending;
                    return Ok(Added { service: begun.service, status, is_new });
                }
                // REGISTER named what is not stored any more.
                Activation::Lost(found) => {
                    begun = self.begin(&request, found.map(|found| *found), true).await?;
                }
            }
        }
        Err(RegistrationError::Busy)
    }

    /// Refuses early, before a check is made, what the transaction would refuse anyway. Returns whether the hand-off was used
    /// before, for the same service.
    async fn check_use(&self, request: &Request<'_>) -> Result<bool, RegistrationError> {
        let now = self.clock.now();
        let registration = HandoffUse {
            tenant_id: request.tenant_id.clone(),
            service_id: request.service_id.clone(),
            change: None,
        };
        match self.store.handoff_use(&request.handoff.reference.id, now).await? {
            Some(used) if used == registration => Ok(true),
            Some(_) => Err(RegistrationError::HandoffUsed),
            None if request.handoff.is_late(now) => Err(RegistrationError::HandoffExpired),
            None => Ok(false),
        }
    }

    /// The check before anything is stored, which decides whether the endpoint may be probed at all.
    async fn first_check(&self, request: &Request<'_>) -> Result<Observation, RegistrationError> {
        let Request { tenant_id: tenant, service_id: service, wanted: Wanted { check, .. }, .. } = request;
        let (first, refused) = self.probe.attempt(check, &TenantQuota::default(), Attempt::EXPECTED).await;
        match first.failure {
            None => {}
            // It is, or leads to, an address that is not public.
            Some(ProbeFailure::Blocked) => tracing::warn!(
                request.id = self.request_id,
                tenant.id = %tenant,
                service.id = %service,
                probe.outcome = ProbeFailure::Blocked.as_str(),
                "target blocked"
            ),
            Some(failure) => tracing::info!(
                request.id = self.request_id,
                tenant.id = %tenant,
                service.id = %service,
                probe.outcome = failure.as_str(),
                probe.attempts = first.attempts,
                probe.response_time_ms = first.response_time_ms,
                "service is not alive"
            ),
        }
        refused.map_or(Ok(first), |error| Err(RegistrationError::Target(error)))
    }

    /// Stores the pending registration. `resumes` says that it was stored before under the same hand-off: it is not stored
    /// again when it is gone since then.
    async fn begin(
        &self,
        request: &Request<'_>,
        mut found: Option<RegisteredTenant>,
        mut resumes: bool,
    ) -> Result<Begun, RegistrationError> {
        let Request { handoff, wanted, tenant_id, service_id } = request;
        for _ in 0..ROUNDS {
            let now = whole_seconds(self.clock.now());
            let mine = found.as_ref().and_then(|found| service_of(found, service_id)).cloned();
            if resumes && mine.is_none() {
                return Err(RegistrationError::Removed);
            }
            // Nobody knows whose an unreadable record is, so nobody replaces it; it counts like any other.
            let unreadable = found.as_ref().map_or(&[][..], |found| &found.unreadable);
            if unreadable.contains(service_id) {
                return Err(StoreError::Corrupt("the service's record cannot be read".into()).into());
            }
            let unreadable = unreadable.len();
            let (tenant, found_revision, services, state) = match found {
                Some(found) => (found.tenant, Some(found.revision), found.services, found.state),
                None => (self.new_tenant(handoff, now).await?, None, Vec::new(), status::State::default()),
            };
            let others: Vec<_> = services.into_iter().filter(|service| service.id != *service_id).collect();
            self.check_limits(handoff, &others, unreadable)?;

            let service = match &mine {
                // The same URL again returns the first registration, no matter who made it and how it was named.
                Some(accepted) if is_accepted(accepted) => accepted.clone(),
                pending => Service {
                    created_at: pending.as_ref().map_or(now, |pending| pending.created_at),
                    thresholds: wanted.thresholds,
                    ..Service::pending(
                        tenant_id,
                        wanted.name.clone(),
                        wanted.check.clone(),
                        handoff.owner.clone(),
                        now,
                    )
                },
            };
            let registration = PendingRegistration {
                tenant: &tenant,
                found_revision,
                found: mine.as_ref(),
                service: &service,
                reference: &handoff.reference,
            };
            match self.store.begin_registration(&registration, now).await? {
                WriteOutcome::Applied => {
                    return Ok(Begun { tenant, service, others: accepted(others), state });
                }
                WriteOutcome::Conflict => {
                    resumes |= self.check_use(request).await?;
                    found = self.store.find(tenant_id, self.clock.now()).await?;
                }
            }
        }
        Err(RegistrationError::Busy)
    }

    /// Forge has accepted what was begun. Whatever else changed meanwhile (a suspension, another registration, a pause) is
    /// read and decided on again.
    async fn activate(
        &self,
        request: &Request<'_>,
        mut begun: Begun,
    ) -> Result<Activation, RegistrationError> {
        for _ in 0..ROUNDS {
            let others =
                if begun.tenant.status == TenantStatus::Suspended { begun.others.as_slice() } else { &[] };
            let now = whole_seconds(self.clock.now());
            match self.store.activate(&begun.tenant, &begun.service, others, now).await? {
                WriteOutcome::Applied => return Ok(Activation::Done(Box::new(begun))),
                WriteOutcome::Conflict => {}
            }
            let found = self.store.find(&request.tenant_id, self.clock.now()).await?;
            let same = found.as_ref().and_then(|found| service_of(found, &request.service_id));
            let same = same.filter(|service| begun.is_same(service)).cloned();
            match (found, same) {
                (Some(found), Some(service)) if begun.is_key_of(&found.tenant) => {
                    let first = service.first.clone().or(begun.service.first);
                    begun = Begun {
                        tenant: found.tenant,
                        service: Service { first, ..service },
                        others: accepted(
                            found.services.into_iter().filter(|other| other.id != request.service_id),
                        ),
                        state: found.state,
                    };
                }
                (found, _) => return Ok(Activation::Lost(found.map(Box::new))),
            }
        }
        Err(RegistrationError::Busy)
    }

    fn check_limits(
        &self,
        handoff: &Handoff,
        others: &[Service],
        unreadable: usize,
    ) -> Result<(), RegistrationError> {
        if others.len() + unreadable >= self.limits.per_tenant {
            return Err(RegistrationError::Limit("per site"));
        }
        // What Forge has not accepted counts against the site, which bounds what is stored, and not against the person,
        // who cannot see it.
        let mine =
            |service: &&Service| service.owner == handoff.owner && service.lifecycle != Lifecycle::Pending;
        if others.iter().filter(mine).count() >= self.limits.per_owner {
            return Err(RegistrationError::Limit("per person"));
        }
        Ok(())
    }

    async fn new_tenant(&self, handoff: &Handoff, now: Timestamp) -> Result<Tenant, KeyError> {
        let context =
            domain::key::KeyContext { cloud_id: handoff.cloud_id.clone(), tenant_id: handoff.tenant_id() };
        let (public_key, wrapped_key) = self.tenant_keys.make_key(&context).await?;
        tracing::info!(
            request.id = self.request_id,
            tenant.id = %context.tenant_id,
            key.id = %public_key.kid(),
            "tenant key made"
        );
        Ok(Tenant {
            cloud_id: handoff.cloud_id.clone(),
            trigger_url: handoff.trigger_url.clone(),
            key: TenantKey { public: public_key, wrapped: wrapped_key, made_at: now },
            next_key: None,
            status: TenantStatus::Pending,
            created_at: now,
            registered_at: None,
        })
    }

    /// Sends REGISTER, signed by the deployment key.
    async fn send_register(&self, handoff: &Handoff, begun: &Begun) -> Result<(), RegistrationError> {
        let (tenant, service) = (&begun.tenant, &begun.service);
        let tenant_id = tenant.id();
        let now = whole_seconds(self.clock.now());
        let message = Register {
            version: VERSION,
            cloud_id: &tenant.cloud_id,
            tenant_id: &tenant_id,
            sent_at: now,
            period_s: self.period.duration().as_secs(),
            jwk: tenant.key.public.jwk(),
            handoff: &handoff.token,
            service: RegisteredService {
                id: &service.id,
                name: &service.name,
                url: service.check.url.as_str(),
                // Who asks now: the app compares it with its own hand-off, also when another person added the service.
                owner: &handoff.owner,
                added_by: &service.owner,
                status: begun.status(),
                check: service.first.as_ref(),
            },
        };
        let body = serde_json::to_vec(&message).map_err(|error| KeyError::Refused(Box::new(error)))?;
        let jti = data_encoding::HEXLOWER.encode(&(self.nonce)());
        let subject = Subject { cloud_id: &tenant.cloud_id, tenant_id: &tenant_id, scope: "health:register" };
        let claims = CallbackClaims::new(self.issuer, subject, jti, &body, now);
        let token = jws::sign("forge-callback+jwt", &claims, self.deployment_key).await?;
        let callback =
            Callback { trigger: &tenant.trigger_url, token: &token, body: &body, is_expected: true };
        let (answer, attempts) =
            deliver(self.callbacks, callback, RetryPolicy::REGISTER, tenant_id.seed()).await;
        tracing::info!(
            request.id = self.request_id,
            tenant.id = %tenant_id,
            service.id = %service.id,
            callback.answer = answer.name(),
            callback.attempts = attempts,
            "REGISTER sent"
        );
        if let Some(result) = CallbackResult::of_registration(&answer) {
            self.metrics.put(Metric::Callbacks(result), 1, self.clock.now());
        }
        if answer.is_acceptance() { Ok(()) } else { Err(RegistrationError::Callback(answer)) }
    }
}

/// A registration that is stored and waits for Forge, or is repeated, as it was read or stored.
struct Begun {
    tenant: Tenant,
    service: Service,
    /// The tenant's other services that Forge has accepted. What it has not accepted keeps its end.
    others: Vec<ServiceId>,
    state: status::State,
}

/// What became of a registration that Forge has accepted.
enum Activation {
    /// It is checked from now on.
    Done(Box<Begun>),
    /// It is not there any more, or another one is in its place, or the tenant has another key. With the tenant as it is now.
    Lost(Option<Box<RegisteredTenant>>),
}

impl Begun {
    /// A service that was paused since the last tick is so already.
    fn status(&self) -> Status {
        match self.service.lifecycle {
            Lifecycle::Paused => Status::Paused,
            Lifecycle::Pending | Lifecycle::Active => status::current(&self.state, &self.service).status,
        }
    }

    /// Whether the tenant's key is still the one that REGISTER named, or the one that was to follow it: the app, which knows
    /// that one already, has then kept both.
    fn is_key_of(&self, tenant: &Tenant) -> bool {
        let next = self.tenant.next_key.as_ref().map(|next| &next.key);
        tenant.key == self.tenant.key || next == Some(&tenant.key)
    }

    /// Whether a service is still the one that REGISTER named, in whatever state.
    fn is_same(&self, service: &Service) -> bool {
        (&service.owner, service.created_at) == (&self.service.owner, self.service.created_at)
    }
}

fn service_of<'a>(found: &'a RegisteredTenant, id: &ServiceId) -> Option<&'a Service> {
    found.services.iter().find(|service| service.id == *id)
}

/// Whether Forge has accepted it.
fn is_accepted(service: &Service) -> bool {
    service.lifecycle != Lifecycle::Pending
}

fn accepted(services: impl IntoIterator<Item = Service>) -> Vec<ServiceId> {
    services.into_iter().filter(is_accepted).map(|service| service.id).collect()
}

impl RegistrationError {
    /// What the person is told, and how to go on.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::HandoffExpired => handoff_problem(&HandoffError::Expired, Purpose::Register),
            Self::HandoffUsed => {
                let detail =
                    "It has been used for another service. Go back to Jira and press “Add service” again.";
                Problem::new(401, "HANDOFF_USED", "This link has been used", detail)
            }
            Self::AttemptsUsed => {
                let detail = "It can be tried ten times. Go back to Jira, open the Health Monitor page and press “Add service” \
                              again: that gives you a new one.";
                Problem::new(429, "ATTEMPTS_USED", "This link has been tried too often", detail)
            }
            Self::Removed => {
                let detail = "The service that it added has been removed. Go back to Jira and press “Add service” again.";
                Problem::new(401, "HANDOFF_USED", "This link has been used", detail)
            }
            Self::Target(refusal) => {
                let error = FieldError { field: "url", message: refusal.to_string() };
                Problem::fields(403, "TARGET_NOT_ALLOWED", vec![error])
            }
            Self::Limit(which) => {
                let detail = format!(
                    "The number of services {which} is limited, including those that wait for Jira (at most a day). \
                     Tell the people who run this monitor if you need more."
                );
                Problem::new(409, "SERVICE_LIMIT", "There are as many services as allowed", detail)
            }
            Self::Callback(answer) => refused_by_forge(answer),
            Self::Store(StoreError::Unavailable(_)) | Self::Key(KeyError::Unavailable(_)) | Self::Busy => {
                Problem::busy()
            }
            Self::Store(_) | Self::Key(_) => Problem::internal(),
        }
    }
}

fn refused_by_forge(answer: &CallbackResponse) -> Problem {
    match answer {
        CallbackResponse::App(ResponseCode::HandoffInvalid | ResponseCode::HandoffUsed) => {
            let detail = "Go back to Jira, open the Health Monitor page and press “Add service” again.";
            Problem::new(403, "REFUSED_BY_FORGE", "Jira did not accept this link", detail)
        }
        CallbackResponse::App(
            ResponseCode::BadRequest | ResponseCode::TooLarge | ResponseCode::KeyConflict,
        ) => {
            let detail = "Sending it again will not help. Tell the people who run this monitor.";
            Problem::new(403, "REFUSED_BY_FORGE", "Jira did not accept the service", detail)
        }
        CallbackResponse::App(
            ResponseCode::Unauthorized | ResponseCode::Unregistered | ResponseCode::NotConfigured,
        ) => {
            let detail = "The app in Jira does not trust this backend, or is not configured: its BACKEND_URL or \
                          BACKEND_PUBLIC_KEY may be wrong. Tell your Jira administrator, then send the form again.";
            Problem::new(502, "NOT_TRUSTED_BY_FORGE", "Jira did not accept the service", detail)
        }
        CallbackResponse::Platform { status: 404 | 410, .. } => {
            let detail = "Jira knows no web trigger under the address of this link: the app has been uninstalled, or installed again \
                          since. Go back to Jira, open the Health Monitor page and press “Add service” again.";
            Problem::new(502, "TRIGGER_GONE", "The app is not installed there any more", detail)
        }
        CallbackResponse::Platform { status: 429, retry_after } => {
            let wait_s = retry_after.map_or(MIN_WAIT_S, |wait| wait.as_secs()).clamp(MIN_WAIT_S, MAX_WAIT_S);
            let detail = "The app has had as many requests as Jira allows for now. Wait a minute, then send the form again. \
                          It will not be added twice.";
            let problem = Problem::new(503, "FORGE_LIMITS_REQUESTS", "Jira limits requests", detail);
            Problem { retry_after_s: u32::try_from(wait_s).ok(), ..problem }
        }
        _ => {
            let detail = "Send the form again in a moment. It will not be added twice.";
            Problem::new(502, "NO_ANSWER_FROM_FORGE", "Jira did not answer", detail)
        }
    }
}
