//! The environment, read once into types. The only module that reads it (`clippy.toml` enforces that).
//!
//! Each function has its own struct, holding what it uses and nothing else. The README lists the variables.

use std::env;

use jiff::SignedDuration;
use url::Url;

use crate::handoff::{CallbackRule, HandoffRule};
use crate::id::Kid;
use crate::key::{Jwks, PublicKey};
use crate::metrics::Metrics;
use crate::probe::{Check, Policy};
use crate::tenant::TriggerRule;
use crate::tick::Period;

/// A variable that is missing or not of its form. Named at start, so a deployment fails at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {variable}: {problem}")]
pub struct ConfigError {
    variable: &'static str,
    problem: String,
}

/// A control endpoint that takes longer does not work: the last attempt of a check waits for it.
const CONTROL_TIMEOUT_MS: u16 = 3_000;

/// Looks a variable up; tests pass their own.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What `register` uses.
#[derive(Debug, Clone)]
pub struct RegisterConfig {
    /// Rules for hand-offs.
    pub handoffs: HandoffRule,
    /// `DEPLOYMENT_KEY_ID`.
    pub deployment_key_id: String,
}

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

/// What `add-service` uses.
#[derive(Debug, Clone)]
pub struct AddServiceConfig {
    /// Rules for hand-offs.
    pub handoffs: HandoffRule,
    /// What a probe may reach.
    pub policy: Policy,
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

/// What `check-services` uses.
#[derive(Debug, Clone)]
pub struct CheckServicesConfig {
    /// `BACKEND_URL`, the issuer of callbacks.
    pub backend_url: String,
    /// Where callbacks may go.
    pub triggers: TriggerRule,
    /// What a probe may reach.
    pub policy: Policy,
    /// `TABLE_NAME`.
    pub table: String,
    /// `WRAPPING_KEY_ID`.
    pub wrapping_key_id: String,
    /// `BUS_NAME`.
    pub bus: String,
    /// `CHECK_EVERY_MINUTES`.
    pub period: Period,
    /// `TENANTS_PER_INVOCATION`.
    pub tenants_per_invocation: usize,
    /// `SPREAD_PERCENT`: over how much of the period the starts of tenants may be spread.
    pub spread_percent: u8,
    /// `CONTROL_URLS`, comma separated: endpoints that answer whenever this backend's own network works.
    pub controls: Vec<Check>,
    /// `METRICS_NAMESPACE`.
    pub metrics: Metrics,
}

/// What `rotate-keys` uses.
#[derive(Debug, Clone)]
pub struct RotateKeysConfig {
    /// `TABLE_NAME`.
    pub table: String,
    /// `DEPLOYMENT_KEY_ID`.
    pub deployment_key_id: String,
    /// `WRAPPING_KEY_ID`.
    pub wrapping_key_id: String,
    /// `KEY_LIFETIME_DAYS`: how old a tenant key may be; `None` (0) when no age is too old.
    pub key_lifetime: Option<SignedDuration>,
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `AWS_LAMBDA_LOG_LEVEL`, which Lambda sets from the template's `LoggingConfig`; `INFO` otherwise.
    pub level: String,
    /// Plain text for a terminal when `AWS_LAMBDA_LOG_FORMAT` is `Text`; JSON otherwise.
    pub plain: bool,
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

impl RegisterConfig {
    /// From the process's environment.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::read(&environment)
    }

    fn read(get: Lookup) -> Result<Self, ConfigError> {
        Ok(Self { handoffs: handoffs(get)?, deployment_key_id: required(get, "DEPLOYMENT_KEY_ID")? })
    }
}

impl AddServiceConfig {
    /// From the process's environment.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::read(&environment)
    }

    fn read(get: Lookup) -> Result<Self, ConfigError> {
        let handoffs = handoffs(get)?;
        Ok(Self {
            policy: policy(get, &handoffs.audience, &handoffs.triggers)?,
            handoffs,
            table: required(get, "TABLE_NAME")?,
            deployment_key_id: required(get, "DEPLOYMENT_KEY_ID")?,
            wrapping_key_id: required(get, "WRAPPING_KEY_ID")?,
            limits: ServiceLimits {
                per_tenant: number(get, "MAX_SERVICES_PER_TENANT", MAX_SERVICES, 1..=MAX_SERVICES)?,
                per_owner: number(get, "MAX_SERVICES_PER_OWNER", 10, 1..=MAX_SERVICES)?,
            },
            period: period(get)?,
            metrics: metrics(get),
        })
    }
}

