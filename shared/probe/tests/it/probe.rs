//! `HttpProbe` against real servers, name servers and certificates, all on loopback.
#![expect(clippy::unwrap_used, reason = "equipment that cannot be set up ends the test")]

mod certificates;
mod hostile;
mod limits;
mod names;
mod outcomes;
mod redirects;
mod server;
mod tls;

use aws::system::SystemClock;
use domain::check::{Check, Observation};
use domain::target_url::TargetPolicy;
use probe::{Attempt, HttpProbe, Limits, Network, Probe as _, TenantQuota};

use testing::names::NameServer;

/// The policy of the local stack.
fn loopback() -> TargetPolicy {
    TargetPolicy::public(Vec::new(), Vec::new()).allow_loopback()
}

/// A probe that may reach loopback, and asks nobody for names.
fn prober() -> HttpProbe {
    prober_in(&Network::default(), loopback())
}

fn prober_in(network: &Network, policy: TargetPolicy) -> HttpProbe {
    HttpProbe::within(network, policy, Limits::default(), SystemClock).unwrap()
}

fn names_from(name_server: &NameServer) -> Network {
    Network { name_servers: vec![name_server.at], ..Network::default() }
}

/// A GET with the default deadline; the URL may be one that no policy allows.
fn get(url: &str) -> Check {
    Check::get(serde_json::from_value(url.into()).unwrap())
}

/// A GET with the shortest deadline.
fn hasty(url: &str) -> Check {
    Check { timeout_ms: *Check::TIMEOUT_MS.start(), ..get(url) }
}

/// For the tests in which nobody waits for anybody.
trait ProbeAlone {
    async fn probe_alone(&self, check: &Check) -> Observation;
}

impl ProbeAlone for HttpProbe {
    async fn probe_alone(&self, check: &Check) -> Observation {
        self.probe(check, &TenantQuota::default(), Attempt::EXPECTED).await
    }
}

async fn observe(url: &str) -> Observation {
    prober().probe_alone(&get(url)).await
}
