//! What comes from AWS: the table, KMS, metrics and logs as Lambda wants them, the environment, time and randomness.

pub mod client;
pub mod environment;
pub mod kms;
pub mod metrics;
pub mod store;
pub mod system;
pub mod telemetry;