impl CheckServicesConfig {
    /// From the process's environment.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::read(&environment)
    }

    fn read(get: Lookup) -> Result<Self, ConfigError> {
        let backend_url = backend_url(get)?;
        let triggers = triggers(get)?;
        let policy = policy(get, &backend_url, &triggers)?;
        Ok(Self {
            controls: controls(get, &policy)?,
            policy,
            backend_url,
            triggers,
            table: required(get, "TABLE_NAME")?,
            wrapping_key_id: required(get, "WRAPPING_KEY_ID")?,
            bus: required(get, "BUS_NAME")?,
            period: period(get)?,
            tenants_per_invocation: number(get, "TENANTS_PER_INVOCATION", 2_500, 1..=100_000)?,
            spread_percent: u8::try_from(number(get, "SPREAD_PERCENT", 20, 0..=50)?).unwrap_or(50),
            metrics: metrics(get),
        })
    }
}

impl RotateKeysConfig {
    /// From the process's environment.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::read(&environment)
    }

    fn read(get: Lookup) -> Result<Self, ConfigError> {
        let days = number(get, "KEY_LIFETIME_DAYS", 90, 0..=3_650)?;
        Ok(Self {
            table: required(get, "TABLE_NAME")?,
            deployment_key_id: required(get, "DEPLOYMENT_KEY_ID")?,
            wrapping_key_id: required(get, "WRAPPING_KEY_ID")?,
            key_lifetime: i64::try_from(days)
                .ok()
                .filter(|days| *days > 0)
                .map(|days| SignedDuration::from_hours(days * 24)),
        })
    }
}

impl LogConfig {
    /// From the process's environment; never fails, since an error needs a log.
    #[must_use]
    pub fn from_env() -> Self {
        Self {
            level: environment("AWS_LAMBDA_LOG_LEVEL").unwrap_or_else(|| "INFO".to_owned()),
            plain: environment("AWS_LAMBDA_LOG_FORMAT")
                .is_some_and(|format| format.eq_ignore_ascii_case("text")),
        }
    }
}

fn error(variable: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError { variable, problem: problem.into() }
}

fn required(get: Lookup, variable: &'static str) -> Result<String, ConfigError> {
    get(variable).ok_or_else(|| error(variable, "is not set"))
}

fn number(
    get: Lookup,
    variable: &'static str,
    default: usize,
    range: std::ops::RangeInclusive<usize>,
) -> Result<usize, ConfigError> {
    let Some(text) = get(variable) else { return Ok(default) };
    let number = text.parse().ok().filter(|number| range.contains(number));
    number
        .ok_or_else(|| error(variable, format!("must be a number from {} to {}", range.start(), range.end())))
}

fn period(get: Lookup) -> Result<Period, ConfigError> {
    const NAME: &str = "CHECK_EVERY_MINUTES";
    let minutes = number(get, NAME, 5, 1..=60)?;
    let period = i64::try_from(minutes).ok().and_then(Period::from_minutes);
    period.ok_or_else(|| error(NAME, "must divide 60"))
}

fn metrics(get: Lookup) -> Metrics {
    Metrics { namespace: get("METRICS_NAMESPACE") }
}

/// Host names and the like, in lower case.
fn list(get: Lookup, variable: &str) -> Vec<String> {
    items(get, variable).iter().map(|item| item.to_ascii_lowercase()).collect()
}

fn items(get: Lookup, variable: &str) -> Vec<String> {
    let text = get(variable).unwrap_or_default();
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(ToOwned::to_owned).collect()
}

fn allow_loopback(get: Lookup) -> Result<bool, ConfigError> {
    match get("ALLOW_LOOPBACK").as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(error("ALLOW_LOOPBACK", "must be true or false")),
    }
}

fn triggers(get: Lookup) -> Result<TriggerRule, ConfigError> {
    Ok(TriggerRule { hosts: list(get, "TRIGGER_HOSTS"), allow_loopback: allow_loopback(get)? })
}

