//! What `add-service` reads from its environment.

use aws::environment::{ConfigError, Environment};
use aws::metrics::Metrics;
use domain::handoff::HandoffPolicy;
use domain::target_url::TargetPolicy;
use domain::tick::Period;

/// The most services of one tenant (`testdata/limits.json`, which the Forge app keeps to as well).
const MAX_SERVICES: usize = 50;

/// How many services there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceLimits {
    /// `MAX_SERVICES_PER_TENANT`, 1 to 50: with its STATE and TENANT a tenant fits in one page of a Query and one
    /// transaction.
    pub per_tenant: usize,
    /// `MAX_SERVICES_PER_OWNER`.
    pub per_owner: usize,
}

#[derive(Debug, Clone)]
pub struct AddServiceConfig {
    /// Rules for hand-offs.
    pub handoffs: HandoffPolicy,
    /// What a probe may reach.
    pub policy: TargetPolicy,
    /// `TABLE_NAME`.
    pub table: String,
    /// `DEPLOYMENT_KEY_ID`.
    pub deployment_key_id: String,
    /// `WRAPPING_KEY_ID`.
    pub wrapping_key_id: String,
    /// Bounds on the number of services.
    pub limits: ServiceLimits,
    /// `CHECK_EVERY_MINUTES`: when a change is seen in Jira.
    pub period: Period,
    /// `METRICS_NAMESPACE`.
    pub metrics: Metrics,
}

impl AddServiceConfig {
    /// From the environment.
    pub fn read(environment: &Environment) -> Result<Self, ConfigError> {
        let handoffs = environment.handoff_policy()?;
        Ok(Self {
            policy: environment.target_policy(&handoffs.audience, &handoffs.triggers)?,
            handoffs,
            table: environment.required("TABLE_NAME")?,
            deployment_key_id: environment.required("DEPLOYMENT_KEY_ID")?,
            wrapping_key_id: environment.required("WRAPPING_KEY_ID")?,
            limits: ServiceLimits {
                per_tenant: environment.number("MAX_SERVICES_PER_TENANT", MAX_SERVICES, 1..=MAX_SERVICES)?,
                per_owner: environment.number("MAX_SERVICES_PER_OWNER", 10, 1..=MAX_SERVICES)?,
            },
            period: environment.period()?,
            metrics: environment.metrics(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn read(changes: &[(&str, &str)]) -> Result<AddServiceConfig, ConfigError> {
        let good = [
            ("BACKEND_URL", "https://backend.example"),
            ("TABLE_NAME", "x"),
            ("DEPLOYMENT_KEY_ID", "x"),
            ("WRAPPING_KEY_ID", "x"),
            ("FORGE_APP_PUBLIC_KEY", KEYS),
        ];
        AddServiceConfig::read(&Environment::of(&[&good, changes].concat()))
    }

    #[test]
    fn the_limits_are_those_of_the_forge_app() {
        let limits: serde_json::Value =
            serde_json::from_str(include_str!("../../../testdata/limits.json")).unwrap();
        assert_eq!(limits["servicesPerTenant"], MAX_SERVICES);
        assert_eq!(limits["transitionsPerReport"], domain::status::MAX_TRANSITIONS);
    }

    #[test]
    fn a_limit_out_of_its_range_is_named() {
        assert_eq!(read(&[]).unwrap().limits.per_tenant, MAX_SERVICES);
        for value in ["0", "51", "x"] {
            let error = read(&[("MAX_SERVICES_PER_TENANT", value)]).unwrap_err();
            assert_eq!(error.variable, "MAX_SERVICES_PER_TENANT", "{value}");
        }
    }
}
