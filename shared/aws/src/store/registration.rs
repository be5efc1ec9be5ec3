//! What add-service does with the table.

use jiff::Timestamp;

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};

use super::expr::UpdateExpr;
use super::records::{
    HandoffRecord, Json, ServiceRecord, TenantRecord, encode, from_item, handoff_key, has_expired, number,
    service_key, state_key, tenant_key, text, to_item, value,
};
use super::{
    ACTIVE, ATTEMPTS_PER_HANDOFF, HandoffUse, PENDING_FOR, PendingRegistration, ServiceChange, Store,
    StoreError, WriteOutcome,
};
use domain::handoff::{HandoffRef, RESUME_FOR};
use domain::id::{HandoffId, ServiceId, TenantId};
use domain::service::{Change, Lifecycle, Service};
use domain::snapshot::TenantSnapshot;
use domain::tenant::{Tenant, TenantStatus};

impl Store {
    /// The tenant and its services, as of now.
    pub async fn find(
        &self,
        tenant: &TenantId,
        now: Timestamp,
    ) -> Result<Option<TenantSnapshot>, StoreError> {
        let mut partition = self.partition(tenant, true, now).await?;
        let Some((tenant, revision)) = partition.take_tenant()? else { return Ok(None) };
        let (state, failures) = partition.take_state()?;
        let (services, unreadable) = partition.into_services();
        Ok(Some(TenantSnapshot { tenant, revision, services, unreadable, state, failures }))
    }

    /// What a hand-off has been used for.
    pub async fn handoff_use(
        &self,
        handoff: &HandoffId,
        now: Timestamp,
    ) -> Result<Option<HandoffUse>, StoreError> {
        let item = self.get(handoff_key(handoff), true).await?;
        let Some(item) = item.filter(|item| !has_expired(item, now)) else { return Ok(None) };
        let HandoffRecord { tenant_id, service_id, change } = from_item(item)?;
        let ids = tenant_id.zip(service_id);
        Ok(ids.map(|(tenant_id, service_id)| HandoffUse { tenant_id, service_id, change }))
    }

    /// Counts an attempt under a hand-off, before anything is done for it. A conflict: all of them are used.
    pub async fn count_attempt(&self, handoff: &HandoffRef) -> Result<WriteOutcome, StoreError> {
        let expr = UpdateExpr::default()
            .and("(attribute_not_exists(attempts) OR attempts < :all)")
            .with("all", number(ATTEMPTS_PER_HANDOFF.into()))
            .count("attempts")
            .set("expires_at", handoff_end(handoff));
        self.update(handoff_key(&handoff.id), expr).await
    }

    /// Stores a registration that Forge has not accepted yet, all or nothing.
    pub async fn begin_registration(
        &self,
        registration: &PendingRegistration<'_>,
        now: Timestamp,
    ) -> Result<WriteOutcome, StoreError> {
        let used = HandoffUse {
            tenant_id: registration.tenant.id(),
            service_id: registration.service.id.clone(),
            change: None,
        };
        let writes = vec![
            self.pending_tenant(registration, now)?,
            self.pending_service(registration, now)?,
            self.use_of(registration.reference, &used)?,
        ];
        self.transact(writes).await
    }

    /// TENANT in a registration: new, or with its next revision.
    fn pending_tenant(
        &self,
        registration: &PendingRegistration<'_>,
        now: Timestamp,
    ) -> Result<TransactWriteItem, StoreError> {
        let tenant = registration.tenant;
        let key = tenant_key(&tenant.id());
        let expires_at = number((now + PENDING_FOR).as_second());
        let Some(found_revision) = registration.found_revision else {
            let mut new = to_item(&TenantRecord::pending(tenant))?;
            new.extend(key);
            new.insert("expires_at".to_owned(), expires_at);
            return UpdateExpr::if_absent(now).put_in(&self.table, new);
        };
        // The key is part of the condition: a tenant that was deleted and made anew in between has another one. So is the
        // status: what is accepted or suspended meanwhile must neither get nor lose an end here.
        let as_read = UpdateExpr::default()
            .and_is("revision", number(found_revision.into()))
            .and_is("publicKey", text(encode(tenant.web_trigger().key.public.as_bytes())))
            .and_is("status", value(&tenant.status)?);
        if registration.service.lifecycle != Lifecycle::Pending {
            return as_read.check_in(&self.table, key);
        }
        let mut expr = as_read.set("revision", next_revision(found_revision));
        // A tenant that is still pending lives as long as its newest attempt.
        if tenant.status == TenantStatus::Pending {
            expr = expr.set("expires_at", expires_at);
        }
        expr.update_in(&self.table, key)
    }

    /// SERVICE in a registration: stored as pending, or accepted as it was read.
    fn pending_service(
        &self,
        registration: &PendingRegistration<'_>,
        now: Timestamp,
    ) -> Result<TransactWriteItem, StoreError> {
        let service = registration.service;
        let as_read = match registration.found {
            Some(found) => UpdateExpr::if_service_as_read(found)?,
            None => UpdateExpr::if_absent(now),
        };
        let key = service_key(&registration.tenant.id(), &service.id);
        if service.lifecycle != Lifecycle::Pending {
            return as_read.check_in(&self.table, key);
        }
        let mut new = to_item(&ServiceRecord::from(service))?;
        new.extend(key);
        new.insert("expires_at".to_owned(), number((now + PENDING_FOR).as_second()));
        as_read.put_in(&self.table, new)
    }

