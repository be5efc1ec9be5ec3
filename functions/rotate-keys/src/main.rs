//! Composes and runs `rotate-keys`.

use std::sync::Arc;

use aws::environment::{Environment, LogConfig};
use aws::kms::{DeploymentKey, WrappingKey};
use aws::store::Store;
use aws::system::SystemClock;
use aws::telemetry::{self, cannot_start};
use lambda_runtime::{Error, run, service_fn};
use rotate_keys::RotateKeys;
use rotate_keys::config::RotateKeysConfig;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let environment = Environment::of_process();
    telemetry::init(&LogConfig::read(&environment));
    let config = RotateKeysConfig::read(&environment).inspect_err(cannot_start)?;
    let sdk = aws::client::settings().await;
    let kms = aws_sdk_kms::Client::new(&sdk);
    let rotate_keys = RotateKeys {
        store: Store::new(aws_sdk_dynamodb::Client::new(&sdk), config.table),
        deployment_key: DeploymentKey::new(kms.clone(), config.deployment_key_id),
        tenant_keys: WrappingKey::new(kms, config.wrapping_key_id),
        clock: Arc::new(SystemClock),
        key_lifetime: config.key_lifetime,
    };
    run(service_fn(async |event| rotate_keys.invoke(event).await)).await
}
