//! One deployment of check-services, one app, one endpoint.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws::metrics::Metrics;
use aws::store::WriteOutcome;
use aws_sdk_dynamodb::types::AttributeValue;
use callback::HttpCallbacks;
use check_services::bus::EventBus;
use check_services::event::{CHECK_RANGE, Event, STATUS_CHANGED, Shard, VERDICTS_HELD};
use check_services::key_cache::KeyCache;
use check_services::{CheckServices, Settings, Summary};
use domain::check::Check;
use domain::clock::Clock as _;
use domain::id::{Owner, ServiceId};
use domain::key::{KeyContext, PublicKey, Sign as _, TenantKey};
use domain::key_endorsement::endorse_key;
use domain::service::{Service, ServiceName, Thresholds};
use domain::snapshot::TenantSnapshot;
use domain::target_url::TargetPolicy;
use domain::tenant::{Delivery, NextKey, Tenant, TenantStatus, TriggerPolicy, WebTrigger};
use domain::tick::Period;
use jiff::Timestamp;
use probe::{HttpProbe, Limits};
use testing::aws::LocalAws;
use testing::event_bus::EventBridge;
use testing::faults::Faults;
use testing::forge_app::{BACKEND_URL, ForgeApp};
use testing::stored;
use testing::target::Target;
use testing::time::FixedClock;

pub(crate) type Deployed = CheckServices<HttpCallbacks, HttpProbe>;

pub(crate) struct World {
    pub(crate) aws: LocalAws,
    pub(crate) clock: FixedClock,
    pub(crate) app: ForgeApp,
    pub(crate) target: Target,
    pub(crate) bus: EventBridge,
    deployment_key: PublicKey,
}

impl World {
    /// An empty deployment at 10:05, and an app.
    pub(crate) async fn start() -> Self {
        let aws = LocalAws::start().await;
        let deployment_key = aws.deployment_key().public_key().await.unwrap();
        Self {
            app: ForgeApp::start(&deployment_key).await,
            target: Target::start().await,
            clock: FixedClock::at("2026-11-22T10:05:01Z"),
            bus: EventBridge::start().await,
            aws,
            deployment_key,
        }
    }

    /// A deployment with one active service at path `a`.
    pub(crate) async fn with_one_service() -> Self {
        let world = Self::start().await;
        world.add(&world.app, "a").await;
        world
    }

    /// A deployment with so many tenants, each with one service, and their apps.
    pub(crate) async fn with_tenants(count: usize) -> (Self, Vec<ForgeApp>) {
        let world = Self::with_one_service().await;
        let mut apps = vec![world.app.clone()];
        while apps.len() < count {
            let app = world.another_app().await;
            world.add(&app, "a").await;
            apps.push(app);
        }
        (world, apps)
    }

    pub(crate) async fn another_app(&self) -> ForgeApp {
        ForgeApp::start(&self.deployment_key).await
    }

    pub(crate) fn function(&self) -> Deployed {
        self.function_with(self.callbacks(), self.probe())
    }

    /// The deployed function, but for how it sends and probes.
    pub(crate) fn function_with<K, P>(&self, callbacks: K, probe: P) -> CheckServices<K, P> {
        CheckServices {
            store: self.aws.store(),
            keys: KeyCache::new(self.aws.wrapping_key()),
            callbacks,
            probe,
            bus: self.bus_through(&self.aws),
            clock: Arc::new(self.clock.clone()),
            metrics: Metrics::default(),
            settings: Settings {
                issuer: BACKEND_URL.to_owned(),
                triggers: TriggerPolicy { hosts: vec![], allow_loopback: true },
                period: Period::from_minutes(5).unwrap(),
                tenants_per_invocation: 2_500,
                spread_percent: 20,
                confirm_after: vec![Duration::from_millis(1); 2],
                controls: vec![],
            },
        }
    }

    /// The deployed function, with a table, keys and a bus that fail.
    pub(crate) fn function_with_faults(&self, faults: &Faults) -> Deployed {
        let aws = self.aws.with_faults(faults);
        let keys = KeyCache::new(aws.wrapping_key());
        CheckServices { store: aws.store(), keys, bus: self.bus_through(&aws), ..self.function() }
    }

    /// The deployed function, with a table that fails.
    pub(crate) fn function_with_store_faults(&self, faults: &Faults) -> Deployed {
        CheckServices { store: self.aws.with_faults(faults).store(), ..self.function() }
    }

    fn bus_through(&self, aws: &LocalAws) -> EventBus {
        EventBus::new(aws.eventbridge(self.bus.url()), "bus".to_owned())
    }

    pub(crate) fn callbacks(&self) -> HttpCallbacks {
        HttpCallbacks::new(self.clock.clone()).unwrap()
    }

    pub(crate) fn probe(&self) -> HttpProbe {
        let policy = TargetPolicy::public(vec![], vec![]).allow_loopback();
        HttpProbe::new(policy, Limits::default(), self.clock.clone()).unwrap()
    }

