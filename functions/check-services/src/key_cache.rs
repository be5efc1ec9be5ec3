//! Unwrapped tenant keys, kept while the sandbox is warm so that a tick costs no KMS call.
//!
//! Bounds: 100,000 keys (about 25 MB) and twelve hours, so that a key disabled in KMS stops signing within half a day.
//! Lambda gives shards to sandboxes as it likes, so in time each meets every tenant: what does not fit is unwrapped again
//! at nearly every tick, which at 100,000 tenants and a fifth of this bound would be two thirds of what everything costs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws::kms::WrappingKey;
use domain::id::{Kid, TenantId};
use domain::key::{KeyError, PrivateKey, TenantKey};
use domain::tenant::Tenant;
use jiff::{SignedDuration, Timestamp};

/// Tenants; only while one key follows another a tenant has two.
const MAX_TENANTS: usize = 100_000;
const MAX_AGE: SignedDuration = SignedDuration::from_hours(12);

/// A key, and since when it is here.
struct Warm {
    kid: Kid,
    key: Arc<PrivateKey>,
    since: Timestamp,
}

/// A cache before KMS.
pub struct KeyCache {
    kms: WrappingKey,
    tenants: Mutex<HashMap<TenantId, Vec<Warm>>>,
}

impl KeyCache {
    /// An empty cache.
    pub fn new(kms: WrappingKey) -> Self {
        Self { kms, tenants: Mutex::default() }
    }

    /// The private half of `wanted`, one of the tenant's keys, proven to be what the record names. Whatever else was kept
    /// for the tenant and is none of its keys any more is forgotten.
    pub async fn key(
        &self,
        tenant: &Tenant,
        wanted: &TenantKey,
        now: Timestamp,
    ) -> Result<Arc<PrivateKey>, KeyError> {
        let (id, kid) = (tenant.id(), wanted.public.kid());
        if let Some(warm) = self.lock().get_mut(&id) {
            let is_named = |kid: &Kid| {
                *kid == tenant.kid()
                    || tenant.web_trigger().next_key.iter().any(|next| next.key.public.kid() == *kid)
            };
            warm.retain(|warm| now.duration_since(warm.since) < MAX_AGE && is_named(&warm.kid));
            if let Some(warm) = warm.iter().find(|warm| warm.kid == kid) {
                return Ok(Arc::clone(&warm.key));
            }
        }
        let key = Arc::new(self.kms.unwrap_key(&wanted.wrapped, &tenant.key_context()).await?);
        if key.public_key().map_err(|_| KeyError::Mismatch)? != wanted.public {
            return Err(KeyError::Mismatch);
        }
        let mut tenants = self.lock();
        if tenants.len() >= MAX_TENANTS
            && !tenants.contains_key(&id)
            && let Some(any) = tenants.keys().next().cloned()
        {
            tenants.remove(&any);
        }
        // Exactly as large as it has to be: nearly all have one key.
        let warm = tenants.entry(id).or_insert_with(|| Vec::with_capacity(1));
        warm.push(Warm { kid, key: Arc::clone(&key), since: now });
        Ok(key)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TenantId, Vec<Warm>>> {
        // The map is whole between any two statements that hold the lock.
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use domain::id::CloudId;
    use domain::key::WrappedKey;
    use domain::tenant::{Delivery, KeyEndorsement, NextKey, TenantStatus, TriggerPolicy, WebTrigger};
    use serde_json::json;
    use testing::aws_server::AwsServer;

    use super::*;

    /// A KMS that unwraps these seeds, one after the other, whatever it is asked to unwrap: the local KMS accepts a tampered
    /// ciphertext.
    async fn kms(seeds: &[u8]) -> AwsServer {
        let answer = |seed: &u8| {
            let mut der = b"\x30\x2e\x02\x01\0\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
            der.extend([*seed; 32]);
            (200, json!({ "KeyId": "key", "Plaintext": BASE64.encode(&der) }))
        };
        AwsServer::start(seeds.iter().map(answer)).await
    }

    fn cache(kms: &AwsServer) -> KeyCache {
        KeyCache::new(WrappingKey::new(kms.kms(), "key".to_owned()))
    }

    fn key(seed: u8) -> TenantKey {
        TenantKey {
            public: PrivateKey::from_seed(&[seed; 32]).public_key().unwrap(),
            wrapped: WrappedKey::new(vec![seed]),
            made_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn tenant() -> Tenant {
        let triggers = TriggerPolicy { hosts: vec!["t.example".into()], allow_loopback: false };
        Tenant {
            cloud_id: CloudId::parse("11111111-2222-4333-8444-555555555555").unwrap(),
            delivery: Delivery::WebTrigger(WebTrigger::new(
                triggers.parse("https://t.example/x1/a").unwrap(),
                key(1),
            )),
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
        let kms = kms(&[1]).await;
        let cache = cache(&kms);
        for hours in [0, 0, 11, 12, 23] {
            assert!(cache.key(&tenant(), &key(1), at(hours)).await.is_ok());
        }
        assert_eq!(kms.requests().len(), 2);
    }

    #[tokio::test]
    async fn a_key_that_was_replaced_is_forgotten() {
        let kms = kms(&[1, 2]).await;
        let cache = cache(&kms);
        let next = NextKey {
            key: key(2),
            endorsement: KeyEndorsement::new(String::new()),
            endorsed_until: at(1),
            is_accepted: false,
            refused_at: None,
        };
        let kept = |cache: &KeyCache| cache.lock()[&tenant().id()].len();
        let mut handing_over = tenant();
        handing_over.web_trigger_mut().next_key = Some(next);
        for wanted in [1, 2, 1, 2] {
            cache.key(&handing_over, &key(wanted), at(0)).await.unwrap();
        }
        assert_eq!((kept(&cache), kms.requests().len()), (2, 2));
        let replaced = Arc::downgrade(&cache.lock()[&tenant().id()][0].key);

        let mut handed_over = tenant();
        handed_over.web_trigger_mut().key = key(2);
        cache.key(&handed_over, &key(2), at(0)).await.unwrap();
        assert_eq!((kept(&cache), kms.requests().len()), (1, 2));
        assert!(replaced.upgrade().is_none());
    }

    #[tokio::test]
    async fn a_key_that_is_not_the_recorded_one_signs_nothing() {
        let kms = kms(&[2]).await;
        assert!(matches!(cache(&kms).key(&tenant(), &key(1), at(0)).await, Err(KeyError::Mismatch)));
    }
}
