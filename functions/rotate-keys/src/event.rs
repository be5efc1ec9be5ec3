//! What starts an invocation: the schedule, or an operator.

use domain::id::TenantId;
use jiff::Timestamp;
use serde::Deserialize;

/// An event, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Event {
    /// From an operator (docs/operations.md, "Replacing tenant keys"). A field that is not one of these is a mistake: nobody's
    /// keys are to be replaced because a name was mistyped.
    Asked(Asked),
    /// From the cron rule.
    Scheduled {
        /// Always `Scheduled Event`.
        #[serde(rename = "detail-type")]
        kind: Scheduled,
    },
}

/// Which keys are to be replaced whatever their age.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Asked {
    /// Those made before this time. It makes the request repeatable: what has been replaced is younger.
    pub made_before: Timestamp,
    /// Of this tenant alone; of all when absent.
    #[serde(default)]
    pub tenant_id: Option<TenantId>,
}

/// The `detail-type` of a schedule's event.
#[derive(Debug, Clone, Copy, Deserialize)]
pub enum Scheduled {
    /// The only one.
    #[serde(rename = "Scheduled Event")]
    Event,
}