    /// The shards that were published.
    pub(crate) fn shards(&self) -> Vec<Shard> {
        let shards = self.bus.published(CHECK_RANGE).into_iter();
        shards.map(|shard| serde_json::from_value(shard).unwrap()).collect()
    }

    /// From now on the bus refuses what operators read.
    pub(crate) fn refuse_notifications(&self) {
        self.bus.refuse(&[VERDICTS_HELD, STATUS_CHANGED]);
    }

    /// Stores an active service of the app as add-service would, and gives the app the tenant's key.
    pub(crate) async fn add(&self, app: &ForgeApp, path: &str) -> ServiceId {
        self.add_service(app, &self.target.url(path), Thresholds::default()).await
    }

    /// The same for any URL, named like it.
    pub(crate) async fn add_service(&self, app: &ForgeApp, url: &str, thresholds: Thresholds) -> ServiceId {
        let (store, now) = (self.aws.store(), self.clock.now());
        let tenant_id = app.tenant_id();
        let found = store.find(&tenant_id, now).await.unwrap();
        let tenant = match found {
            Some(found) => found.tenant,
            None => self.new_tenant(app).await,
        };
        let check = Check::get(TargetPolicy::public(vec![], vec![]).allow_loopback().target(url).unwrap());
        let name = ServiceName::parse(url.rsplit('/').next().unwrap()).unwrap();
        let owner = Owner::parse("owner-1").unwrap();
        let service = Service { thresholds, ..Service::pending(&tenant_id, name, check, owner, now) };
        stored::register(&store, &tenant, &service, now).await;
        app.trust(&tenant.web_trigger().key.public);
        service.id
    }

    /// Gives the app's tenant a next key as rotate-keys would, or endorses the one that it has anew.
    pub(crate) async fn offer_next_key(&self, app: &ForgeApp) -> NextKey {
        let tenant = self.aws.store().tenant(&app.tenant_id(), self.clock.now()).await.unwrap().unwrap();
        let key = match &tenant.web_trigger().next_key {
            Some(next) => next.key.clone(),
            None => self.new_key(app).await,
        };
        let next = endorse_key(&tenant, key, &self.aws.deployment_key(), self.clock.now()).await.unwrap();
        assert_eq!(self.aws.store().store_next_key(&tenant, &next).await.unwrap(), WriteOutcome::Applied);
        next
    }

    /// Puts the present wrapped key where the next one belongs: what is unwrapped then is not what the record names.
    pub(crate) async fn spoil_next_key(&self, app: &ForgeApp) {
        let update = self.aws.dynamo().update_item().table_name(&self.aws.table);
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let update = update.key("pk", text(&format!("TENANT#{}", app.tenant_id()))).key("sk", text("TENANT"));
        update.update_expression("SET nextKey.wrappedKey = wrappedKey").send().await.unwrap();
    }

    async fn new_key(&self, app: &ForgeApp) -> TenantKey {
        let context = KeyContext { cloud_id: app.cloud_id.clone(), tenant_id: app.tenant_id() };
        let (public, wrapped) = self.aws.wrapping_key().make_key(&context).await.unwrap();
        TenantKey { public, wrapped, made_at: self.clock.now() }
    }

    async fn new_tenant(&self, app: &ForgeApp) -> Tenant {
        let triggers = TriggerPolicy { hosts: vec![], allow_loopback: true };
        Tenant {
            cloud_id: app.cloud_id.clone(),
            delivery: Delivery::WebTrigger(WebTrigger::new(
                triggers.parse(&app.trigger_url).unwrap(),
                self.new_key(app).await,
            )),
            status: TenantStatus::Pending,
            created_at: self.clock.now(),
            registered_at: None,
        }
    }

    /// Runs the tick of this moment, with all of Lambda's time.
    pub(crate) async fn tick(&self, function: &Deployed) -> Summary {
        function.handle(self.scheduled(), self.deadline()).await.unwrap()
    }

    /// Five minutes on, and the tick of that moment.
    pub(crate) async fn next_tick(&self, function: &Deployed) -> Summary {
        self.clock.advance(300);
        self.tick(function).await
    }

    pub(crate) fn scheduled(&self) -> Event {
        Event::Scheduled { time: self.clock.now() }
    }

    pub(crate) fn deadline(&self) -> Timestamp {
        self.clock.now() + jiff::SignedDuration::from_secs(300)
    }

    /// The app's raw items, expired ones included.
    pub(crate) async fn items(&self, app: &ForgeApp) -> Vec<HashMap<String, AttributeValue>> {
        let pk = AttributeValue::S(format!("TENANT#{}", app.tenant_id()));
        let query =
            self.aws.dynamo().query().table_name(&self.aws.table).key_condition_expression("pk = :pk");
        query.expression_attribute_values(":pk", pk).send().await.unwrap().items.unwrap()
    }

    pub(crate) async fn watched(&self, app: &ForgeApp) -> Option<TenantSnapshot> {
        self.aws.store().load(&app.tenant_id(), self.clock.now()).await.unwrap()
    }
}
