//! Unwrapped tenant keys, kept while the sandbox is warm so that a tick costs no KMS call.
//!
//! Bounds: 100,000 keys (about 25 MB) and twelve hours, so that a key disabled in KMS stops signing within half a day.
//! Lambda gives ranges to sandboxes as it likes, so in time each meets every tenant: what does not fit is unwrapped again
//! at nearly every tick, which at 100,000 tenants and a fifth of this bound would be two thirds of what everything costs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use shared::id::{Kid, TenantId};
use shared::key::{KeyError, PrivateKey, UnwrapKey};
use shared::tenant::Tenant;

const MAX_KEYS: usize = 100_000;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use shared::id::CloudId;
    use shared::key::{KeyContext, WrappedKey};
    use shared::tenant::{TenantStatus, TriggerRule};

    use super::*;

    /// Unwraps everything to one key: what a KMS that was handed a foreign ciphertext could do. The local KMS accepts
    /// a tampered ciphertext, so this needs a double.
    struct Kms {
        seed: u8,
        calls: AtomicUsize,
    }

    impl UnwrapKey for Kms {
        async fn unwrap_key(&self, _: &WrappedKey, _: &KeyContext) -> Result<PrivateKey, KeyError> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            Ok(PrivateKey::from_seed(&[self.seed; 32]))
        }
    }

    fn tenant() -> Tenant {
        let triggers = TriggerRule { hosts: vec!["t.example".into()], allow_loopback: false };
        Tenant {
            cloud_id: CloudId::parse("11111111-2222-4333-8444-555555555555").unwrap(),
            trigger_url: triggers.parse("https://t.example/x1/a").unwrap(),
            public_key: PrivateKey::from_seed(&[1; 32]).public_key().unwrap(),
            wrapped_key: WrappedKey::new(vec![1, 2, 3]),
            status: TenantStatus::Active,
            created_at: Timestamp::UNIX_EPOCH,
            registered_at: None,
        }
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    #[tokio::test]
    async fn a_warm_key_is_unwrapped_once_in_twelve_hours() {
        let cache = KeyCache::new(Kms { seed: 1, calls: AtomicUsize::new(0) });
        for hours in [0, 0, 11, 12, 23] {
            assert!(cache.key(&tenant(), at(hours)).await.is_ok());
        }
        assert_eq!(cache.kms.calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_key_that_is_not_the_recorded_one_signs_nothing() {
        let cache = KeyCache::new(Kms { seed: 2, calls: AtomicUsize::new(0) });
        assert!(matches!(cache.key(&tenant(), at(0)).await, Err(KeyError::Mismatch)));
    }
}
