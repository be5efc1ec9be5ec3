//! Why a registration ends without a service, and what the person is told.

use aws::store::{ATTEMPTS_PER_HANDOFF, StoreError};
use domain::handoff::{HandoffError, Purpose};
use domain::key::KeyError;
use domain::response::{CallbackResponse, ResponseCode};
use domain::target_url::TargetError;
use web::problem::{FieldError, Problem, handoff_problem};

/// Between these a client waits that Jira limits, in seconds.
const MIN_WAIT_S: u64 = 60;
const MAX_WAIT_S: u64 = 600;

/// Why a registration ended without a service.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The hand-off is late, and bound to nothing that it could resume.
    #[error("hand-off refused: expired")]
    HandoffExpired,
    #[error("hand-off refused: used for another service")]
    HandoffUsed,
    /// The hand-off was tried as often as allowed.
    #[error("hand-off refused: all {ATTEMPTS_PER_HANDOFF} attempts are used")]
    AttemptsUsed,
    /// The service that the hand-off added is gone.
    #[error("hand-off refused: used for a service that was removed")]
    Removed,
    /// The name leads to an address that may not be probed, or that cannot be reached from here.
    #[error("target refused: {}", .0.code())]
    Target(TargetError),
    /// As many services as allowed.
    #[error("service limit reached: {0}")]
    Limit(&'static str),
    /// Forge's answer to REGISTER was no acceptance.
    #[error("callback not accepted: {}", .0.name())]
    Callback(CallbackResponse),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// KMS.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Too many others at once.
    #[error("in conflict with other writes again and again")]
    Busy,
}

impl RegistrationError {
    /// What the person is told, and how to go on.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::HandoffExpired => handoff_problem(&HandoffError::Expired, Purpose::Register),
            Self::HandoffUsed => {
                let detail =
                    "It has been used for another service. Go back to Jira and press “Add service” again.";
                Problem::new(401, "HANDOFF_USED", "This link has been used", detail)
            }
            Self::AttemptsUsed => {
                let detail = "It can be tried ten times. Go back to Jira, open the Health Monitor page and press “Add service” \
                              again: that gives you a new one.";
                Problem::new(429, "ATTEMPTS_USED", "This link has been tried too often", detail)
            }
            Self::Removed => {
                let detail = "The service that it added has been removed. Go back to Jira and press “Add service” again.";
                Problem::new(401, "HANDOFF_USED", "This link has been used", detail)
            }
            Self::Target(refusal) => {
                let error = FieldError { field: "url", message: refusal.to_string() };
                Problem::fields(403, "TARGET_NOT_ALLOWED", vec![error])
            }
            Self::Limit(which) => {
                let detail = format!(
                    "The number of services {which} is limited. Tell the people who run this monitor if you need more."
                );
                Problem::new(409, "SERVICE_LIMIT", "There are as many services as allowed", detail)
            }
            Self::Callback(answer) => refused_by_forge(answer),
            Self::Store(StoreError::Unavailable(_)) | Self::Key(KeyError::Unavailable(_)) | Self::Busy => {
                Problem::busy()
            }
            Self::Store(_) | Self::Key(_) => Problem::internal(),
        }
    }
}

fn refused_by_forge(answer: &CallbackResponse) -> Problem {
    match answer {
        CallbackResponse::App(ResponseCode::HandoffInvalid | ResponseCode::HandoffUsed) => {
            let detail = "Go back to Jira, open the Health Monitor page and press “Add service” again.";
            Problem::new(403, "REFUSED_BY_FORGE", "Jira did not accept this link", detail)
        }
        CallbackResponse::App(
            ResponseCode::BadRequest | ResponseCode::TooLarge | ResponseCode::KeyConflict,
        ) => {
            let detail = "Sending it again will not help. Tell the people who run this monitor.";
            Problem::new(403, "REFUSED_BY_FORGE", "Jira did not accept the service", detail)
        }
        CallbackResponse::App(
            ResponseCode::Unauthorized | ResponseCode::Unregistered | ResponseCode::NotConfigured,
        ) => {
            let detail = "The app in Jira does not trust this backend, or is not configured: its BACKEND_URL or \
                          BACKEND_PUBLIC_KEY may be wrong. Tell your Jira administrator, then send the form again.";
            Problem::new(502, "NOT_TRUSTED_BY_FORGE", "Jira did not accept the service", detail)
        }
        CallbackResponse::Platform { status: 404 | 410, .. } => {
            let detail = "Jira knows no web trigger under the address of this link: the app has been uninstalled, or installed again \
                          since. Go back to Jira, open the Health Monitor page and press “Add service” again.";
            Problem::new(502, "TRIGGER_GONE", "The app is not installed there any more", detail)
        }
        CallbackResponse::Platform { status: 429, retry_after } => {
            let wait_s = retry_after.map_or(MIN_WAIT_S, |wait| wait.as_secs()).clamp(MIN_WAIT_S, MAX_WAIT_S);
            let minutes = wait_s.div_ceil(60);
            let wait = if minutes == 1 { "a minute".to_owned() } else { format!("{minutes} minutes") };
            let detail = format!(
                "The app has had as many requests as Jira allows for now. Wait {wait}, then send the form again. \
                 It will not be added twice."
            );
            let problem = Problem::new(503, "FORGE_LIMITS_REQUESTS", "Jira limits requests", detail);
            Problem { retry_after_s: u32::try_from(wait_s).ok(), ..problem }
        }
        _ => {
            let detail = "Send the form again in a moment. It will not be added twice.";
            Problem::new(502, "NO_ANSWER_FROM_FORGE", "Jira did not answer", detail)
        }
    }
}
