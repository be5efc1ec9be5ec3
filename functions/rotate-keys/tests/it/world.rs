//! One deployment of rotate-keys, and tenants as add-service stores them.

use std::sync::Arc;

use aws::system::random_nonce;
use domain::check::Check;
use domain::clock::Clock as _;
use domain::id::{CloudId, Owner, TenantId};
use domain::key::{KeyContext, TenantKey};
use domain::service::{Service, ServiceName};
use domain::target_url::TargetPolicy;
use domain::tenant::{Delivery, Tenant, TenantStatus, TriggerPolicy, WebTrigger};
use jiff::{SignedDuration, Timestamp};
use rotate_keys::event::Event;
use rotate_keys::{RotateKeys, Summary};
use testing::aws::LocalAws;
use testing::stored;
use testing::time::FixedClock;

pub(crate) struct World {
    pub(crate) aws: LocalAws,
    pub(crate) clock: FixedClock,
}

impl World {
    /// An empty deployment.
    pub(crate) async fn start() -> Self {
        Self { aws: LocalAws::start().await, clock: FixedClock::at("2026-08-01T03:17:00Z") }
    }

    /// A deployment with so many tenants, whose keys have lived for as long as keys may.
    pub(crate) async fn with_old_keys(tenants: usize) -> (Self, Vec<TenantId>) {
        let world = Self::start().await;
        let mut ids = Vec::new();
        for _ in 0..tenants {
            ids.push(world.add().await);
        }
        world.clock.advance(90 * 86_400 + 1);
        (world, ids)
    }

    pub(crate) fn function(&self) -> RotateKeys {
        RotateKeys {
            store: self.aws.store(),
            deployment_key: self.aws.deployment_key(),
            tenant_keys: self.aws.wrapping_key(),
            clock: Arc::new(self.clock.clone()),
            key_lifetime: Some(SignedDuration::from_hours(90 * 24)),
        }
    }

    /// A new active tenant.
    pub(crate) async fn add(&self) -> TenantId {
        let id = data_encoding::HEXLOWER.encode(&random_nonce());
        let uuid = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
        self.register(&CloudId::parse(&uuid).unwrap()).await
    }

    /// Registers a tenant of this site as if for the first time, with a key of its own.
    pub(crate) async fn register(&self, cloud_id: &CloudId) -> TenantId {
        let triggers = TriggerPolicy { hosts: vec![], allow_loopback: true };
        let trigger_url = triggers.parse("http://127.0.0.1:1/x1/secret-trigger").unwrap();
        let id = TenantId::derive(cloud_id, trigger_url.as_str());
        let context = KeyContext { cloud_id: cloud_id.clone(), tenant_id: id.clone() };
        let now = self.clock.now();
        let (public, wrapped) = self.aws.wrapping_key().make_key(&context).await.unwrap();
        let tenant = Tenant {
            cloud_id: cloud_id.clone(),
            delivery: Delivery::WebTrigger(WebTrigger::new(
                trigger_url,
                TenantKey { public, wrapped, made_at: now },
            )),
            status: TenantStatus::Pending,
            created_at: now,
            registered_at: None,
        };
        let url = TargetPolicy::public(vec![], vec![]).target("https://shop.example/").unwrap();
        let (name, owner) = (ServiceName::parse("Shop").unwrap(), Owner::parse("owner-1").unwrap());
        let service = Service::pending(&id, name, Check::get(url), owner, now);
        stored::register(&self.aws.store(), &tenant, &service, now).await;
        id
    }

    pub(crate) async fn tenant(&self, id: &TenantId) -> Tenant {
        self.aws.store().tenant(id, self.clock.now()).await.unwrap().unwrap()
    }

    /// The schedule's event, with all of Lambda's time.
    pub(crate) async fn run(&self, function: &RotateKeys) -> Summary {
        function.handle(scheduled(), self.deadline()).await.unwrap()
    }

    pub(crate) fn deadline(&self) -> Timestamp {
        self.clock.now() + SignedDuration::from_secs(300)
    }
}

pub(crate) fn scheduled() -> Event {
    serde_json::from_str(include_str!("../../../../events/rotate-keys/scheduled.json")).unwrap()
}
