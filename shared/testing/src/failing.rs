//! Adapters around the real ones that fail at one chosen call, in each way that AWS fails, or before which something else
//! happens: a race, at the very point where it matters.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use aws::store::{
    Checks, FailureStreak, HandoffUse, PendingRegistration, RegisteredTenant, Registrations, Rotations,
    ServiceChange, StoreError, TenantRange, TenantSnapshot, WriteOutcome,
};
use domain::handoff::HandoffRef;
use domain::id::{HandoffId, ServiceId, TenantId};
use domain::key::{KeyContext, KeyError, MakeKey, PrivateKey, PublicKey, Sign, UnwrapKey, WrappedKey};
use domain::service::Service;
use domain::status::State;
use domain::tenant::{NextKey, Tenant, TenantStatus};
use domain::tick::Tick;
use jiff::Timestamp;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Throttled or not reached: nothing was done.
    Unavailable,
    /// Refused for good: nothing was done.
    Refused,
    /// Carried out, and the answer was lost.
    LostAnswer,
    /// No answer, ever: the adapters give a call up after ten seconds, so nothing real does this.
    Hang,
}

impl Fault {
    /// All that AWS knows.
    pub const ALL: [Self; 3] = [Self::Unavailable, Self::Refused, Self::LostAnswer];
}

/// The calls of one function, in order over all its adapters, and which of them fails.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    at: Option<(usize, Fault)>,
    calls: Arc<Mutex<Vec<&'static str>>>,
    meanwhile: Arc<Mutex<Vec<Meanwhile>>>,
}

/// What happens before the next call of a name.
struct Meanwhile {
    call: &'static str,
    what: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "something before {}", self.call)
    }
}

impl Faults {
    /// None: for counting.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The call of this index, from 0, fails like this.
    #[must_use]
    pub fn at(call: usize, fault: Fault) -> Self {
        Self { at: Some((call, fault)), ..Self::default() }
    }

    /// No call fails, and `what` happens right before the next one of this name.
    #[must_use]
    pub fn before(call: &'static str, what: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::none().and_before(call, what)
    }

    /// The same, added.
    #[must_use]
    pub fn and_before(self, call: &'static str, what: impl Future<Output = ()> + Send + 'static) -> Self {
        let meanwhile = Meanwhile { call, what: Box::pin(what) };
        self.meanwhile.lock().expect("no test panicked inside").push(meanwhile);
        self
    }

    /// The first of what happens before a call of this name, taken out.
    fn meanwhile(&self, call: &str) -> Option<Meanwhile> {
        let mut all = self.meanwhile.lock().expect("no test panicked inside");
        let position = all.iter().position(|meanwhile| meanwhile.call == call)?;
        Some(all.remove(position))
    }

    /// The names of the calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().expect("no test panicked inside").clone()
    }

    /// One call: `carry_out` is the real one, `error` what its port says of a fault.
    pub async fn call<T, E>(
        &self,
        name: &'static str,
        error: fn(Fault) -> E,
        carry_out: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        if let Some(meanwhile) = self.meanwhile(name) {
            meanwhile.what.await;
        }
        let index = {
            let mut calls = self.calls.lock().expect("no test panicked inside");
            calls.push(name);
            calls.len() - 1
        };
        match self.at {
            Some((at, Fault::LostAnswer)) if at == index => {
                carry_out.await?;
                Err(error(Fault::LostAnswer))
            }
            Some((at, Fault::Hang)) if at == index => std::future::pending().await,
            Some((at, fault)) if at == index => Err(error(fault)),
            _ => carry_out.await,
        }
    }
}

fn store_error(fault: Fault) -> StoreError {
    match fault {
        Fault::Refused => StoreError::Refused("refused by a test".into()),
        Fault::Unavailable | Fault::LostAnswer | Fault::Hang => {
            StoreError::Unavailable("made unavailable by a test".into())
        }
    }
}

fn key_error(fault: Fault) -> KeyError {
    match fault {
        Fault::Refused => KeyError::Refused("refused by a test".into()),
        Fault::Unavailable | Fault::LostAnswer | Fault::Hang => {
            KeyError::Unavailable("made unavailable by a test".into())
        }
    }
}

/// A store that fails.
#[derive(Debug, Clone)]
pub struct FailingStore<S> {
    store: S,
    faults: Faults,
}

impl<S> FailingStore<S> {
    /// Around a real one.
    pub fn new(store: S, faults: &Faults) -> Self {
        Self { store, faults: faults.clone() }
    }
}

impl<S: Registrations> Registrations for FailingStore<S> {
    async fn find(&self, tenant: &TenantId, now: Timestamp) -> Result<Option<RegisteredTenant>, StoreError> {
        self.faults.call("find", store_error, self.store.find(tenant, now)).await
    }

    async fn handoff_use(
        &self,
        handoff: &HandoffId,
        now: Timestamp,
    ) -> Result<Option<HandoffUse>, StoreError> {
        self.faults.call("handoff_use", store_error, self.store.handoff_use(handoff, now)).await
    }

