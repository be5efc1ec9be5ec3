//! Registrations and changes as add-service stores them, for tests of what other functions make of them.

use jiff::Timestamp;
use shared::clock::random_nonce;
use shared::handoff::Binding;
use shared::id::{HandoffId, ServiceId, TenantId};
use shared::service::{Change, Service};
use shared::store::dynamo::DynamoStore;
use shared::store::{Amended, Amendment, Entered, Entry, Registrations as _};
use shared::tenant::Tenant;

/// A hand-off that nobody has used.
#[must_use]
pub fn unused_handoff(now: Timestamp) -> Binding {
    let jti = data_encoding::HEXLOWER.encode(&random_nonce());
    Binding { id: HandoffId::derive("app", &jti), expires_at: now }
}

/// Registers a new service, which the app accepts. `tenant` is as it was read, or not stored yet.
///
/// # Panics
/// When the tenant is not as it is stored.
pub async fn register(store: &DynamoStore, tenant: &Tenant, service: &Service, now: Timestamp) {
    let found = store.find(&tenant.id(), now).await.expect("a readable tenant");
    let found_count = found.map(|found| found.service_count);
    let entry = Entry {
        tenant,
        found_count,
        new_count: found_count.unwrap_or_default() + 1,
        pending: Some(service),
        service_id: &service.id,
        binding: &unused_handoff(now),
    };
    assert_eq!(store.enter(&entry, now).await.expect("a store"), Entered::Yes);
    store.activate(tenant, service, &[], now).await.expect("a store");
}

/// Changes a service in the name of its owner.
///
/// # Panics
/// When there is no such service.
pub async fn change(store: &DynamoStore, tenant: &TenantId, id: &ServiceId, change: Change, now: Timestamp) {
    let found = store.find(tenant, now).await.expect("a readable tenant").expect("a tenant");
    let service = found.services.iter().find(|service| service.id == *id).expect("a service");
    let amendment = Amendment {
        tenant_id: tenant,
        service_id: id,
        change,
        owner: &service.owner,
        counts: Some((found.service_count, found.service_count - 1)),
        binding: &unused_handoff(now),
    };
    assert_eq!(store.amend(&amendment).await.expect("a store"), Amended::Yes);
}
