//! A service: one endpoint that a tenant wants watched, and how to watch it.
//!
//! Not here: what was observed tick by tick; that is `status`, written by another function.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::check::{Check, Observation};
use crate::id::{Owner, ServiceId, TenantId};

/// What a person calls the service: 1 to 80 characters, no control characters, trimmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

/// The name is empty, too long or holds characters that nobody can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use 1 to 80 characters, without control characters")]
pub struct ServiceNameError;

impl ServiceName {
    /// Trims and checks.
    pub fn parse(text: &str) -> Result<Self, ServiceNameError> {
        let text = text.trim();
        let printable = text.chars().all(|c| !c.is_control() && !is_invisible_formatting(c));
        let length = text.chars().take(81).count();
        if printable && (1..=80).contains(&length) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ServiceNameError)
        }
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
    type Error = ServiceNameError;
    fn try_from(text: String) -> Result<Self, ServiceNameError> {
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

/// When a service counts as `DOWN`: a failed check in so many of its last checks. Written `2/3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DownAfter {
    failed: u8,
    of: u8,
}

/// When a service that is `DOWN` counts as `ALIVE` again: after so many good checks in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct AliveAfter(u8);

/// The text is no threshold; the message is for the person who typed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// No [`DownAfter`].
    #[error("write how many of the last checks, like 2/3, at most 5")]
    DownAfter,
    /// No [`AliveAfter`].
    #[error("give a whole number from 1 to 5")]
    AliveAfter,
}

/// How many checks a threshold may look back: what STATE remembers of a service fits in five bits.
pub const LONGEST_MEMORY: u8 = 5;

impl DownAfter {
    /// `None` unless 1 <= `failed` <= `of` <= [`LONGEST_MEMORY`].
    #[must_use]
    pub fn new(failed: u8, of: u8) -> Option<Self> {
        (1 <= failed && failed <= of && of <= LONGEST_MEMORY).then_some(Self { failed, of })
    }

    /// How many failed checks.
    #[must_use]
    pub fn failed(self) -> u8 {
        self.failed
    }

    /// Among how many.
    #[must_use]
    pub fn of(self) -> u8 {
        self.of
    }
}

impl AliveAfter {
    /// `None` unless 1 <= `checks` <= [`LONGEST_MEMORY`].
    #[must_use]
    pub fn new(checks: u8) -> Option<Self> {
        (1..=LONGEST_MEMORY).contains(&checks).then_some(Self(checks))
    }

    /// How many good checks.
    #[must_use]
    pub fn checks(self) -> u8 {
        self.0
    }
}

impl Default for DownAfter {
    /// The last one.
    fn default() -> Self {
        Self { failed: 1, of: 1 }
    }
}

impl Default for AliveAfter {
    /// The first one.
    fn default() -> Self {
        Self(1)
    }
}

impl FromStr for DownAfter {
    type Err = ThresholdError;
    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let (failed, of) = text.split_once('/').ok_or(ThresholdError::DownAfter)?;
        let parsed = digit(failed).zip(digit(of)).and_then(|(failed, of)| Self::new(failed, of));
        parsed.ok_or(ThresholdError::DownAfter)
    }
}

impl FromStr for AliveAfter {
    type Err = ThresholdError;
    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        digit(text).and_then(Self::new).ok_or(ThresholdError::AliveAfter)
    }
}

/// One ASCII digit: `+2` and `02` are typing errors.
fn digit(text: &str) -> Option<u8> {
    match text.trim().as_bytes() {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        _ => None,
    }
}

impl fmt::Display for DownAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.failed, self.of)
    }
}

impl TryFrom<String> for DownAfter {
    type Error = ThresholdError;
    fn try_from(text: String) -> Result<Self, ThresholdError> {
        text.parse()
    }
}

impl From<DownAfter> for String {
    fn from(after: DownAfter) -> Self {
        after.to_string()
    }
}

impl TryFrom<u8> for AliveAfter {
    type Error = ThresholdError;
    fn try_from(checks: u8) -> Result<Self, ThresholdError> {
        Self::new(checks).ok_or(ThresholdError::AliveAfter)
    }
}

