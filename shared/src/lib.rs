//! What two functions share. The domain (`id`, `tenant`, `service`, `status`, `tick`, `handoff`) knows no adapter;
//! adapters (`store::dynamo`, `key::kms`, `probe::http`, `callback::http`) know the domain.
//!
//! Invariants, each with a test (README, "Invariants"):
//! 1. AWS SDK types appear only in adapters and in `main.rs`.
//! 2. The environment is read only in `config`; time and randomness are arguments.
//! 3. Every outgoing connection passes `probe::address` (probes) or `tenant::TriggerRule` (callbacks); redirects are
//!    followed by hand and re-checked at every hop (probes) or not at all (callbacks).
//! 4. A private key exists in memory only as a type without `Debug`, `Clone` or `Serialize`; at rest only wrapped.
//! 5. `status` is pure and total: (state, observations) -> (state, transitions). A check that fails is data.
//! 6. State is committed before it is sent.
//! 7. Nothing a tenant sends can read or change another tenant's items.
//! 8. Every file in events/ is used by a test, and the template's IAM actions equal a list per function.

pub mod aws;
pub mod callback;
pub mod clock;
pub mod config;
pub mod gateway;
pub mod handoff;
pub mod id;
pub mod key;
pub mod metrics;
pub mod page;
pub mod probe;
pub mod problem;
pub mod response;
pub mod service;
pub mod status;
pub mod store;
pub mod telemetry;
pub mod tenant;
pub mod tick;
pub mod tls;
