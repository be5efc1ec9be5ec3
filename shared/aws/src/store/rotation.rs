//! What rotate-keys does with the table: it reads TENANT items one by one, and writes nothing but `nextKey`.

use jiff::Timestamp;

use super::expr::UpdateExpr;
use super::records::{NextKeyRecord, Partition, encode, has_expired, tenant_key, text, value};
use super::{Store, StoreError, TenantIdRange, WriteOutcome};
use domain::id::TenantId;
use domain::tenant::{NextKey, Tenant};

impl Store {
    /// The ids of all active tenants, ascending.
    pub async fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        self.active(&TenantIdRange::default()).await
    }

    /// A tenant without its services; `None` when it is gone.
    pub async fn tenant(&self, id: &TenantId, now: Timestamp) -> Result<Option<Tenant>, StoreError> {
        // Eventually consistent: the condition of what follows protects.
        let item = self.get(tenant_key(id), false).await?;
        let item = item.filter(|item| !has_expired(item, now));
        let items = item.map(|item| ("TENANT".to_owned(), item)).into_iter().collect();
        let found = Partition { tenant: id.clone(), items }.take_tenant()?;
        Ok(found.map(|(tenant, _)| tenant))
    }

    /// Stores the tenant's next key, if its present key is still the one that was read, and no other key follows it.
    pub async fn store_next_key(&self, tenant: &Tenant, next: &NextKey) -> Result<WriteOutcome, StoreError> {
        let expr = UpdateExpr::default()
            .and_is("publicKey", text(encode(tenant.web_trigger().key.public.as_bytes())));
        let expr = match &tenant.web_trigger().next_key {
            None => expr.and("attribute_not_exists(nextKey)"),
            // It is endorsed anew; another one never takes its place.
            Some(found) => expr
                .and_next_key_as_read(found)?
                .and("nextKey.publicKey = :public")
                .with("public", text(encode(next.key.public.as_bytes()))),
        };
        let expr = expr.set("nextKey", value(&NextKeyRecord::from(next))?);
        self.update(tenant_key(&tenant.id()), expr).await
    }
}
