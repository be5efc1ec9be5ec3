//! The form that adds a service, turned into types; every refused field has its message.

use domain::check::{Check, ExpectedStatus, Method};
use domain::service::{AliveAfter, DownAfter, ServiceName, Thresholds};
use domain::target_url::{TargetError, TargetPolicy};
use web::form::Form;
use web::problem::{FieldError, Problem};

/// What is to be monitored.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) name: ServiceName,
    pub(crate) check: Check,
    pub(crate) thresholds: Thresholds,
}

/// Fields that cannot be taken, and which rule refused the URL, if one did.
#[derive(Debug)]
pub(crate) struct Invalid {
    pub(crate) problem: Problem,
    pub(crate) refusal: Option<TargetError>,
}

/// The typed fields as types. 400 when a field is wrong, 403 when everything is right but the target forbidden.
pub(crate) fn validate(form: &Form, policy: &TargetPolicy) -> Result<Wanted, Invalid> {
    let mut errors = Vec::new();
    let mut refuse = |field, message: String| errors.push(FieldError { field, message });

    let name = ServiceName::parse(form.get("name"));
    let name = name.map_err(|error| refuse("name", format!("Give the service a name: {error}."))).ok();
    let method = form.given("method").map_or(Ok(Method::Get), str::parse);
    let method = method.map_err(|error| refuse("method", format!("{error}."))).ok();
    let expected_status = form.given("expectedStatus").map_or(Ok(ExpectedStatus::default()), str::parse);
    let expected_status = expected_status
        .map_err(|error| refuse("expectedStatus", format!("{error}, for example 200-299.")))
        .ok();
    let timeout_ms =
        form.given("timeoutMs").map_or(Some(Check::DEFAULT_TIMEOUT_MS), |text| text.parse().ok());
    let timeout_ms = timeout_ms.filter(|ms| Check::TIMEOUT_MS.contains(ms));
    if timeout_ms.is_none() {
        refuse("timeoutMs", "Give a whole number from 500 to 10000.".to_owned());
    }
    let down_after = form.given("downAfter").map_or(Ok(DownAfter::default()), str::parse);
    let down_after = down_after.map_err(|error| refuse("downAfter", sentence(&error))).ok();
    let alive_after = form.given("aliveAfter").map_or(Ok(AliveAfter::default()), str::parse);
    let alive_after = alive_after.map_err(|error| refuse("aliveAfter", sentence(&error))).ok();
    let thresholds =
        down_after.zip(alive_after).map(|(down_after, alive_after)| Thresholds { down_after, alive_after });
    let malformed_elsewhere = !errors.is_empty();
    let url = policy.target(form.get("url").trim());
    let refusal = url.as_ref().err().copied();
    if let Some(refusal) = refusal {
        errors.push(FieldError { field: "url", message: refusal.to_string() });
    }
    let forbidden = refusal.is_some_and(|refusal| !refusal.is_malformed());
    match (name, method, expected_status, timeout_ms, thresholds, url) {
        (Some(name), Some(method), Some(expected_status), Some(timeout_ms), Some(thresholds), Ok(url)) => {
            Ok(Wanted { name, check: Check { url, method, expected_status, timeout_ms }, thresholds })
        }
        _ if forbidden && !malformed_elsewhere => {
            Err(Invalid { problem: Problem::fields(403, "TARGET_NOT_ALLOWED", errors), refusal })
        }
        _ => Err(Invalid { problem: Problem::fields(400, "INVALID_INPUT", errors), refusal }),
    }
}

/// An error's text as a sentence of its own.
fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
    format!("{}{rest}.", first.to_uppercase())
}
