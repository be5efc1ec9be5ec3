//! What `rotate-keys` reads from its environment.

use aws::environment::{ConfigError, Environment};
use jiff::SignedDuration;

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

impl RotateKeysConfig {
    /// From the environment.
    pub fn read(environment: &Environment) -> Result<Self, ConfigError> {
        let days = environment.number("KEY_LIFETIME_DAYS", 90, 0..=3_650)?;
        Ok(Self {
            table: environment.required("TABLE_NAME")?,
            deployment_key_id: environment.required("DEPLOYMENT_KEY_ID")?,
            wrapping_key_id: environment.required("WRAPPING_KEY_ID")?,
            key_lifetime: i64::try_from(days)
                .ok()
                .filter(|days| *days > 0)
                .map(|days| SignedDuration::from_hours(days * 24)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_live_for_ninety_days_unless_asked_otherwise_and_for_ever_with_zero() {
        let read = |days| {
            let environment = Environment::of(&[
                ("TABLE_NAME", "x"),
                ("DEPLOYMENT_KEY_ID", "x"),
                ("WRAPPING_KEY_ID", "x"),
                ("KEY_LIFETIME_DAYS", days),
            ]);
            RotateKeysConfig::read(&environment).map(|config| config.key_lifetime)
        };
        assert_eq!(read(""), Ok(Some(SignedDuration::from_hours(90 * 24))));
        assert_eq!(read("1"), Ok(Some(SignedDuration::from_hours(24))));
        assert_eq!(read("0"), Ok(None));
        for wrong in ["-1", "3651", "x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
