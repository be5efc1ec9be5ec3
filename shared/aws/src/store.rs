//! Where tenants, services, states and used hand-offs are kept: three narrow ports, one per function that stores.
//!
//! `Registrations` is all that add-service may do, `Checks` all that check-services may do, `Rotations` all that rotate-keys
//! may do; each mirrors the IAM statements of its function. Not here: a port that could list services over tenants.

use std::future::Future;

use jiff::{SignedDuration, Timestamp};

use domain::handoff::HandoffRef;
use domain::id::{HandoffId, ServiceId, TenantId};
use domain::service::{Change, Service};
pub use domain::snapshot::{FailureStreak, TenantSnapshot};
use domain::status::State;
use domain::tenant::{NextKey, Tenant, TenantStatus};
use domain::tick::Tick;

pub mod dynamo;

/// How long a registration that Forge has not accepted is kept.
pub const PENDING_FOR: SignedDuration = SignedDuration::from_hours(24);
/// How long a suspended tenant is kept.
pub const SUSPENDED_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How often add-service works for one hand-off, which a person got by one press of a button.
pub const ATTEMPTS_PER_HANDOFF: u32 = 10;

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Throttled, timed out, or the answer was lost; the same call may succeed later.
    #[error("the store throttles or does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A record that is not what its key says, or not readable: nobody acts on it.
    #[error("a stored record is unusable: {0}")]
    Corrupt(String),
    /// Everything else: a missing permission or table.
    #[error("the store refused")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A tenant and the services it has, pending ones included, expired ones not.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisteredTenant {
    /// The tenant.
    pub tenant: Tenant,
    /// Changes with every service that is added or removed; the next such change must find it as it was read.
    pub revision: u32,
    /// Its services.
    pub services: Vec<Service>,
    /// Services whose records cannot be read.
    pub unreadable: Vec<ServiceId>,
    /// What the ticks saw so far, for reading only.
    pub state: State,
}

/// One registration as a single transaction: TENANT if new, its revision, SERVICE, and what the hand-off is used for.
#[derive(Debug)]
pub struct PendingRegistration<'a> {
    /// The tenant as it was read, or a new one.
    pub tenant: &'a Tenant,
    /// The revision read with the tenant, or `None` for a tenant that is not stored yet.
    pub found_revision: Option<u32>,
    /// The service as it was read.
    pub found: Option<&'a Service>,
    /// The service as it is to be stored: pending. Or as it was read, when Forge has accepted it already and only the use of
    /// the hand-off is to be stored.
    pub service: &'a Service,
    /// The hand-off.
    pub reference: &'a HandoffRef,
}

/// What a hand-off has been used for. With its grace it may be used for that again, and for nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoffUse {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The service.
    pub service_id: ServiceId,
    /// What was done to the service; `None` for a registration.
    pub change: Option<Change>,
}

/// One change to a service as a single transaction: the SERVICE, the tenant's count when it is removed, and the use of the
/// hand-off. A hand-off that is used is therefore one whose change is done.
#[derive(Debug)]
pub struct ServiceChange<'a> {
    /// The tenant, which need not exist.
    pub tenant_id: &'a TenantId,
    /// The service.
    pub service_id: &'a ServiceId,
    /// What is done to it.
    pub change: Change,
    /// The service as it was read; `None` when there is none, and only the use of the hand-off is to be stored.
    pub found: Option<&'a Service>,
    /// The revision read with the service.
    pub found_revision: u32,
    /// The hand-off.
    pub reference: &'a HandoffRef,
}

/// What became of a conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Stored.
    Applied,
    /// What it rests on is not as it was read, or another invocation was faster: nothing was stored. A request reads and
    /// decides again, a tick stops and sends nothing.
    Conflict,
}