    async fn count_attempt(&self, handoff: &HandoffRef) -> Result<WriteOutcome, StoreError> {
        self.faults.call("count_attempt", store_error, self.store.count_attempt(handoff)).await
    }

    async fn begin_registration(
        &self,
        registration: &PendingRegistration<'_>,
        now: Timestamp,
    ) -> Result<WriteOutcome, StoreError> {
        let begin = self.store.begin_registration(registration, now);
        self.faults.call("begin_registration", store_error, begin).await
    }

    async fn activate(
        &self,
        tenant: &Tenant,
        service: &Service,
        others: &[ServiceId],
        now: Timestamp,
    ) -> Result<WriteOutcome, StoreError> {
        let activate = self.store.activate(tenant, service, others, now);
        self.faults.call("activate", store_error, activate).await
    }

    async fn apply_change(
        &self,
        change: &ServiceChange<'_>,
        now: Timestamp,
    ) -> Result<WriteOutcome, StoreError> {
        self.faults.call("apply_change", store_error, self.store.apply_change(change, now)).await
    }
}

impl<S: Checks> Checks for FailingStore<S> {
    async fn active(&self, range: &TenantRange) -> Result<Vec<TenantId>, StoreError> {
        self.faults.call("active", store_error, self.store.active(range)).await
    }

    async fn load(&self, tenant: &TenantId, now: Timestamp) -> Result<Option<TenantSnapshot>, StoreError> {
        self.faults.call("load", store_error, self.store.load(tenant, now)).await
    }

    async fn commit(
        &self,
        tenant: &TenantId,
        found: Option<Tick>,
        state: &State,
    ) -> Result<WriteOutcome, StoreError> {
        self.faults.call("commit", store_error, self.store.commit(tenant, found, state)).await
    }

    async fn acknowledge(&self, tenant: &TenantId, tick: Tick) -> Result<(), StoreError> {
        self.faults.call("acknowledge", store_error, self.store.acknowledge(tenant, tick)).await
    }

    async fn record_failures(
        &self,
        tenant: &TenantId,
        found: FailureStreak,
        failures: FailureStreak,
    ) -> Result<(), StoreError> {
        let record = self.store.record_failures(tenant, found, failures);
        self.faults.call("record_failures", store_error, record).await
    }

    async fn mark(&self, tenant: &Tenant, status: TenantStatus) -> Result<WriteOutcome, StoreError> {
        self.faults.call("mark", store_error, self.store.mark(tenant, status)).await
    }

    async fn suspend(
        &self,
        tenant: &Tenant,
        services: &[ServiceId],
        expires_at: Option<Timestamp>,
    ) -> Result<WriteOutcome, StoreError> {
        let suspend = self.store.suspend(tenant, services, expires_at);
        self.faults.call("suspend", store_error, suspend).await
    }

    async fn record_next_key_response(
        &self,
        tenant: &TenantId,
        found: &NextKey,
        next: &NextKey,
    ) -> Result<(), StoreError> {
        let record = self.store.record_next_key_response(tenant, found, next);
        self.faults.call("record_next_key_response", store_error, record).await
    }

    async fn promote_next_key(&self, tenant: &Tenant, next: &NextKey) -> Result<WriteOutcome, StoreError> {
        self.faults.call("promote_next_key", store_error, self.store.promote_next_key(tenant, next)).await
    }
}

impl<S: Rotations> Rotations for FailingStore<S> {
    async fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        self.faults.call("tenants", store_error, self.store.tenants()).await
    }

    async fn tenant(&self, id: &TenantId, now: Timestamp) -> Result<Option<Tenant>, StoreError> {
        self.faults.call("tenant", store_error, self.store.tenant(id, now)).await
    }

    async fn store_next_key(&self, tenant: &Tenant, next: &NextKey) -> Result<WriteOutcome, StoreError> {
        self.faults.call("store_next_key", store_error, self.store.store_next_key(tenant, next)).await
    }
}

/// A key that fails.
#[derive(Debug)]
pub struct FailingKeys<K> {
    keys: K,
    faults: Faults,
}

impl<K> FailingKeys<K> {
    /// Around a real one.
    pub fn new(keys: K, faults: &Faults) -> Self {
        Self { keys, faults: faults.clone() }
    }
}

impl<K: MakeKey> MakeKey for FailingKeys<K> {
    async fn make_key(&self, context: &KeyContext) -> Result<(PublicKey, WrappedKey), KeyError> {
        self.faults.call("make_key", key_error, self.keys.make_key(context)).await
    }
}

impl<K: UnwrapKey> UnwrapKey for FailingKeys<K> {
    async fn unwrap_key(&self, wrapped: &WrappedKey, context: &KeyContext) -> Result<PrivateKey, KeyError> {
        self.faults.call("unwrap_key", key_error, self.keys.unwrap_key(wrapped, context)).await
    }
}

impl<K: Sign> Sign for FailingKeys<K> {
    async fn public_key(&self) -> Result<PublicKey, KeyError> {
        self.faults.call("public_key", key_error, self.keys.public_key()).await
    }

    async fn sign(&self, message: &[u8]) -> Result<[u8; 64], KeyError> {
        self.faults.call("sign", key_error, self.keys.sign(message)).await
    }
}