fn policy(get: Lookup, backend_url: &str, triggers: &TriggerRule) -> Result<Policy, ConfigError> {
    // With a port only the local stack, whose other ports on 127.0.0.1 are what it checks.
    let own = Url::parse(backend_url).ok().and_then(|url| {
        let host = url.host_str()?.to_owned();
        Some(url.port().map_or(host.clone(), |port| format!("{host}:{port}")))
    });
    let policy = Policy::public(own.into_iter().collect(), triggers.host_suffixes());
    Ok(if allow_loopback(get)? { policy.allow_loopback() } else { policy })
}

/// How many control endpoints there may be.
const MAX_CONTROLS: usize = 10;

fn controls(get: Lookup, policy: &Policy) -> Result<Vec<Check>, ConfigError> {
    const NAME: &str = "CONTROL_URLS";
    let urls = items(get, NAME);
    if urls.len() > MAX_CONTROLS {
        return Err(error(NAME, format!("may hold {MAX_CONTROLS} URLs at most")));
    }
    let control = |url: &String| {
        let url = policy.target(url).map_err(|refusal| error(NAME, refusal.to_string()))?;
        Ok(Check { timeout_ms: CONTROL_TIMEOUT_MS, ..Check::get(url) })
    };
    urls.iter().map(control).collect()
}

fn handoffs(get: Lookup) -> Result<HandoffRule, ConfigError> {
    Ok(HandoffRule {
        keys: forge_app_keys(get)?,
        audience: backend_url(get)?,
        triggers: triggers(get)?,
        callbacks: CallbackRule { hosts: list(get, "CALLBACK_HOSTS"), allow_loopback: allow_loopback(get)? },
    })
}