    /// What a hand-off is used for. A registration may be carried out again under the same hand-off, until Forge has accepted
    /// it; a change may not.
    fn use_of(&self, reference: &HandoffRef, used: &HandoffUse) -> Result<TransactWriteItem, StoreError> {
        let expr = UpdateExpr::default()
            .set("tenantId", text(used.tenant_id.clone()))
            .set("serviceId", text(used.service_id.clone()))
            .set("expires_at", handoff_end(reference));
        let expr = match used.change {
            Some(change) => expr.and("attribute_not_exists(serviceId)").set("change", value(&change)?),
            None => expr.with_name("change").and(
                "(attribute_not_exists(serviceId) OR \
                 (tenantId = :tenantId AND serviceId = :serviceId AND attribute_not_exists(#change)))",
            ),
        };
        expr.update_in(&self.table, handoff_key(&reference.id))
    }

    /// Forge has accepted: the service and its tenant are checked from the next tick on; a service that was paused before
    /// stays so. Tenant and service are as they were read. `others` are the tenant's other services, which a suspension may
    /// have marked for deletion. Repeating it changes nothing but the time that is noted.
    pub async fn activate(
        &self,
        tenant: &Tenant,
        service: &Service,
        others: &[ServiceId],
        now: Timestamp,
    ) -> Result<WriteOutcome, StoreError> {
        let id = tenant.id();
        // REGISTER has just named the key: one that took its place meanwhile is not the one that the app trusts.
        let active = UpdateExpr::if_tenant_as_read(tenant)?
            .set("active", text(ACTIVE))
            .set("tenantId", text(id.clone()))
            .set("status", value(&TenantStatus::Active)?)
            .set("registeredAt", value(&now)?)
            .remove("expires_at");
        let mut writes = vec![active.update_in(&self.table, tenant_key(&id))?];

        // A pause since it was read stays one; what was removed stays away; another registration of the URL is another one.
        let mut accepted = UpdateExpr::if_service_as_read(service)?.remove("expires_at");
        if service.lifecycle == Lifecycle::Pending {
            accepted = accepted.set("activity", value(&Lifecycle::Active)?);
        }
        if let Some(first) = &service.first {
            // A first result is never replaced by a later one.
            accepted = accepted.set_first("first", value(&Json(first))?);
        }
        writes.push(accepted.update_in(&self.table, service_key(&id, &service.id))?);

        if tenant.status == TenantStatus::Suspended {
            // The app has just answered: the failures that led to the suspension are over.
            let state =
                UpdateExpr::if_there().remove("expires_at").remove("failingSince").remove("goneSince");
            writes.push(state.update_in(&self.table, state_key(&id))?);
        }
        for other in others {
            // What was removed and registered again meanwhile is pending, and keeps its end.
            let kept = UpdateExpr::if_accepted()?.remove("expires_at");
            writes.push(kept.update_in(&self.table, service_key(&id, other))?);
        }
        self.transact(writes).await
    }

    /// Removes, pauses or resumes a service, all or nothing.
    pub async fn apply_change(
        &self,
        ServiceChange { tenant_id, service_id, change, found, found_revision, reference }: &ServiceChange<'_>,
        now: Timestamp,
    ) -> Result<WriteOutcome, StoreError> {
        let used = HandoffUse {
            tenant_id: (*tenant_id).clone(),
            service_id: (*service_id).clone(),
            change: Some(*change),
        };
        let mut writes = vec![self.use_of(reference, &used)?];
        let key = service_key(tenant_id, service_id);
        let Some(found) = found else {
            writes.push(UpdateExpr::if_absent(now).check_in(&self.table, key)?);
            return self.transact(writes).await;
        };
        let as_read = UpdateExpr::if_service_as_read(found)?;
        match change {
            Change::Remove => {
                writes.push(as_read.delete_in(&self.table, key)?);
                let counted = UpdateExpr::default()
                    .and_is("revision", number((*found_revision).into()))
                    .set("revision", next_revision(*found_revision));
                writes.push(counted.update_in(&self.table, tenant_key(tenant_id))?);
            }
            Change::Pause => {
                let paused = as_read.set("activity", value(&Lifecycle::Paused)?);
                writes.push(paused.update_in(&self.table, key)?);
            }
            Change::Resume => {
                let resumed =
                    as_read.set("activity", value(&Lifecycle::Active)?).set("resumedAt", value(&now)?);
                writes.push(resumed.update_in(&self.table, key)?);
            }
        }
        self.transact(writes).await
    }
}

fn next_revision(found: u32) -> AttributeValue {
    number(i64::from(found) + 1)
}

/// After it a hand-off is refused, whatever it was used for.
fn handoff_end(handoff: &HandoffRef) -> AttributeValue {
    number((handoff.expires_at + RESUME_FOR).as_second())
}
