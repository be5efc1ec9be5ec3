//! What `check-services` reads from its environment.

use aws::environment::{ConfigError, Environment};
use aws::metrics::Metrics;
use domain::check::Check;
use domain::target_url::TargetPolicy;

use crate::{CONFIRM_AFTER, Settings};

/// A control endpoint that takes longer does not work: the last attempt of a check waits for it.
const CONTROL_TIMEOUT_MS: u16 = 3_000;

#[derive(Debug)]
pub struct CheckServicesConfig {
    pub settings: Settings,
    /// What a probe may reach.
    pub policy: TargetPolicy,
    /// `TABLE_NAME`.
    pub table: String,
    /// `WRAPPING_KEY_ID`.
    pub wrapping_key_id: String,
    /// `BUS_NAME`.
    pub bus: String,
    /// `METRICS_NAMESPACE`.
    pub metrics: Metrics,
}

impl CheckServicesConfig {
    /// From the environment.
    pub fn read(environment: &Environment) -> Result<Self, ConfigError> {
        let issuer = environment.backend_url()?;
        let triggers = environment.triggers()?;
        let policy = environment.target_policy(&issuer, &triggers)?;
        let settings = Settings {
            issuer,
            triggers,
            period: environment.period()?,
            tenants_per_invocation: environment.number("TENANTS_PER_INVOCATION", 2_500, 1..=100_000)?,
            spread_percent: u8::try_from(environment.number("SPREAD_PERCENT", 20, 0..=50)?).unwrap_or(50),
            confirm_after: CONFIRM_AFTER.to_vec(),
            controls: controls(environment, &policy)?,
        };
        Ok(Self {
            settings,
            policy,
            table: environment.required("TABLE_NAME")?,
            wrapping_key_id: environment.required("WRAPPING_KEY_ID")?,
            bus: environment.required("BUS_NAME")?,
            metrics: environment.metrics(),
        })
    }
}

/// How many control endpoints there may be.
const MAX_CONTROLS: usize = 10;

fn controls(environment: &Environment, policy: &TargetPolicy) -> Result<Vec<Check>, ConfigError> {
    const NAME: &str = "CONTROL_URLS";
    let urls = environment.items(NAME);
    if urls.len() > MAX_CONTROLS {
        return Err(ConfigError::new(NAME, format!("may hold {MAX_CONTROLS} URLs at most")));
    }
    let control = |url: &String| {
        let url = policy.target(url).map_err(|refusal| ConfigError::new(NAME, refusal.to_string()))?;
        Ok(Check { timeout_ms: CONTROL_TIMEOUT_MS, ..Check::get(url) })
    };
    urls.iter().map(control).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(controls: &str) -> Result<Vec<Check>, ConfigError> {
        let environment = Environment::of(&[
            ("BACKEND_URL", "https://backend.example"),
            ("TABLE_NAME", "x"),
            ("WRAPPING_KEY_ID", "x"),
            ("BUS_NAME", "x"),
            ("CONTROL_URLS", controls),
        ]);
        CheckServicesConfig::read(&environment).map(|config| config.settings.controls)
    }

    #[test]
    fn control_endpoints_are_under_the_rule_of_every_target() {
        assert_eq!(read(""), Ok(vec![]));
        let two = read("https://control.example/, https://other.example/Case").unwrap();
        let urls: Vec<_> = two.iter().map(|control| control.url.as_str()).collect();
        assert_eq!(urls, ["https://control.example/", "https://other.example/Case"]);
        let eleven = ["https://control.example/"; 11].join(",");
        for bad in ["control.example", "http://169.254.169.254/", "https://backend.example/", &eleven] {
            assert_eq!(read(bad).unwrap_err().variable, "CONTROL_URLS", "{bad}");
        }
    }
}
