//! The order of a registration, so that a crash, a refusal or a lost answer at any point leaves nothing that the same
//! request does not finish: check, store as pending, REGISTER, activate.
//!
//! Deliberately absent: HTTP, and any private key. This function can have REGISTER signed, never an UPDATE.

use jiff::Timestamp;
use shared::callback::http::{Deliver, Patience, deliver};
use shared::callback::message::{Register, RegisteredService, VERSION};
use shared::callback::token::{self, CallbackClaims};
use shared::callback::{Answer, Code};
use shared::clock::{Clock, Nonce, whole_seconds};
use shared::config::ServiceLimits;
use shared::handoff::{Handoff, HandoffError, Purpose};
use shared::id::{ServiceId, TenantId};
use shared::key::{KeyError, MakeKey, Sign, TenantKey};
use shared::metrics::{CallbackResult, Metric, Metrics};
use shared::probe::{AttemptKind, Check, Failure, HttpProbe, Observation, Probe as _, Refusal, TenantQuota};
use shared::problem::{FieldError, Problem};
use shared::service::{Activity, Service};
use shared::status::{self, Status};
use shared::store::{Bound, Entered, Entry, Registered, Registrations, StoreError};
use shared::tenant::{Tenant, TenantStatus};

use crate::input::Wanted;

/// How often a registration starts anew because somebody else registered at the same time. Each round is lost to
/// somebody who got further, so a handful is plenty.
const ROUNDS: usize = 8;

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
pub enum NotAdded {
    /// The hand-off is used, or late and bound to nothing.
    #[error("hand-off refused: {0}")]
    Handoff(&'static str),
    /// The name leads to an address that may not be probed, or that cannot be reached from here.
    #[error("target refused: {}", .0.code())]
    Target(Refusal),
    /// As many services as allowed.
    #[error("service limit reached: {0}")]
    Limit(&'static str),
    /// Forge's answer to REGISTER was no acceptance.
    #[error("callback not accepted: {}", .0.name())]
    Callback(Answer),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// KMS.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Too many others at once.
    #[error("overtaken by other registrations again and again")]
    Busy,
}

/// Everything a registration needs.
pub(crate) struct Registrar<'a, S, D, M, K, C> {
    pub(crate) request_id: Option<&'a str>,
    pub(crate) store: &'a S,
    pub(crate) deployment_key: &'a D,
    pub(crate) tenant_keys: &'a M,
    pub(crate) callbacks: &'a K,
    pub(crate) probe: &'a HttpProbe<C>,
    pub(crate) clock: &'a C,
    pub(crate) nonce: fn() -> Nonce,
    pub(crate) issuer: &'a str,
    pub(crate) limits: ServiceLimits,
    pub(crate) metrics: &'a Metrics,
}

impl<S: Registrations, D: Sign, M: MakeKey, K: Deliver, C: Clock> Registrar<'_, S, D, M, K, C> {
    pub(crate) async fn register(&self, handoff: &Handoff, wanted: Wanted) -> Result<Added, NotAdded> {
        let tenant_id = handoff.tenant_id();
        let service_id = ServiceId::derive(&tenant_id, wanted.check.url.as_str());
        let resumes = self.check_binding(handoff, &tenant_id, &service_id).await?;

        let found = self.store.find(&tenant_id, self.clock.now()).await?;
        let mine = found.iter().flat_map(|found| &found.services).find(|service| service.id == service_id);
        if resumes && mine.is_none() {
            // Both were stored together. A page that is loaded again must not bring back what its owner has removed.
            return Err(NotAdded::Handoff("used for a service that was removed"));
        }
        let first = if mine.is_some_and(is_accepted) {
            None
        } else {
            Some(self.first_check((&tenant_id, &service_id), &wanted.check).await?)
        };

        let mut entered = self.enter(handoff, &tenant_id, &service_id, &wanted, found).await?;
        if entered.service.first.is_none() {
            entered.service.first.clone_from(&first);
        }
        self.introduce(handoff, &entered).await?;
        let others =
            if entered.tenant.status == TenantStatus::Suspended { entered.others.as_slice() } else { &[] };
        let now = whole_seconds(self.clock.now());
        self.store.activate(&entered.tenant, &entered.service, others, now).await?;

        let status = entered.status();
        let is_new = entered.service.activity == Activity::Pending;
        Ok(Added { service: entered.service, status, is_new })
    }

