//! Composes and runs `register`.

use aws_sdk_kms::Client as Kms;
use lambda_http::{Error, service_fn};
use register::Register;
use shared::clock::SystemClock;
use shared::config::{LogConfig, RegisterConfig};
use shared::key::kms::DeploymentKey;
use shared::telemetry::{self, cannot_start};
use shared::{aws, gateway};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init(&LogConfig::from_env());
    let config = RegisterConfig::from_env().inspect_err(cannot_start)?;
    let kms = Kms::new(&aws::settings().await);
    let register = Register {
        handoffs: config.handoffs,
        deployment_key: DeploymentKey::new(kms, config.deployment_key_id),
        clock: SystemClock,
    };
    gateway::run(service_fn(async |request| Ok::<_, Error>(register.handle(request).await))).await
}
