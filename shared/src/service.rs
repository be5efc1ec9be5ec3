//! A service: one endpoint that a tenant wants watched, and how to watch it.
//!
//! Deliberately absent: what was observed tick by tick; that is `status`, written by another function.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{Owner, ServiceId, TenantId};
use crate::probe::{Check, Observation};

/// What a person calls the service: 1 to 80 characters, no control characters, trimmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

/// The name is empty, too long or holds characters that nobody can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use 1 to 80 characters, without control characters")]
pub struct InvalidName;

impl ServiceName {
    /// Trims and checks.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let text = text.trim();
        let printable = text.chars().all(|c| !c.is_control() && !is_invisible_formatting(c));
        let length = text.chars().take(81).count();
        if printable && (1..=80).contains(&length) { Ok(Self(text.to_owned())) } else { Err(InvalidName) }
    }

    /// The name as shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Characters that reorder or hide text (a name must not look like another one), and U+FFFD, which stands where the
/// sender's bytes were not UTF-8.
fn is_invisible_formatting(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFFD}')
}

impl TryFrom<String> for ServiceName {
    type Error = InvalidName;
    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(&text)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a service is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// Stored, not yet accepted by Forge: neither probed nor shown, dropped after 24 h.
    Pending,
    /// Probed at every tick.
    Active,
    /// Shown as `PAUSED`, not probed.
    Paused,
}

/// What is stored of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Derived from tenant and URL.
    pub id: ServiceId,
    /// Shown to people.
    pub name: ServiceName,
    /// What to request and what to expect.
    pub check: Check,
    /// Who added it.
    pub owner: Owner,
    /// See [`Activity`].
    pub activity: Activity,
    /// The check made at registration, if one was made.
    pub first: Option<Observation>,
    /// When it was first registered.
    pub created_at: Timestamp,
}

impl Service {
    /// A service that nobody has accepted yet.
    #[must_use]
    pub fn pending(tenant: &TenantId, name: ServiceName, check: Check, owner: Owner, now: Timestamp) -> Self {
        let id = ServiceId::derive(tenant, check.url.as_str());
        Self { id, name, check, owner, activity: Activity::Pending, first: None, created_at: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(ServiceName::parse("  Shop API ").unwrap().as_str(), "Shop API");
        assert!(ServiceName::parse(&"é".repeat(80)).is_ok());
        for text in ["", "   ", "a\0b", "a\nb", "a\u{202E}b", "a\u{FFFD}b", &"é".repeat(81)] {
            assert_eq!(ServiceName::parse(text), Err(InvalidName), "{text:?}");
        }
    }
}