impl From<AliveAfter> for u8 {
    fn from(after: AliveAfter) -> Self {
        after.0
    }
}

/// How much it takes to change a service's status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Thresholds {
    /// To `DOWN`.
    pub down_after: DownAfter,
    /// From `DOWN` to `ALIVE`.
    pub alive_after: AliveAfter,
}

impl Thresholds {
    /// One check decides either way.
    pub const EACH_CHECK: Self =
        Self { down_after: DownAfter { failed: 1, of: 1 }, alive_after: AliveAfter(1) };

    /// Whether earlier checks count beside the present one. Independent of what the default is.
    #[must_use]
    pub fn needs_history(&self) -> bool {
        *self != Self::EACH_CHECK
    }
}

/// Whether a service is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// Stored, not yet accepted by Forge: neither probed nor shown, dropped after 24 h.
    Pending,
    /// Probed at every tick.
    Active,
    /// Shown as `PAUSED`, not probed.
    Paused,
}

/// What its owner can do to a service that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Forget it. Registered again, it starts afresh.
    Remove,
    /// Probe it no more until it is resumed.
    Pause,
    /// Probe it again.
    Resume,
}

impl Change {
    /// The word of the contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remove => "remove",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
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
    /// How much it takes to change its status.
    pub thresholds: Thresholds,
    /// Who added it.
    pub owner: Owner,
    /// See [`Lifecycle`].
    pub lifecycle: Lifecycle,
    /// The check made at registration, if one was made.
    pub first: Option<Observation>,
    /// When it was first registered.
    pub created_at: Timestamp,
    /// When its last pause ended.
    pub resumed_at: Option<Timestamp>,
}

impl Service {
    /// A service that nobody has accepted yet, with the default thresholds.
    #[must_use]
    pub fn pending(tenant: &TenantId, name: ServiceName, check: Check, owner: Owner, now: Timestamp) -> Self {
        let id = ServiceId::derive(tenant, check.url.as_str());
        Self {
            id,
            name,
            check,
            thresholds: Thresholds::default(),
            owner,
            lifecycle: Lifecycle::Pending,
            first: None,
            created_at: now,
            resumed_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_small_numbers_and_survive_the_store() {
        for text in ["1/1", "2/3", "5/5", " 2 / 3 "] {
            let after: DownAfter = text.parse().unwrap();
            assert_eq!(after.to_string(), text.replace(' ', ""));
        }
        for text in ["", "2", "0/3", "4/3", "2/6", "-1/3", "+2/3", "02/3", "2/3/4", "２/3", "a/b"] {
            assert_eq!(text.parse::<DownAfter>(), Err(ThresholdError::DownAfter), "{text}");
        }
        for text in ["", "0", "6", "1.5", "+1", "two"] {
            assert_eq!(text.parse::<AliveAfter>(), Err(ThresholdError::AliveAfter), "{text}");
        }
        let asked =
            Thresholds { down_after: "2/3".parse().unwrap(), alive_after: AliveAfter::new(2).unwrap() };
        let stored = serde_json::to_string(&asked).unwrap();
        assert_eq!(stored, r#"{"downAfter":"2/3","aliveAfter":2}"#);
        assert_eq!(serde_json::from_str::<Thresholds>(&stored).unwrap(), asked);
        assert!(serde_json::from_str::<Thresholds>(r#"{"downAfter":"9/9"}"#).is_err());
        assert!(!serde_json::from_str::<Thresholds>("{}").unwrap().needs_history());
    }

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(ServiceName::parse("  Shop API ").unwrap().as_str(), "Shop API");
        assert!(ServiceName::parse(&"é".repeat(80)).is_ok());
        for text in ["", "   ", "a\0b", "a\nb", "a\u{202E}b", "a\u{FFFD}b", &"é".repeat(81)] {
            assert_eq!(ServiceName::parse(text), Err(ServiceNameError), "{text:?}");
        }
    }
}
