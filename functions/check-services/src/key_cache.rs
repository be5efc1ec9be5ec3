//! Unwrapped tenant keys, kept while the sandbox is warm so that a tick costs no KMS call.
//!
//! Bounds: 20,000 keys (about 5 MB) and twelve hours, so that a key disabled in KMS stops signing within half a day.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use shared::id::{Kid, TenantId};
use shared::key::{KeyError, PrivateKey, UnwrapKey};
use shared::tenant::Tenant;

const MAX_KEYS: usize = 20_000;
const MAX_AGE: SignedDuration = SignedDuration::from_hours(12);

/// Named by kid as well: a key that was replaced is another entry.
type Name = (TenantId, Kid);

/// A cache before KMS.
pub struct KeyCache<U> {
    kms: U,
    keys: Mutex<HashMap<Name, (Arc<PrivateKey>, Timestamp)>>,
}

impl<U: UnwrapKey> KeyCache<U> {
    /// An empty cache.
    pub fn new(kms: U) -> Self {
        Self { kms, keys: Mutex::default() }
    }

    /// The tenant's private key, which is proven to be the one that the tenant's record names.
    pub async fn key(&self, tenant: &Tenant, now: Timestamp) -> Result<Arc<PrivateKey>, KeyError> {
        let name = (tenant.id(), tenant.kid());
        if let Some((key, since)) = self.lock().get(&name)
            && now.duration_since(*since) < MAX_AGE
        {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(self.kms.unwrap_key(&tenant.wrapped_key, &tenant.key_context()).await?);
        if key.public_key().map_err(|_| KeyError::Mismatch)? != tenant.public_key {
            return Err(KeyError::Mismatch);
        }
        let mut keys = self.lock();
        if keys.len() >= MAX_KEYS
            && let Some(any) = keys.keys().next().cloned()
        {
            keys.remove(&any);
        }
        keys.insert(name, (Arc::clone(&key), now));
        Ok(key)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Name, (Arc<PrivateKey>, Timestamp)>> {
        // The map is whole between any two statements that hold the lock.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
