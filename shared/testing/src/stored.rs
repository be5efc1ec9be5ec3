//! Registrations and changes as add-service stores them, and suspensions as check-services does, for tests of what the other
//! functions make of them.

use aws::store::{PendingRegistration, SUSPENDED_FOR, ServiceChange, Store, WriteOutcome};
use aws::system::random_nonce;
use domain::handoff::HandoffRef;
use domain::id::{HandoffId, ServiceId, TenantId};
use domain::service::{Change, Service};
use domain::status::State;
use domain::tenant::Tenant;
use domain::tick::{Period, Tick};
use jiff::Timestamp;

/// An unused hand-off.
#[must_use]
pub fn unused_handoff(now: Timestamp) -> HandoffRef {
    let jti = data_encoding::HEXLOWER.encode(&random_nonce());
    HandoffRef { id: HandoffId::derive("app", &jti), expires_at: now }
}

/// Registers a new service, which the app accepts. `tenant` is as it was read, or not stored yet.
///
/// # Panics
/// When the tenant is not as it is stored.
pub async fn register(store: &Store, tenant: &Tenant, service: &Service, now: Timestamp) {
    let found = store.find(&tenant.id(), now).await.expect("a readable tenant");
    let found_revision = found.map(|found| found.revision);
    let registration =
        PendingRegistration { tenant, found_revision, found: None, service, reference: &unused_handoff(now) };
    let begun = store.begin_registration(&registration, now).await.expect("a store");
    assert_eq!(begun, WriteOutcome::Applied);
    assert_eq!(store.activate(tenant, service, &[], now).await.expect("a store"), WriteOutcome::Applied);
}

/// Changes a service in the name of its owner.
///
/// # Panics
/// When there is no such service.
pub async fn change(store: &Store, tenant: &TenantId, id: &ServiceId, change: Change, now: Timestamp) {
    let found = store.find(tenant, now).await.expect("a readable tenant").expect("a tenant");
    let service = found.services.iter().find(|service| service.id == *id).expect("a service");
    let change = ServiceChange {
        tenant_id: tenant,
        service_id: id,
        change,
        found: Some(service),
        found_revision: found.revision,
        reference: &unused_handoff(now),
    };
    assert_eq!(store.apply_change(&change, now).await.expect("a store"), WriteOutcome::Applied);
}

/// A round of checks before `now` has stored a state.
///
/// # Panics
/// Without a table.
pub async fn tick(store: &Store, tenant: &TenantId, now: Timestamp) {
    let found = store.load(tenant, now).await.expect("a readable tenant");
    let period = Period::from_minutes(5).expect("a divisor of 60");
    let state = State { last_tick: Some(Tick::containing(now, period)), ..State::default() };
    let last_tick = found.and_then(|found| found.state.last_tick);
    store.commit(tenant, last_tick, &state).await.expect("a store");
}

/// Suspends a tenant whose app has not answered for long; or revives it.
///
/// # Panics
/// When there is no such tenant.
pub async fn suspend(store: &Store, tenant: &TenantId, is_suspended: bool, now: Timestamp) {
    let found = store.load(tenant, now).await.expect("a readable tenant").expect("a tenant");
    let services: Vec<_> = found.services.iter().map(|service| service.id.clone()).collect();
    let expires_at = is_suspended.then_some(now + SUSPENDED_FOR);
    store.suspend(&found.tenant, &services, expires_at).await.expect("a store");
}
