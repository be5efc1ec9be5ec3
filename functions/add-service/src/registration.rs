//! The order of a registration, so that a crash, a refusal or a lost answer at any point leaves nothing that the same
//! request does not finish: count the attempt, check, store as pending, REGISTER, activate.
//!
//! Not here: HTTP, and any private key. This function can have REGISTER signed, never an UPDATE.

use crate::begun::{Activation, Begun, accepted, is_accepted, service_of};
use crate::config::ServiceLimits;
use crate::registration_error::RegistrationError;
use aws::kms::{DeploymentKey, WrappingKey};
use aws::metrics::{CallbackResult, Metric, Metrics};
use aws::store::{HandoffUse, PendingRegistration, Store, StoreError, WriteOutcome};
use aws::system::Nonce;
use callback::{Callback, Deliver, RetryPolicy, deliver};
use domain::check::{Observation, ProbeFailure};
use domain::clock::{Clock, whole_seconds};
use domain::handoff::Handoff;
use domain::id::{ServiceId, TenantId};
use domain::jws::{self, CallbackClaims, Subject};
use domain::key::{KeyError, TenantKey};
use domain::report::{Register, RegisteredService, VERSION};
use domain::service::{Lifecycle, Service};
use domain::snapshot::TenantSnapshot;
use domain::status::{self, Status};
use domain::tenant::{Delivery, Tenant, TenantStatus, WebTrigger};
use domain::tick::Period;
use jiff::Timestamp;
use probe::{Attempt, HttpProbe, TenantQuota};

use crate::input::Wanted;

/// How often a registration reads again and decides again because something changed in between. Each round is lost to a
/// request that got further, or to a round of checks, so a handful is plenty.
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
        mut found: Option<TenantSnapshot>,
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
            delivery: Delivery::WebTrigger(WebTrigger::new(
                handoff.trigger_url.clone(),
                TenantKey { public: public_key, wrapped: wrapped_key, made_at: now },
            )),
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
            jwk: tenant.web_trigger().key.public.jwk(),
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
            Callback { trigger: &tenant.web_trigger().url, token: &token, body: &body, is_expected: true };
        let (answer, attempts) =
            deliver(self.callbacks, callback, RetryPolicy::REGISTER, tenant_id.seed()).await;
        tracing::info!(
            request.id = self.request_id,
            tenant.id = %tenant_id,
            service.id = %service.id,
            callback.response = answer.name(),
            callback.attempts = attempts,
            "REGISTER sent"
        );
        if let Some(result) = CallbackResult::of_registration(&answer) {
            self.metrics.put(Metric::Callbacks(result), 1, self.clock.now());
        }
        if answer.is_acceptance() { Ok(()) } else { Err(RegistrationError::Callback(answer)) }
    }
}
