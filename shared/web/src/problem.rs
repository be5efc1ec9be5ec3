//! A request that was not carried out: what its sender is told (RFC 9457), and nothing else.
//!
//! Not here: internal causes. They are logged where the failure is handled and never leave.

use domain::handoff::{HandoffError, Purpose};
use serde::Serialize;

/// One input that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name in the form and the JSON body.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

/// What is answered instead of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// A stable word for programs.
    pub code: &'static str,
    /// What happened, for people.
    pub title: &'static str,
    /// What to do about it.
    pub detail: String,
    /// Inputs to correct.
    pub errors: Vec<FieldError>,
    /// Seconds after which the same request may succeed.
    pub retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem without further particulars.
    #[must_use]
    pub fn new(status: u16, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, title, detail: detail.into(), errors: Vec::new(), retry_after_s: None }
    }

    /// Inputs that a person can correct, each with its message.
    #[must_use]
    pub fn fields(status: u16, code: &'static str, errors: Vec<FieldError>) -> Self {
        let detail = "Correct the marked fields and send the form again.";
        Self { errors, ..Self::new(status, code, "Some fields need attention", detail) }
    }

    /// Too much at once, on our side or AWS's: the same request may succeed in a few seconds.
    #[must_use]
    pub fn busy() -> Self {
        let detail = "Wait a few seconds and send the form again; nothing is lost.";
        let problem = Self::new(503, "UNAVAILABLE", "The service is busy", detail);
        Self { retry_after_s: Some(5), ..problem }
    }

    /// A failure of ours that an operator has to look at.
    #[must_use]
    pub fn internal() -> Self {
        let detail = "This is not your fault. Try again later, or tell the people who run this monitor.";
        Self::new(500, "INTERNAL", "Something is wrong on our side", detail)
    }

    /// The `application/problem+json` document.
    #[must_use]
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            code: &'a str,
            detail: &'a str,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            errors: Vec<Item<'a>>,
        }
        #[derive(Serialize)]
        struct Item<'a> {
            pointer: String,
            detail: &'a str,
        }
        let document = Document {
            r#type: format!("urn:forge-health:problem:{}", self.code),
            title: self.title,
            status: self.status,
            code: self.code,
            detail: &self.detail,
            errors: self
                .errors
                .iter()
                .map(|error| Item { pointer: format!("/{}", error.field), detail: &error.message })
                .collect(),
        };
        serde_json::to_string(&document).unwrap_or_default()
    }
}

/// What the person is told: always how to go on, never which check failed (the log says that).
#[must_use]
pub fn handoff_problem(error: &HandoffError, purpose: Purpose) -> Problem {
    let again = match purpose {
        Purpose::Register => "Go back to Jira, open the Health Monitor page and press “Add service” again.",
        Purpose::Manage => "Go back to Jira, open the Health Monitor page and press the button there again.",
    };
    match error {
        HandoffError::Missing => Problem::new(400, error.code(), "This link is incomplete", again),
        HandoffError::Repeated => {
            let errors = vec![FieldError { field: "handoff", message: "is there twice".to_owned() }];
            let title = "This link cannot be read";
            Problem { errors, ..Problem::new(400, error.code(), title, again) }
        }
        HandoffError::Expired => Problem::new(401, error.code(), "This link has expired", again),
        HandoffError::Trigger => {
            let detail = "The link names a web trigger that is not Atlassian's. Nothing was stored.";
            Problem::new(403, error.code(), "This link does not lead back to a Forge app", detail)
        }
        HandoffError::Token(_) | HandoffError::Claim(_) => {
            Problem::new(401, error.code(), "This link is not valid here", again)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_an_rfc_9457_document_with_pointers() {
        let error = FieldError { field: "url", message: "not a URL".into() };
        let document: serde_json::Value =
            serde_json::from_str(&Problem::fields(400, "INVALID_INPUT", vec![error]).to_json()).unwrap();
        assert_eq!(document["status"], 400);
        assert_eq!(document["type"], "urn:forge-health:problem:INVALID_INPUT");
        assert_eq!(document["errors"][0]["pointer"], "/url");
    }
}