/// `BACKEND_URL`: https, lower-case host, no user, query, fragment or trailing slash. Issuer of callbacks and audience of
/// hand-offs, so both sides must spell it alike: it is normalised here and nowhere else.
fn backend_url(get: Lookup) -> Result<String, ConfigError> {
    const NAME: &str = "BACKEND_URL";
    let text = required(get, NAME)?;
    let url = Url::parse(&text).map_err(|_| error(NAME, "is not a URL"))?;
    let local = url.scheme() == "http" && allow_loopback(get)?;
    if url.scheme() != "https" && !local {
        return Err(error(NAME, "must begin with https://"));
    }
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if url.host_str().is_none() || !plain {
        return Err(error(NAME, "must be an origin, optionally with a path, and nothing else"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn forge_app_keys(get: Lookup) -> Result<Vec<(Kid, PublicKey)>, ConfigError> {
    const NAME: &str = "FORGE_APP_PUBLIC_KEY";
    let set: Jwks = serde_json::from_str(&required(get, NAME)?)
        .map_err(|_| error(NAME, r#"is not a JWKS, {"keys":[..]}"#))?;
    let keys: Result<Vec<_>, _> = set.keys.iter().map(PublicKey::from_jwk).collect();
    let keys = keys.map_err(|_| error(NAME, "holds a key that is not a usable Ed25519 public key"))?;
    if keys.is_empty() {
        return Err(error(NAME, "holds no key"));
    }
    Ok(keys.into_iter().map(|key| (key.kid(), key)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn add_service(changes: &[(&str, &str)]) -> Result<AddServiceConfig, ConfigError> {
        let get = |name: &str| {
            let value = changes.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            value.filter(|value| !value.is_empty()).or(match name {
                "BACKEND_URL" => Some("https://Backend.Example/".to_owned()),
                "TABLE_NAME" | "DEPLOYMENT_KEY_ID" | "WRAPPING_KEY_ID" => Some("x".to_owned()),
                "FORGE_APP_PUBLIC_KEY" => Some(KEYS.to_owned()),
                _ => None,
            })
        };
        AddServiceConfig::read(&get)
    }

    fn check_services(variable: &str, value: &str) -> Result<CheckServicesConfig, ConfigError> {
        let get = |name: &str| match name {
            _ if name == variable => Some(value.to_owned()).filter(|value| !value.is_empty()),
            "BACKEND_URL" => Some("https://backend.example".to_owned()),
            "TABLE_NAME" | "WRAPPING_KEY_ID" | "BUS_NAME" => Some("x".to_owned()),
            _ => None,
        };
        CheckServicesConfig::read(&get)
    }

    #[test]
    fn keys_live_for_ninety_days_unless_asked_otherwise_and_for_ever_with_zero() {
        let read = |days: &'static str| {
            let get = |name: &str| match name {
                "KEY_LIFETIME_DAYS" => Some(days.to_owned()).filter(|value| !value.is_empty()),
                _ => Some("x".to_owned()),
            };
            RotateKeysConfig::read(&get).map(|config| config.key_lifetime)
        };
        assert_eq!(read(""), Ok(Some(SignedDuration::from_hours(90 * 24))));
        assert_eq!(read("1"), Ok(Some(SignedDuration::from_hours(24))));
        assert_eq!(read("0"), Ok(None));
        for wrong in ["-1", "3651", "x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn control_endpoints_are_under_the_rule_of_every_target() {
        let read = |urls| check_services("CONTROL_URLS", urls).map(|config| config.controls);
        assert_eq!(read(""), Ok(vec![]));
        let two = read("https://control.example/, https://other.example/Case").unwrap();
        let urls: Vec<_> = two.iter().map(|control| control.url.as_str()).collect();
        assert_eq!(urls, ["https://control.example/", "https://other.example/Case"]);
        let eleven = ["https://control.example/"; 11].join(",");
        for bad in ["control.example", "http://169.254.169.254/", "https://backend.example/", &eleven] {
            let error = check_services("CONTROL_URLS", bad).unwrap_err();
            assert_eq!(error.variable, "CONTROL_URLS", "{bad}");
        }
    }

    #[test]
    fn the_limits_are_those_of_the_forge_app() {
        let limits: serde_json::Value =
            serde_json::from_str(include_str!("../../testdata/limits.json")).unwrap();
        assert_eq!(limits["servicesPerTenant"], MAX_SERVICES);
        assert_eq!(limits["transitionsPerReport"], crate::status::MAX_TRANSITIONS);
    }

    #[test]
    fn the_backend_url_is_normalised_once() {
        assert_eq!(add_service(&[]).unwrap().handoffs.audience, "https://backend.example");
        let with_path = add_service(&[("BACKEND_URL", "https://a.example/prod/")]).unwrap();
        assert_eq!(with_path.handoffs.audience, "https://a.example/prod");
        for bad in [
            "http://a.example",
            "a.example",
            "https://u@a.example",
            "https://a.example/?x",
            "ftp://a.example",
        ] {
            assert_eq!(add_service(&[("BACKEND_URL", bad)]).unwrap_err().variable, "BACKEND_URL", "{bad}");
        }
        let local = [("BACKEND_URL", "http://127.0.0.1:8080"), ("ALLOW_LOOPBACK", "true")];
        assert_eq!(add_service(&local).unwrap().handoffs.audience, "http://127.0.0.1:8080");
    }

    #[test]
    fn a_variable_out_of_its_form_is_named() {
        for (name, value) in [
            ("MAX_SERVICES_PER_TENANT", "0"),
            ("MAX_SERVICES_PER_TENANT", "51"),
            ("ALLOW_LOOPBACK", "yes"),
            ("FORGE_APP_PUBLIC_KEY", "{}"),
            ("FORGE_APP_PUBLIC_KEY", r#"{"keys":[]}"#),
            ("FORGE_APP_PUBLIC_KEY", r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}"#),
        ] {
            assert_eq!(add_service(&[(name, value)]).unwrap_err().variable, name, "{value}");
        }
    }

    #[test]
    fn without_a_key_of_the_app_no_function_starts_that_reads_handoffs() {
        let without = |name: &str| match name {
            "BACKEND_URL" => Some("https://backend.example".to_owned()),
            "TABLE_NAME" | "DEPLOYMENT_KEY_ID" | "WRAPPING_KEY_ID" => Some("x".to_owned()),
            _ => None,
        };
        let expected = error("FORGE_APP_PUBLIC_KEY", "is not set");
        assert_eq!(AddServiceConfig::read(&without).unwrap_err(), expected);
        assert_eq!(RegisterConfig::read(&without).unwrap_err(), expected);
        let with =
            |name: &str| without(name).or_else(|| (name == "FORGE_APP_PUBLIC_KEY").then(|| KEYS.to_owned()));
        assert_eq!(AddServiceConfig::read(&with).unwrap().handoffs.keys.len(), 1);
        assert_eq!(RegisterConfig::read(&with).unwrap().handoffs.keys.len(), 1);
    }
}
