//! One attempt at a monitored endpoint: which address, when a connection may be opened, and what came back.
//!
//! Not here: what may be probed at all (`domain::target_url`), and what follows from an attempt (`domain::status`).

use std::future::Future;

use domain::check::{Check, Observation};

mod budget;
mod certificates;
mod connection;
mod drive;
mod http;
mod limiter;
mod resolver;
pub mod tls;

pub use http::{HttpProbe, Limits, Network, SetupError};
pub use limiter::{Attempt, AttemptKind, ConnectionLimits, TenantQuota};

/// The ability to try a service once.
pub trait Probe: Send + Sync {
    /// One attempt on fresh connections, which count against `quota`. Never fails: what goes wrong is in the observation.
    fn probe(
        &self,
        check: &Check,
        quota: &TenantQuota,
        attempt: Attempt,
    ) -> impl Future<Output = Observation> + Send;
}
