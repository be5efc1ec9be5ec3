//! Composes and runs `add-service`.

use add_service::AddService;
use lambda_http::{Error, service_fn};
use shared::callback::http::HttpCallbacks;
use shared::clock::{SystemClock, random_nonce};
use shared::config::{AddServiceConfig, LogConfig};
use shared::key::kms::{DeploymentKey, WrappingKey};
use shared::probe::{HttpProbe, Limits};
use shared::store::dynamo::DynamoStore;
use shared::telemetry::{self, cannot_start};
use shared::{aws, gateway};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(&LogConfig::from_env());
    let config = AddServiceConfig::from_env().inspect_err(cannot_start)?;
    let aws = aws::settings().await;
    let kms = aws_sdk_kms::Client::new(&aws);
    let add_service = AddService {
        probe: HttpProbe::new(config.policy.clone(), Limits::default(), SystemClock)
            .inspect_err(cannot_start)?,
        handoffs: config.handoffs,
        policy: config.policy,
        limits: config.limits,
        period: config.period,
        store: DynamoStore::new(aws_sdk_dynamodb::Client::new(&aws), config.table),
        deployment_key: DeploymentKey::new(kms.clone(), config.deployment_key_id),
        tenant_keys: WrappingKey::new(kms, config.wrapping_key_id),
        callbacks: HttpCallbacks::new(SystemClock).inspect_err(cannot_start)?,
        clock: SystemClock,
        nonce: random_nonce,
        metrics: config.metrics,
    };
    gateway::run(service_fn(async |request| Ok::<_, Error>(add_service.handle(request).await))).await
}
