//! Composes and runs `rotate-keys`.

use lambda_runtime::{Error, run, service_fn};
use rotate_keys::RotateKeys;
use shared::clock::SystemClock;
use shared::config::{LogConfig, RotateKeysConfig};
use shared::key::kms::{DeploymentKey, WrappingKey};
use shared::store::dynamo::DynamoStore;
use shared::telemetry::{self, cannot_start};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(&LogConfig::from_env());
    let config = RotateKeysConfig::from_env().inspect_err(cannot_start)?;
    let aws = shared::aws::settings().await;
    let kms = aws_sdk_kms::Client::new(&aws);
    let rotate_keys = RotateKeys {
        store: DynamoStore::new(aws_sdk_dynamodb::Client::new(&aws), config.table),
        deployment_key: DeploymentKey::new(kms.clone(), config.deployment_key_id),
        tenant_keys: WrappingKey::new(kms, config.wrapping_key_id),
        clock: SystemClock,
        key_lifetime: config.key_lifetime,
    };
    run(service_fn(async |event| rotate_keys.invoke(event).await)).await
}
