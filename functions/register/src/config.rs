//! What `register` reads from its environment.

use aws::environment::{ConfigError, Environment};
use domain::handoff::HandoffPolicy;

#[derive(Debug, Clone)]
pub struct RegisterConfig {
    /// Rules for hand-offs.
    pub handoffs: HandoffPolicy,
    /// `DEPLOYMENT_KEY_ID`.
    pub deployment_key_id: String,
}

impl RegisterConfig {
    /// From the environment.
    pub fn read(environment: &Environment) -> Result<Self, ConfigError> {
        Ok(Self {
            handoffs: environment.handoff_policy()?,
            deployment_key_id: environment.required("DEPLOYMENT_KEY_ID")?,
        })
    }
}
