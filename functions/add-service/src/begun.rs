//! A registration between its two writes: stored as pending, and not yet accepted by Forge.

use domain::id::ServiceId;
use domain::service::{Lifecycle, Service};
use domain::snapshot::TenantSnapshot;
use domain::status::{self, Status};
use domain::tenant::Tenant;

/// A registration that is stored and waits for Forge, or is repeated, as it was read or stored.
pub(crate) struct Begun {
    pub(crate) tenant: Tenant,
    pub(crate) service: Service,
    /// The tenant's other services that Forge has accepted. What it has not accepted keeps its end.
    pub(crate) others: Vec<ServiceId>,
    pub(crate) state: status::State,
}

/// What became of a registration that Forge has accepted.
pub(crate) enum Activation {
    /// It is checked from now on.
    Done(Box<Begun>),
    /// It is not there any more, or another one is in its place, or the tenant has another key. With the tenant as it is now.
    Lost(Option<Box<TenantSnapshot>>),
}

impl Begun {
    /// A service that was paused since the last tick is so already.
    pub(crate) fn status(&self) -> Status {
        match self.service.lifecycle {
            Lifecycle::Paused => Status::Paused,
            Lifecycle::Pending | Lifecycle::Active => status::current(&self.state, &self.service).status,
        }
    }

    /// Whether the tenant's key is still the one that REGISTER named, or the one that was to follow it: the app, which knows
    /// that one already, has then kept both.
    pub(crate) fn is_key_of(&self, tenant: &Tenant) -> bool {
        let next = self.tenant.web_trigger().next_key.as_ref().map(|next| &next.key);
        tenant.web_trigger().key == self.tenant.web_trigger().key || next == Some(&tenant.web_trigger().key)
    }

    /// Whether a service is still the one that REGISTER named, in whatever state.
    pub(crate) fn is_same(&self, service: &Service) -> bool {
        (&service.owner, service.created_at) == (&self.service.owner, self.service.created_at)
    }
}

pub(crate) fn service_of<'a>(found: &'a TenantSnapshot, id: &ServiceId) -> Option<&'a Service> {
    found.services.iter().find(|service| service.id == *id)
}

/// Whether Forge has accepted it.
pub(crate) fn is_accepted(service: &Service) -> bool {
    service.lifecycle != Lifecycle::Pending
}

pub(crate) fn accepted(services: impl IntoIterator<Item = Service>) -> Vec<ServiceId> {
    services.into_iter().filter(is_accepted).map(|service| service.id).collect()
}
