//! Composes and runs `check-services`.

use std::sync::Arc;

use aws::environment::{Environment, LogConfig};
use aws::kms::WrappingKey;
use aws::store::Store;
use aws::system::SystemClock;
use aws::telemetry::{self, cannot_start};
use callback::HttpCallbacks;
use check_services::CheckServices;
use check_services::bus::EventBus;
use check_services::config::CheckServicesConfig;
use check_services::key_cache::KeyCache;
use lambda_runtime::{Error, run, service_fn};
use probe::{HttpProbe, Limits};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let environment = Environment::of_process();
    telemetry::init(&LogConfig::read(&environment));
    let config = CheckServicesConfig::read(&environment).inspect_err(cannot_start)?;
    let sdk = aws::client::settings().await;
    let check_services = CheckServices {
        store: Store::new(aws_sdk_dynamodb::Client::new(&sdk), config.table),
        keys: KeyCache::new(WrappingKey::new(aws_sdk_kms::Client::new(&sdk), config.wrapping_key_id)),
        callbacks: HttpCallbacks::new(SystemClock).inspect_err(cannot_start)?,
        probe: HttpProbe::new(config.policy, Limits::default(), SystemClock).inspect_err(cannot_start)?,
        bus: EventBus::new(aws_sdk_eventbridge::Client::new(&sdk), config.bus),
        clock: Arc::new(SystemClock),
        metrics: config.metrics,
        settings: config.settings,
    };
    run(service_fn(async |event| check_services.invoke(event).await)).await
}
