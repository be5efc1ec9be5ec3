//! Composes and runs `add-service`.

use std::sync::Arc;

use add_service::AddService;
use add_service::config::AddServiceConfig;
use aws::environment::{Environment, LogConfig};
use aws::kms::{DeploymentKey, WrappingKey};
use aws::store::Store;
use aws::system::{SystemClock, random_nonce};
use aws::telemetry::{self, cannot_start};
use callback::HttpCallbacks;
use lambda_http::{Error, service_fn};
use probe::{HttpProbe, Limits};
use web::gateway;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let environment = Environment::of_process();
    telemetry::init(&LogConfig::read(&environment));
    let config = AddServiceConfig::read(&environment).inspect_err(cannot_start)?;
    let sdk = aws::client::settings().await;
    let kms = aws_sdk_kms::Client::new(&sdk);
    let add_service = AddService {
        probe: HttpProbe::new(config.policy.clone(), Limits::default(), SystemClock)
            .inspect_err(cannot_start)?,
        handoffs: config.handoffs,
        policy: config.policy,
        limits: config.limits,
        period: config.period,
        store: Store::new(aws_sdk_dynamodb::Client::new(&sdk), config.table),
        deployment_key: DeploymentKey::new(kms.clone(), config.deployment_key_id),
        tenant_keys: WrappingKey::new(kms, config.wrapping_key_id),
        callbacks: HttpCallbacks::new(SystemClock).inspect_err(cannot_start)?,
        clock: Arc::new(SystemClock),
        nonce: random_nonce,
        metrics: config.metrics,
    };
    gateway::run(service_fn(async |request| Ok::<_, Error>(add_service.handle(request).await))).await
}
