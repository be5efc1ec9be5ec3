//! The environment, read into types. Only this module reads it (`clippy.toml` enforces that); each function's `config.rs` says what
//! it needs. docs/operations.md, *Parameters*, lists the variables.

use std::collections::HashMap;
use std::env;
use std::ffi::OsString;
use std::ops::RangeInclusive;

use domain::handoff::{HandoffPolicy, ReturnUrlPolicy};
use domain::id::Kid;
use domain::key::{Jwks, PublicKey};
use domain::target_url::TargetPolicy;
use domain::tenant::TriggerPolicy;
use domain::tick::Period;
use url::Url;

use crate::metrics::Metrics;

/// A variable that is missing or not of its form. Named at start, so a deployment fails at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {variable}: {problem}")]
pub struct ConfigError {
    /// Its name.
    pub variable: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl ConfigError {
    /// A problem with a variable.
    pub fn new(variable: &'static str, problem: impl Into<String>) -> Self {
        Self { variable, problem: problem.into() }
    }
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `AWS_LAMBDA_LOG_LEVEL`, which Lambda sets from the template's `LoggingConfig`; `INFO` otherwise.
    pub level: String,
    /// Plain text for a terminal when `AWS_LAMBDA_LOG_FORMAT` is `Text`; JSON otherwise.
    pub plain: bool,
}

/// The variables that are set; an empty one counts as unset.
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// The process's. One that is not UTF-8 counts as unset.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process() -> Self {
        let text = |value: OsString| value.into_string().ok();
        Self(env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect())
    }

    /// These variables and no others; of several with one name the last.
    pub fn of(variables: &[(&str, &str)]) -> Self {
        Self(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    pub fn required(&self, variable: &'static str) -> Result<String, ConfigError> {
        self.get(variable).ok_or_else(|| ConfigError::new(variable, "is not set"))
    }

    pub fn number(
        &self,
        variable: &'static str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<usize, ConfigError> {
        let Some(text) = self.get(variable) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            ConfigError::new(variable, format!("must be a number from {} to {}", range.start(), range.end()))
        })
    }

    pub fn period(&self) -> Result<Period, ConfigError> {
        const NAME: &str = "CHECK_EVERY_MINUTES";
        let minutes = self.number(NAME, 5, 1..=60)?;
        let period = i64::try_from(minutes).ok().and_then(Period::from_minutes);
        period.ok_or_else(|| ConfigError::new(NAME, "must divide 60"))
    }

    pub fn metrics(&self) -> Metrics {
        Metrics { namespace: self.get("METRICS_NAMESPACE") }
    }

    /// Host names and the like, in lower case.
    pub fn list(&self, variable: &str) -> Vec<String> {
        self.items(variable).iter().map(|item| item.to_ascii_lowercase()).collect()
    }

    pub fn items(&self, variable: &str) -> Vec<String> {
        let text = self.get(variable).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(ToOwned::to_owned).collect()
    }

    pub fn allow_loopback(&self) -> Result<bool, ConfigError> {
        match self.get("ALLOW_LOOPBACK").as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ConfigError::new("ALLOW_LOOPBACK", "must be true or false")),
        }
    }

    pub fn triggers(&self) -> Result<TriggerPolicy, ConfigError> {
        Ok(TriggerPolicy { hosts: self.list("TRIGGER_HOSTS"), allow_loopback: self.allow_loopback()? })
    }

    pub fn target_policy(
        &self,
        backend_url: &str,
        triggers: &TriggerPolicy,
    ) -> Result<TargetPolicy, ConfigError> {
        // With a port only the local stack, whose other ports on 127.0.0.1 are what it checks.
        let own = Url::parse(backend_url).ok().and_then(|url| {
            let host = url.host_str()?.to_owned();
            Some(url.port().map_or(host.clone(), |port| format!("{host}:{port}")))
        });
        let policy = TargetPolicy::public(own.into_iter().collect(), triggers.host_suffixes());
        Ok(if self.allow_loopback()? { policy.allow_loopback() } else { policy })
    }

    pub fn handoff_policy(&self) -> Result<HandoffPolicy, ConfigError> {
        Ok(HandoffPolicy {
            keys: self.forge_app_keys()?,
            audience: self.backend_url()?,
            triggers: self.triggers()?,
            return_urls: ReturnUrlPolicy {
                hosts: self.list("RETURN_HOSTS"),
                allow_loopback: self.allow_loopback()?,
            },
        })
    }

    /// `BACKEND_URL`: https, lower-case host, no user, query, fragment or trailing slash. Issuer of callbacks and audience of
    /// hand-offs, so both sides must spell it alike: it is normalised here and nowhere else.
    pub fn backend_url(&self) -> Result<String, ConfigError> {
        const NAME: &str = "BACKEND_URL";
        let text = self.required(NAME)?;
        let url = Url::parse(&text).map_err(|_| ConfigError::new(NAME, "is not a URL"))?;
        let local = url.scheme() == "http" && self.allow_loopback()?;
        if url.scheme() != "https" && !local {
            return Err(ConfigError::new(NAME, "must begin with https://"));
        }
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if url.host_str().is_none() || !plain {
            return Err(ConfigError::new(
                NAME,
                "must be an origin, optionally with a path, and nothing else",
            ));
        }
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }

    pub fn forge_app_keys(&self) -> Result<Vec<(Kid, PublicKey)>, ConfigError> {
        const NAME: &str = "FORGE_APP_PUBLIC_KEY";
        let set: Jwks = serde_json::from_str(&self.required(NAME)?)
            .map_err(|_| ConfigError::new(NAME, r#"is not a JWKS, {"keys":[..]}"#))?;
        let keys: Result<Vec<_>, _> = set.keys.iter().map(PublicKey::from_jwk).collect();
        let keys =
            keys.map_err(|_| ConfigError::new(NAME, "holds a key that is not a usable Ed25519 public key"))?;
        if keys.is_empty() {
            return Err(ConfigError::new(NAME, "holds no key"));
        }
        Ok(keys.into_iter().map(|key| (key.kid(), key)).collect())
    }
}

impl LogConfig {
    /// Never fails: an error needs a log.
    #[must_use]
    pub fn read(environment: &Environment) -> Self {
        Self {
            level: environment.get("AWS_LAMBDA_LOG_LEVEL").unwrap_or_else(|| "INFO".to_owned()),
            plain: environment
                .get("AWS_LAMBDA_LOG_FORMAT")
                .is_some_and(|format| format.eq_ignore_ascii_case("text")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    fn handoff_policy(changes: &[(&str, &str)]) -> Result<HandoffPolicy, ConfigError> {
        let good = [("BACKEND_URL", "https://Backend.Example/"), ("FORGE_APP_PUBLIC_KEY", KEYS)];
        Environment::of(&[&good, changes].concat()).handoff_policy()
    }

    #[test]
    fn the_backend_url_is_normalised_once() {
        assert_eq!(handoff_policy(&[]).unwrap().audience, "https://backend.example");
        let with_path = handoff_policy(&[("BACKEND_URL", "https://a.example/prod/")]).unwrap();
        assert_eq!(with_path.audience, "https://a.example/prod");
        for bad in [
            "http://a.example",
            "a.example",
            "https://u@a.example",
            "https://a.example/?x",
            "ftp://a.example",
        ] {
            assert_eq!(handoff_policy(&[("BACKEND_URL", bad)]).unwrap_err().variable, "BACKEND_URL", "{bad}");
        }
        let local = [("BACKEND_URL", "http://127.0.0.1:8080"), ("ALLOW_LOOPBACK", "true")];
        assert_eq!(handoff_policy(&local).unwrap().audience, "http://127.0.0.1:8080");
    }

    #[test]
    fn a_variable_out_of_its_form_is_named() {
        for (name, value) in [
            ("ALLOW_LOOPBACK", "yes"),
            ("FORGE_APP_PUBLIC_KEY", ""),
            ("FORGE_APP_PUBLIC_KEY", "{}"),
            ("FORGE_APP_PUBLIC_KEY", r#"{"keys":[]}"#),
            ("FORGE_APP_PUBLIC_KEY", r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}"#),
        ] {
            assert_eq!(handoff_policy(&[(name, value)]).unwrap_err().variable, name, "{value}");
        }
    }
}
