//! Composes and runs `register`.

use std::sync::Arc;

use aws::environment::{Environment, LogConfig};
use aws::kms::DeploymentKey;
use aws::system::SystemClock;
use aws::telemetry::{self, cannot_start};
use aws_sdk_kms::Client as Kms;
use lambda_http::{Error, service_fn};
use register::Register;
use register::config::RegisterConfig;
use web::gateway;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let environment = Environment::of_process();
    telemetry::init(&LogConfig::read(&environment));
    let config = RegisterConfig::read(&environment).inspect_err(cannot_start)?;
    let kms = Kms::new(&aws::client::settings().await);
    let register = Register {
        handoffs: config.handoffs,
        deployment_key: DeploymentKey::new(kms, config.deployment_key_id),
        clock: Arc::new(SystemClock),
    };
    gateway::run(service_fn(async |request| Ok::<_, Error>(register.handle(request).await))).await
}
