//! What a web trigger's response means. The `code` in its body decides: a response without one of our codes is the platform's,
//! and the callback is repeated.

use std::time::Duration;

use serde::Deserialize;

/// The outputs of the Forge app's static trigger (docs/protocol.md, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ResponseCode {
    /// Applied.
    Accepted,
    /// Had been applied before.
    Duplicate,
    /// The body is not of the contract's form.
    BadRequest,
    /// The body is too large.
    TooLarge,
    /// The token was not accepted, for whatever reason.
    Unauthorized,
    /// The app holds no key of ours.
    Unregistered,
    /// The hand-off inside is not the app's own, or too old.
    HandoffInvalid,
    /// The hand-off inside was used for something else.
    HandoffUsed,
    /// The app holds another key.
    KeyConflict,
    /// The app knows a later tick.
    StaleTick,
    /// The app's variables are not set.
    NotConfigured,
    /// The app asks to try again.
    Retry,
}

/// What came back from a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallbackResponse {
    /// The app's own response.
    App(ResponseCode),
    /// A response without one of our codes: the platform's.
    Platform {
        /// Its HTTP status.
        status: u16,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// No response: no connection, a reset, or silence until the time was up.
    Missing,
}

impl CallbackResponse {
    /// Reads a response: the code in the body if it has one, else the platform's status.
    #[must_use]
    pub fn read(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Body {
            code: ResponseCode,
        }
        match serde_json::from_slice::<Body>(body) {
            Ok(Body { code }) => Self::App(code),
            Err(_) => Self::Platform { status, retry_after },
        }
    }

    /// Whether the app has what it was sent.
    #[must_use]
    pub fn is_acceptance(&self) -> bool {
        matches!(self, Self::App(ResponseCode::Accepted | ResponseCode::Duplicate))
    }

    /// Whether the app will not accept the same callback whenever it is sent: a fault of set-up, and an alarm.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::App(
                ResponseCode::BadRequest
                    | ResponseCode::TooLarge
                    | ResponseCode::Unauthorized
                    | ResponseCode::KeyConflict
            )
        )
    }

    /// Whether the same bytes may be accepted a little later.
    #[must_use]
    pub fn is_worth_a_retry(&self) -> bool {
        match self {
            Self::App(code) => matches!(code, ResponseCode::NotConfigured | ResponseCode::Retry),
            // 404 and 410: the trigger is gone, asking again within seconds changes nothing.
            Self::Platform { status, .. } => !matches!(status, 404 | 410),
            Self::Missing => true,
        }
    }

    /// Whether the trigger does not exist (any more).
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Platform { status: 404 | 410, .. })
    }

    /// A stable word for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::App(code) => code.name(),
            Self::Platform { .. } => "PLATFORM",
            Self::Missing => "MISSING",
        }
    }
}

impl ResponseCode {
    /// As it stands in the body.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "ACCEPTED",
            Self::Duplicate => "DUPLICATE",
            Self::BadRequest => "BAD_REQUEST",
            Self::TooLarge => "TOO_LARGE",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unregistered => "UNREGISTERED",
            Self::HandoffInvalid => "HANDOFF_INVALID",
            Self::HandoffUsed => "HANDOFF_USED",
            Self::KeyConflict => "KEY_CONFLICT",
            Self::StaleTick => "STALE_TICK",
            Self::NotConfigured => "NOT_CONFIGURED",
            Self::Retry => "RETRY",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_decides_and_the_platform_has_none() {
        let read = |status, body: &str| CallbackResponse::read(status, None, body.as_bytes());
        assert_eq!(read(202, r#"{"code":"ACCEPTED"}"#), CallbackResponse::App(ResponseCode::Accepted));
        assert_eq!(read(424, r#"{"code":"ACCEPTED"}"#), CallbackResponse::App(ResponseCode::Accepted));
        for body in ["", "ok", "{}", r#"{"code":"WHATEVER"}"#, r#"{"code":1}"#, "[]"] {
            assert_eq!(
                read(200, body),
                CallbackResponse::Platform { status: 200, retry_after: None },
                "{body}"
            );
        }
    }

    #[test]
    fn every_code_reads_back_from_its_name() {
        use ResponseCode::*;
        for code in [
            Accepted,
            Duplicate,
            BadRequest,
            TooLarge,
            Unauthorized,
            Unregistered,
            HandoffInvalid,
            HandoffUsed,
            KeyConflict,
            StaleTick,
            NotConfigured,
            Retry,
        ] {
            let body = format!(r#"{{"code":"{}"}}"#, code.name());
            assert_eq!(CallbackResponse::read(200, None, body.as_bytes()), CallbackResponse::App(code));
        }
    }
}
