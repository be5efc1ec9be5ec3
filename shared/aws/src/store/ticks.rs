//! What check-services does with the table.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::operation::query::QueryInput;
use jiff::Timestamp;

use super::expr::UpdateExpr;
use super::records::{StateEntry, encode, number, service_key, state_key, tenant_key, text, value};
use super::{ACTIVE, Store, StoreError, TenantIdRange, WriteOutcome};
use domain::id::{ServiceId, TenantId};
use domain::service::Lifecycle;
use domain::snapshot::{FailureStreak, TenantSnapshot};
use domain::status::State;
use domain::tenant::{NextKey, Tenant, TenantStatus};
use domain::tick::Tick;

impl Store {
    /// The ids of the active tenants of a range, ascending.
    pub async fn active(&self, range: &TenantIdRange) -> Result<Vec<TenantId>, StoreError> {
        // Both ends in one BETWEEN, which includes both; the excluded one is skipped below.
        let low = range.after.as_ref().map_or("", TenantId::as_str);
        let high = range.through.as_ref().map_or("~", TenantId::as_str);
        let mut query =
            QueryInput::builder().index_name("active").expression_attribute_values(":active", text(ACTIVE));
        query = match (range.after.is_some(), range.through.is_some()) {
            (false, false) => query.key_condition_expression("active = :active"),
            (false, true) => query
                .key_condition_expression("active = :active AND tenantId <= :high")
                .expression_attribute_values(":high", text(high)),
            (true, _) => query
                .key_condition_expression("active = :active AND tenantId BETWEEN :low AND :high")
                .expression_attribute_values(":low", text(low))
                .expression_attribute_values(":high", text(high)),
        };
        let mut ids = Vec::new();
        for item in self.query(query).await? {
            let id =
                item.get("tenantId").and_then(|id| id.as_s().ok()).map(String::as_str).unwrap_or_default();
            match TenantId::parse(id) {
                Ok(id) if Some(&id) != range.after.as_ref() => ids.push(id),
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "an index entry names no tenant and is passed over");
                }
            }
        }
        Ok(ids)
    }

    /// A tenant with its services and state; `None` when it is gone, or has no services and its app knows that.
    pub async fn load(
        &self,
        tenant: &TenantId,
        now: Timestamp,
    ) -> Result<Option<TenantSnapshot>, StoreError> {
        let mut partition = self.partition(tenant, false, now).await?;
        let Some((tenant, revision)) = partition.take_tenant()? else { return Ok(None) };
        let (state, failures) = partition.take_state()?;
        let (mut services, unreadable) = partition.into_services();
        services.retain(|service| service.lifecycle != Lifecycle::Pending);
        // An app whose last service was removed gets an empty report, until it has acknowledged one.
        let acknowledged = state.last_tick.filter(|last| state.acked_tick == Some(*last));
        let knows = acknowledged.is_some_and(|tick| !tenant.is_registered_since(tick));
        // A next key is offered nevertheless, or a leaked key would be trusted for ever.
        let offers_key = tenant.web_trigger().next_key.as_ref().is_some_and(|next| next.refused_at.is_none());
        let is_empty = services.is_empty() && unreadable.is_empty() && state.services.is_empty();
        if is_empty && knows && !offers_key {
            return Ok(None);
        }
        Ok(Some(TenantSnapshot { tenant, revision, services, unreadable, state, failures }))
    }

    /// Stores the state of a tick, if the last committed tick is still `found`.
    pub async fn commit(
        &self,
        tenant: &TenantId,
        found: Option<Tick>,
        state: &State,
    ) -> Result<WriteOutcome, StoreError> {
        // Only what a commit owns: the acknowledgement and the delivery record may have been written since the read,
        // which is eventually consistent, and must survive.
        let entries: BTreeMap<&ServiceId, StateEntry> =
            state.services.iter().map(|(id, status)| (id, StateEntry::from(*status))).collect();
        let expr = UpdateExpr::default()
            .set("lastTick", value(&state.last_tick)?)
            .set("services", value(&entries)?)
            .set("transitions", value(&state.transitions)?)
            .set("transitionsDropped", value(&state.transitions_dropped)?);
        let expr = match found {
            // Only a STATE that has expired, and that DynamoDB has not deleted yet, is passed over when read.
            None => expr
                .and("(attribute_not_exists(lastTick) OR attribute_exists(expires_at))")
                .remove("expires_at")
                .remove("ackedTick")
                .remove("failingSince")
                .remove("goneSince"),
            // A suspended tenant's one tick a day is no sign of life: there the expiry stays.
            Some(found) => expr.and_is("lastTick", value(&found)?),
        };
        self.update(state_key(tenant), expr).await
    }

    /// Everything up to `tick` has reached the app; forgets failures.
    pub async fn acknowledge(&self, tenant: &TenantId, tick: Tick) -> Result<(), StoreError> {
        let expr = UpdateExpr::default()
            .and("(attribute_not_exists(ackedTick) OR ackedTick < :ackedTick)")
            .set("ackedTick", value(&tick)?)
            .remove("failingSince")
            .remove("goneSince");
        self.update_state(tenant, expr).await
    }

    /// Stores since when deliveries fail, if that is still stored as in `found`: a registration or a later tick may have had an
    /// answer since.
    pub async fn record_failures(
        &self,
        tenant: &TenantId,
        found: FailureStreak,
        failures: FailureStreak,
    ) -> Result<(), StoreError> {
        let mut expr = UpdateExpr::default();
        for (name, found, time) in [
            ("failingSince", found.failing_since, failures.failing_since),
            ("goneSince", found.gone_since, failures.gone_since),
        ] {
            expr = expr.and_as_read(name, value(&found)?);
            expr = match time {
                Some(time) => expr.set(name, value(&time)?),
                None => expr.remove(name),
            };
        }
        self.update_state(tenant, expr).await
    }

    async fn update_state(&self, tenant: &TenantId, expr: UpdateExpr) -> Result<(), StoreError> {
        // Existence keeps a late answer from creating a STATE for a tenant that has been deleted. A condition that does
        // not hold is no failure: what was to be noted is out of date.
        let expr = expr.and("attribute_exists(pk)");
        self.update(state_key(tenant), expr).await.map(drop)
    }

    /// Marks a tenant `Active` or `Unregistered`, if nobody has changed or registered it since it was read.
    pub async fn mark(&self, tenant: &Tenant, status: TenantStatus) -> Result<WriteOutcome, StoreError> {
        let expr = UpdateExpr::if_tenant_as_read(tenant)?.set("status", value(&status)?);
        self.update(tenant_key(&tenant.id()), expr).await
    }

    /// Suspends a tenant (`Some`: everything of it expires then) or revives it (`None`), if nobody has changed or
    /// registered it since it was read.
    pub async fn suspend(
        &self,
        tenant: &Tenant,
        services: &[ServiceId],
        expires_at: Option<Timestamp>,
    ) -> Result<WriteOutcome, StoreError> {
        let id = tenant.id();
        let status = if expires_at.is_some() { TenantStatus::Suspended } else { TenantStatus::Active };
        let marked = UpdateExpr::if_tenant_as_read(tenant)?.set("status", value(&status)?);
        let mut writes = vec![(tenant_key(&id), marked), (state_key(&id), UpdateExpr::if_there())];
        for service in services {
            // One that was removed and added again meanwhile has an end of its own.
            writes.push((service_key(&id, service), UpdateExpr::if_accepted()?));
        }
        let writes = writes.into_iter().map(|(key, expr)| {
            let expr = match expires_at {
                Some(time) => expr.set("expires_at", number(time.as_second())),
                None => expr.remove("expires_at"),
            };
            expr.update_in(&self.table, key)
        });
        self.transact(writes.collect::<Result<_, _>>()?).await
    }

    /// Stores whether the app has accepted or refused the next key: `next`, if it is stored as in `found`.
    pub async fn record_next_key_response(
        &self,
        tenant: &TenantId,
        found: &NextKey,
        next: &NextKey,
    ) -> Result<(), StoreError> {
        let expr = UpdateExpr::default()
            .and_next_key_as_read(found)?
            .set("nextKey.accepted", value(&next.is_accepted)?)
            .set("nextKey.refusedAt", value(&next.refused_at)?);
        self.update(tenant_key(tenant), expr).await.map(drop)
    }

    /// Makes `next` the key of the tenant, if it still follows the tenant's present key; forgets the present one.
    pub async fn promote_next_key(
        &self,
        tenant: &Tenant,
        next: &NextKey,
    ) -> Result<WriteOutcome, StoreError> {
        let next_public = text(encode(next.key.public.as_bytes()));
        // A registration since then may have given the app the present key again: the next tick sees which one it trusts.
        let expr = UpdateExpr::default()
            .and_is("publicKey", text(encode(tenant.web_trigger().key.public.as_bytes())))
            .and_is("nextKey.publicKey", next_public.clone())
            .and_is("nextKey.accepted", value(&next.is_accepted)?)
            .and_as_read("registeredAt", value(&tenant.registered_at)?)
            .set("publicKey", next_public)
            .set("wrappedKey", text(encode(next.key.wrapped.as_bytes())))
            .set("keyMadeAt", value(&next.key.made_at)?)
            .remove("nextKey");
        self.update(tenant_key(&tenant.id()), expr).await
    }
}