    /// Refuses early, before a check is made, what the transaction would refuse anyway. Returns whether the hand-off was used
    /// before, for the same service.
    async fn check_binding(
        &self,
        handoff: &Handoff,
        tenant: &TenantId,
        service: &ServiceId,
    ) -> Result<bool, NotAdded> {
        let now = self.clock.now();
        let registration = Bound { tenant_id: tenant.clone(), service_id: service.clone(), change: None };
        match self.store.bound_to(&handoff.binding.id, now).await? {
            Some(bound) if bound == registration => Ok(true),
            Some(_) => Err(NotAdded::Handoff("used for another service")),
            None if handoff.is_late(now) => Err(NotAdded::Handoff("expired")),
            None => Ok(false),
        }
    }

    /// The check before anything is stored, which decides whether the endpoint may be probed at all.
    async fn first_check(
        &self,
        (tenant, service): (&TenantId, &ServiceId),
        check: &Check,
    ) -> Result<Observation, NotAdded> {
        let first = self.probe.probe(check, &TenantQuota::default(), AttemptKind::First).await;
        match first.failure {
            None => {}
            // Somebody pointed us at an address that is not public.
            Some(Failure::Blocked) => tracing::warn!(
                request.id = self.request_id,
                tenant.id = %tenant,
                service.id = %service,
                probe.outcome = Failure::Blocked.as_str(),
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
        // Why a name is blocked or unreachable is known to the resolver; a person who typed it should be told.
        if matches!(first.failure, Some(Failure::Blocked | Failure::Connect)) {
            self.probe.explain(&check.url).await.map_err(NotAdded::Target)?;
        }
        if first.failure == Some(Failure::Blocked) {
            return Err(NotAdded::Target(Refusal::Address));
        }
        Ok(first)
    }

    /// Stores the pending registration, starting anew whenever somebody else changed the tenant in between.
    async fn enter(
        &self,
        handoff: &Handoff,
        tenant_id: &TenantId,
        service_id: &ServiceId,
        wanted: &Wanted,
        mut found: Option<Registered>,
    ) -> Result<EnteredService, NotAdded> {
        for _ in 0..ROUNDS {
            let now = whole_seconds(self.clock.now());
            let (tenant, found_count, services, state) = match found {
                Some(found) => (found.tenant, Some(found.service_count), found.services, found.state),
                None => (self.new_tenant(handoff, now).await?, None, Vec::new(), status::State::default()),
            };
            let (mine, others): (Vec<_>, Vec<_>) =
                services.into_iter().partition(|service| service.id == *service_id);
            self.check_limits(handoff, &others)?;
            let new_count = u32::try_from(others.len() + 1).unwrap_or(u32::MAX);
            // What Forge has not accepted keeps its end.
            let others = others.into_iter().filter(is_accepted).map(|service| service.id).collect();

            let mine = mine.into_iter().next();
            let service = match mine {
                // The same URL again returns the first registration, whoever made it and however it was named.
                Some(active) if active.activity != Activity::Pending => active,
                pending => Service {
                    created_at: pending.map_or(now, |pending| pending.created_at),
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
            let entry = Entry {
                tenant: &tenant,
                found_count,
                new_count,
                pending: (service.activity == Activity::Pending).then_some(&service),
                service_id,
                binding: &handoff.binding,
            };
            match self.store.enter(&entry, now).await? {
                Entered::Yes => return Ok(EnteredService { tenant, service, others, state }),
                Entered::HandoffUsed => return Err(NotAdded::Handoff("used for another service")),
                Entered::Overtaken => found = self.store.find(tenant_id, self.clock.now()).await?,
            }
        }
        Err(NotAdded::Busy)
    }

    fn check_limits(&self, handoff: &Handoff, others: &[Service]) -> Result<(), NotAdded> {
        if others.len() >= self.limits.per_tenant {
            return Err(NotAdded::Limit("per site"));
        }
        // What Forge has not accepted counts against the site, which bounds what is stored, and not against the person,
        // who cannot see it.
        let mine =
            |service: &&Service| service.owner == handoff.owner && service.activity != Activity::Pending;
        if others.iter().filter(mine).count() >= self.limits.per_owner {
            return Err(NotAdded::Limit("per person"));
        }
        Ok(())
    }

    async fn new_tenant(&self, handoff: &Handoff, now: Timestamp) -> Result<Tenant, KeyError> {
        let context =
            shared::key::KeyContext { cloud_id: handoff.cloud_id.clone(), tenant_id: handoff.tenant_id() };
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
    async fn introduce(&self, handoff: &Handoff, entered: &EnteredService) -> Result<(), NotAdded> {
        let (tenant, service) = (&entered.tenant, &entered.service);
        let tenant_id = tenant.id();
        let now = whole_seconds(self.clock.now());
        let message = Register {
            version: VERSION,
            cloud_id: &tenant.cloud_id,
            tenant_id: &tenant_id,
            sent_at: now,
            jwk: tenant.key.public.jwk(),
            handoff: &handoff.token,
            service: RegisteredService {
                id: &service.id,
                name: &service.name,
                url: service.check.url.as_str(),
                // Who asks now: the app compares it with its own hand-off, also when somebody else added the service.
                owner: &handoff.owner,
                added_by: &service.owner,
                status: entered.status(),
                check: service.first.as_ref(),
            },
        };
        let body = serde_json::to_vec(&message).map_err(|error| KeyError::Refused(Box::new(error)))?;
        let jti = data_encoding::HEXLOWER.encode(&(self.nonce)());
        let ids = (&tenant.cloud_id, &tenant_id);
        let claims = CallbackClaims::new(self.issuer, ids, "health:register", jti, &body, now);
        let token = token::sign("forge-callback+jwt", &claims, self.deployment_key).await?;
        let (answer, attempts) =
            deliver(self.callbacks, &tenant.trigger_url, &token, &body, Patience::REGISTER, tenant_id.seed())
                .await;
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
        if answer.is_acceptance() { Ok(()) } else { Err(NotAdded::Callback(answer)) }
    }
}

/// What the transaction stored or found.
struct EnteredService {
    tenant: Tenant,
    service: Service,
    others: Vec<ServiceId>,
    state: status::State,
}

impl EnteredService {
    /// A service that was paused since the last tick is so already.
    fn status(&self) -> Status {
        match self.service.activity {
            Activity::Paused => Status::Paused,
            Activity::Pending | Activity::Active => status::current(&self.state, &self.service).status,
        }
    }
}

/// Whether Forge has accepted it.
fn is_accepted(service: &Service) -> bool {
    service.activity != Activity::Pending
}

impl NotAdded {
    /// What the person is told, and how to go on.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Handoff("expired") => HandoffError::Expired.problem(Purpose::Register),
            Self::Handoff(_) => {
                let detail =
                    "It has been used for another service. Go back to Jira and press “Add service” again.";
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

fn refused_by_forge(answer: &Answer) -> Problem {
    match answer {
        Answer::App(Code::HandoffInvalid | Code::HandoffUsed) => {
            let detail = "Go back to Jira, open the Health Monitor page and press “Add service” again.";
            Problem::new(403, "REFUSED_BY_FORGE", "Jira did not accept this link", detail)
        }
        Answer::App(Code::BadRequest | Code::TooLarge | Code::KeyConflict) => {
            let detail = "Sending it again will not help. Tell the people who run this monitor.";
            Problem::new(403, "REFUSED_BY_FORGE", "Jira did not accept the service", detail)
        }
        Answer::App(Code::Unauthorized | Code::Unregistered | Code::NotConfigured) => {
            let detail = "The app in Jira does not trust this backend, or is not configured: its BACKEND_URL or \
                          BACKEND_PUBLIC_KEY may be wrong. Tell your Jira administrator, then send the form again.";
            Problem::new(502, "NOT_TRUSTED_BY_FORGE", "Jira did not accept the service", detail)
        }
        _ => {
            let detail = "Send the form again in a moment. It will not be added twice.";
            Problem::new(502, "NO_ANSWER_FROM_FORGE", "Jira did not answer", detail)
        }
    }
}
