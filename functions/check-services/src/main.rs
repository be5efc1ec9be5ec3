//! Composes and runs `check-services`.

use check_services::bus::EventBus;
use check_services::key_cache::KeyCache;
use check_services::{CONFIRM_AFTER, CheckServices, Settings};
use lambda_runtime::{Error, run, service_fn};
use shared::callback::http::HttpCallbacks;
use shared::clock::SystemClock;
use shared::config::{CheckServicesConfig, LogConfig};
use shared::key::kms::WrappingKey;
use shared::probe::{HttpProbe, Limits};
use shared::store::dynamo::DynamoStore;
use shared::telemetry::{self, cannot_start};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(&LogConfig::from_env());
    let config = CheckServicesConfig::from_env().inspect_err(cannot_start)?;
    let aws = shared::aws::settings().await;
    let check_services = CheckServices {
        store: DynamoStore::new(aws_sdk_dynamodb::Client::new(&aws), config.table),
        keys: KeyCache::new(WrappingKey::new(aws_sdk_kms::Client::new(&aws), config.wrapping_key_id)),
        callbacks: HttpCallbacks::new(SystemClock).inspect_err(cannot_start)?,
        probe: HttpProbe::new(config.policy, Limits::default(), SystemClock).inspect_err(cannot_start)?,
        bus: EventBus::new(aws_sdk_eventbridge::Client::new(&aws), config.bus),
        clock: SystemClock,
        metrics: config.metrics,
        settings: Settings {
            issuer: config.backend_url,
            triggers: config.triggers,
            period: config.period,
            tenants_per_invocation: config.tenants_per_invocation,
            spread_percent: config.spread_percent,
            confirm_after: CONFIRM_AFTER.to_vec(),
            controls: config.controls,
        },
    };
    run(service_fn(async |event| check_services.invoke(event).await)).await
}
