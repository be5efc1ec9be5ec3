//! One deployment of add-service, one app, one endpoint.

use std::sync::Arc;

use add_service::AddService;
use add_service::config::ServiceLimits;
use aws::metrics::Metrics;
use aws::system::random_nonce;
use callback::HttpCallbacks;
use data_encoding::BASE64;
use domain::clock::Clock as _;
use domain::handoff::HandoffPolicy;
use domain::key::Sign as _;
use domain::target_url::TargetPolicy;
use domain::tick::Period;
use lambda_http::{Body, Request, Response};
use probe::{HttpProbe, Limits};
use serde_json::{Value, json};
use testing::aws::LocalAws;
use testing::faults::Faults;
use testing::forge_app::ForgeApp;
use testing::target::Target;
use testing::time::FixedClock;
use web::gateway;

pub(crate) type Deployed = AddService<HttpCallbacks>;

pub(crate) const FORM: &str = include_str!("../../../../events/add-service/form.json");
pub(crate) const JSON: &str = include_str!("../../../../events/add-service/json.json");
pub(crate) const MANAGE_FORM: &str = include_str!("../../../../events/add-service/manage-form.json");
pub(crate) const MANAGE_JSON: &str = include_str!("../../../../events/add-service/manage-json.json");

pub(crate) struct World {
    pub(crate) aws: LocalAws,
    pub(crate) clock: FixedClock,
    pub(crate) app: ForgeApp,
    pub(crate) target: Target,
}

impl World {
    pub(crate) async fn start() -> Self {
        let aws = LocalAws::start().await;
        let key = aws.deployment_key().public_key().await.unwrap();
        let (app, target) = (ForgeApp::start(&key).await, Target::start().await);
        Self { aws, clock: FixedClock::at("2026-11-22T10:07:00Z"), app, target }
    }

    /// A deployment that knows the app's key.
    pub(crate) fn function(&self) -> Deployed {
        self.function_within(ServiceLimits { per_tenant: 50, per_owner: 10 })
    }

    /// The same with other limits.
    pub(crate) fn function_within(&self, limits: ServiceLimits) -> Deployed {
        self.function_with(self.app.handoff_rule(), limits)
    }

    /// The same with a table and keys that fail.
    pub(crate) fn function_with_faults(&self, faults: &Faults) -> Deployed {
        let aws = self.aws.with_faults(faults);
        AddService {
            store: aws.store(),
            deployment_key: aws.deployment_key(),
            tenant_keys: aws.wrapping_key(),
            ..self.function()
        }
    }

    /// The same with a table that fails, or before whose operations something else happens.
    pub(crate) fn function_with_store_faults(&self, faults: &Faults) -> Deployed {
        AddService { store: self.aws.with_faults(faults).store(), ..self.function() }
    }

    pub(crate) fn function_with(&self, handoffs: HandoffPolicy, limits: ServiceLimits) -> Deployed {
        self.function_through(HttpCallbacks::new(self.clock.clone()).unwrap(), handoffs, limits)
    }

    /// The same, but for how it sends.
    pub(crate) fn function_through<K>(
        &self,
        callbacks: K,
        handoffs: HandoffPolicy,
        limits: ServiceLimits,
    ) -> AddService<K> {
        let policy = TargetPolicy::public(vec![], handoffs.triggers.host_suffixes()).allow_loopback();
        AddService {
            probe: HttpProbe::new(policy.clone(), Limits::default(), self.clock.clone()).unwrap(),
            handoffs,
            policy,
            limits,
            period: Period::from_minutes(5).unwrap(),
            store: self.aws.store(),
            deployment_key: self.aws.deployment_key(),
            tenant_keys: self.aws.wrapping_key(),
            callbacks,
            clock: Arc::new(self.clock.clone()),
            nonce: random_nonce,
            metrics: Metrics::default(),
        }
    }

    /// A JSON request with a fresh hand-off for the endpoint's `path`.
    pub(crate) async fn wish(&self, path: &str) -> Value {
        self.wish_of("owner-1", path).await
    }

    /// The same of another person.
    pub(crate) async fn wish_of(&self, owner: &str, path: &str) -> Value {
        let handoff = self.app.handoff_of(owner, self.clock.now()).await;
        json!({ "handoff": handoff, "name": format!("Service {path}"), "url": self.target.url(path) })
    }
}

/// The sample event with another JSON body.
pub(crate) fn json_request(body: &Value) -> Request {
    changed(JSON, |event| event["body"] = json!(body.to_string()))
}

/// The sample event, changed.
pub(crate) fn changed(event: &str, change: impl FnOnce(&mut Value)) -> Request {
    let mut event: Value = serde_json::from_str(event).unwrap();
    change(&mut event);
    gateway::read(&event.to_string()).unwrap()
}

/// Replaces texts in a base64 form body.
pub(crate) fn in_form(event: &mut Value, replacements: &[(&str, &str)]) {
    let body = BASE64.decode(event["body"].as_str().unwrap().as_bytes()).unwrap();
    let mut fields: Vec<(String, String)> = url::form_urlencoded::parse(&body).into_owned().collect();
    for (name, value) in replacements {
        fields.retain(|(field, _)| field != name);
        fields.push(((*name).to_owned(), (*value).to_owned()));
    }
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    event["body"] = json!(BASE64.encode(body.as_bytes()));
}

pub(crate) fn text(response: &Response<Body>) -> String {
    String::from_utf8(response.body().to_vec()).unwrap()
}

pub(crate) fn document(response: &Response<Body>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}
