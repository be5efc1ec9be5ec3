//! What rotate-keys does with the table: it reads TENANT items one by one, and writes nothing but `nextKey`.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{
    DynamoStore, NextKeyRecord, Partition, encode, has_expired, next_key_as_read, tenant_pk, text, value,
};
use crate::store::{Rotations, StoreError, TenantRange, WriteOutcome};
use domain::id::TenantId;
use domain::tenant::{NextKey, Tenant};

impl Rotations for DynamoStore {
    async fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        self.listed(&TenantRange::default()).await
    }

    async fn tenant(&self, id: &TenantId, now: Timestamp) -> Result<Option<Tenant>, StoreError> {
        // Eventually consistent: the condition of what follows protects.
        let item = self.get(Self::key(tenant_pk(id), "TENANT"), false).await?;
        let item = item.filter(|item| !has_expired(item, now));
        let items = item.map(|item| ("TENANT".to_owned(), item)).into_iter().collect();
        let found = Partition { tenant: id.clone(), items }.take_tenant()?;
        Ok(found.map(|(tenant, _)| tenant))
    }

    async fn store_next_key(&self, tenant: &Tenant, next: &NextKey) -> Result<WriteOutcome, StoreError> {
        let mut values = HashMap::from([
            (":present".to_owned(), text(encode(tenant.key.public.as_bytes()))),
            (":next".to_owned(), value(&NextKeyRecord::from(next))?),
        ]);
        let condition: &str = match &tenant.next_key {
            None => "publicKey = :present AND attribute_not_exists(nextKey)",
            Some(found) => {
                // It is endorsed anew; another one never takes its place.
                values.insert(":public".to_owned(), text(encode(next.key.public.as_bytes())));
                let unchanged = next_key_as_read(found, &mut values)?;
                &format!("publicKey = :present AND nextKey.publicKey = :public AND {unchanged}")
            }
        };
        self.update_tenant(&tenant.id(), "SET nextKey = :next", condition, values).await
    }
}