/// What add-service may do.
pub trait Registrations: Send + Sync {
    /// The tenant and its services, as of now.
    fn find(
        &self,
        tenant: &TenantId,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<RegisteredTenant>, StoreError>> + Send;

    /// What a hand-off has been used for.
    fn handoff_use(
        &self,
        handoff: &HandoffId,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<HandoffUse>, StoreError>> + Send;

    /// Counts an attempt under a hand-off, before anything is done for it. A conflict: all of them are used.
    fn count_attempt(
        &self,
        handoff: &HandoffRef,
    ) -> impl Future<Output = Result<WriteOutcome, StoreError>> + Send;

    /// Stores a registration that Forge has not accepted yet, all or nothing.
    fn begin_registration(
        &self,
        registration: &PendingRegistration<'_>,
        now: Timestamp,
    ) -> impl Future<Output = Result<WriteOutcome, StoreError>> + Send;

    /// Forge has accepted: the service and its tenant are checked from the next tick on; a service that was paused before
    /// stays so. Tenant and service are as they were read. `others` are the tenant's other services, which a suspension may
    /// have marked for deletion. Repeating it changes nothing but the time that is noted.
    fn activate(
        &self,
        tenant: &Tenant,
        service: &Service,
        others: &[ServiceId],
        now: Timestamp,
    ) -> impl Future<Output = Result<WriteOutcome, StoreError>> + Send;

    /// Removes, pauses or resumes a service, all or nothing.
    fn apply_change(
        &self,
        change: &ServiceChange<'_>,
        now: Timestamp,
    ) -> impl Future<Output = Result<WriteOutcome, StoreError>> + Send;
}

/// A range of tenants in the order of their ids: after the one, through the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TenantRange {
    /// Exclusive; `None` from the beginning.
    pub after: Option<TenantId>,
    /// Inclusive; `None` to the end.
    pub through: Option<TenantId>,
}

/// What check-services may do.
pub trait Checks: Send + Sync {
    /// The ids of the active tenants of a range, ascending.
    fn active(&self, range: &TenantRange) -> impl Future<Output = Result<Vec<TenantId>, StoreError>> + Send;

    /// A tenant with its services and state; `None` when it is gone, or has no services and its app knows that.
    fn load(
        &self,
        tenant: &TenantId,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<TenantSnapshot>, StoreError>> + Send;

    /// Stores the state of a tick, if the last committed tick is still `found`.
    fn commit(
        &self,
        tenant: &TenantId,
        found: Option<Tick>,
        state: &State,
    ) -> impl Future<Output = Result<WriteOutcome, StoreError>> + Send;

    /// Everything up to `tick` has reached the app; forgets failures.
    fn acknowledge(
        &self,
        tenant: &TenantId,
        tick: Tick,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores since when deliveries fail, if that is still stored as in `found`: a registration or a later tick may have had an
    /// answer since.
    fn record_failures(
        &self,
        tenant: &TenantId,
        found: FailureStreak,
        failures: FailureStreak,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Marks a tenant `Active` or `Unregistered`, if nobody has changed or registered it since it was read.
    fn mark(
        &self,
        tenant: &Tenant,
        status: TenantStatus,
    ) -> impl Future<Output = Result<WriteOutcome, StoreError>> + Send;

    /// Suspends a tenant (`Some`: everything of it expires then) or revives it (`None`), if nobody has changed or
    /// registered it since it was read.
    fn suspend(
        &self,
        tenant: &Tenant,
        services: &[ServiceId],
        expires_at: Option<Timestamp>,
    ) -> impl Future<Output = Result<WriteOutcome, StoreError>> + Send;

    /// Stores whether the app has accepted or refused the next key: `next`, if it is stored as in `found`.
    fn record_next_key_response(
        &self,
        tenant: &TenantId,
        found: &NextKey,
        next: &NextKey,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes `next` the key of the tenant, if it still follows the tenant's present key; forgets the present one.
    fn promote_next_key(
        &self,
        tenant: &Tenant,
        next: &NextKey,
    ) -> impl Future<Output = Result<WriteOutcome, StoreError>> + Send;
}

/// What rotate-keys may do.
pub trait Rotations: Send + Sync {
    /// The ids of all active tenants, ascending.
    fn tenants(&self) -> impl Future<Output = Result<Vec<TenantId>, StoreError>> + Send;

    /// A tenant without its services; `None` when it is gone.
    fn tenant(
        &self,
        id: &TenantId,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<Tenant>, StoreError>> + Send;

    /// Stores the tenant's next key, if its present key is still the one that was read, and no other key follows it.
    fn store_next_key(
        &self,
        tenant: &Tenant,
        next: &NextKey,
    ) -> impl Future<Output = Result<WriteOutcome, StoreError>> + Send;
}
