//! What a form or a JSON client sent, bounded and turned into types; every refused field has its message.
//!
//! Deliberately absent: trust. Who sent it is the hand-off's business.

use domain::check::{Check, ExpectedStatus, Method};
use domain::service::{AliveAfter, DownAfter, ServiceName, Thresholds};
use domain::target_url::{TargetError, TargetPolicy};
use lambda_http::http::HeaderMap;
use lambda_http::http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use web::page::FormInput;
use web::problem::{FieldError, Problem};

/// The longest request body, in bytes: a hand-off of 8 KB and a URL of 2 KB, percent-encoded, fit several times.
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024;

/// The fields as sent. Unknown members of a JSON body are refused, since a misspelt option would silently not apply;
/// unknown form fields are ignored, since browser extensions add some.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Fields {
    handoff: Option<String>,
    name: Option<String>,
    url: Option<String>,
    method: Option<String>,
    expected_status: Option<String>,
    timeout_ms: Option<NumberOrText>,
    down_after: Option<String>,
    alive_after: Option<NumberOrText>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u32),
    Text(String),
}

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

impl Fields {
    /// Reads a body of one of the two content types.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Problem> {
        read(headers, body, Self::from_form)
    }

    fn from_form(body: &[u8]) -> Result<Self, Problem> {
        let mut fields = Self::default();
        for (name, value) in url::form_urlencoded::parse(body) {
            let field = match name.as_ref() {
                "handoff" => &mut fields.handoff,
                "name" => &mut fields.name,
                "url" => &mut fields.url,
                "method" => &mut fields.method,
                "expectedStatus" => &mut fields.expected_status,
                "downAfter" => &mut fields.down_after,
                "timeoutMs" | "aliveAfter" => {
                    let field =
                        if name == "timeoutMs" { &mut fields.timeout_ms } else { &mut fields.alive_after };
                    if field.replace(NumberOrText::Text(value.into_owned())).is_some() {
                        return Err(twice(&name));
                    }
                    continue;
                }
                _ => continue,
            };
            if field.replace(value.into_owned()).is_some() {
                return Err(twice(&name));
            }
        }
        Ok(fields)
    }

    /// The hand-off's compact JWS.
    pub(crate) fn handoff(&self) -> Option<&str> {
        self.handoff.as_deref()
    }

    /// What was typed, as it came, for the page that is shown again.
    pub(crate) fn form_input(&self) -> FormInput {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        FormInput {
            name: text(&self.name),
            url: text(&self.url),
            method: text(&self.method),
            expected_status: text(&self.expected_status),
            timeout_ms: number_text(self.timeout_ms.as_ref()),
            down_after: text(&self.down_after),
            alive_after: number_text(self.alive_after.as_ref()),
        }
    }

    /// The typed fields as types. 400 when a field is wrong, 403 when everything is right but the target forbidden.
    pub(crate) fn validate(&self, policy: &TargetPolicy) -> Result<Wanted, Invalid> {
        let mut errors = Vec::new();
        let mut refuse = |field, message: String| errors.push(FieldError { field, message });
        let given = |field: &Option<String>| {
            field.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(ToOwned::to_owned)
        };

        let name = ServiceName::parse(self.name.as_deref().unwrap_or_default());
        let name = name.map_err(|error| refuse("name", format!("Give the service a name: {error}."))).ok();
        let method = given(&self.method).map_or(Ok(Method::Get), |text| text.parse());
        let method = method.map_err(|error| refuse("method", format!("{error}."))).ok();
        let expected_status =
            given(&self.expected_status).map_or(Ok(ExpectedStatus::default()), |text| text.parse());
        let expected_status = expected_status
            .map_err(|error| refuse("expectedStatus", format!("{error}, for example 200-299.")))
            .ok();
        let timeout = number_text(self.timeout_ms.as_ref());
        let timeout_ms =
            if timeout.is_empty() { Some(Check::DEFAULT_TIMEOUT_MS) } else { timeout.parse().ok() };
        let timeout_ms = timeout_ms.filter(|ms| Check::TIMEOUT_MS.contains(ms));
        if timeout_ms.is_none() {
            refuse("timeoutMs", "Give a whole number from 500 to 10000.".to_owned());
        }
        let down_after = given(&self.down_after).map_or(Ok(DownAfter::default()), |text| text.parse());
        let down_after = down_after.map_err(|error| refuse("downAfter", sentence(&error))).ok();
        let alive_after = match number_text(self.alive_after.as_ref()).as_str() {
            "" => Ok(AliveAfter::default()),
            text => text.parse(),
        };
        let alive_after = alive_after.map_err(|error| refuse("aliveAfter", sentence(&error))).ok();
        let thresholds = down_after
            .zip(alive_after)
            .map(|(down_after, alive_after)| Thresholds { down_after, alive_after });
        let malformed_elsewhere = !errors.is_empty();
        let url = policy.target(self.url.as_deref().unwrap_or_default().trim());
        let refusal = url.as_ref().err().copied();
        if let Some(refusal) = refusal {
            errors.push(FieldError { field: "url", message: refusal.to_string() });
        }
        let forbidden = refusal.is_some_and(|refusal| !refusal.is_malformed());
        match (name, method, expected_status, timeout_ms, thresholds, url) {
            (
                Some(name),
                Some(method),
                Some(expected_status),
                Some(timeout_ms),
                Some(thresholds),
                Ok(url),
            ) => Ok(Wanted { name, check: Check { url, method, expected_status, timeout_ms }, thresholds }),
            _ if forbidden && !malformed_elsewhere => {
                Err(Invalid { problem: Problem::fields(403, "TARGET_NOT_ALLOWED", errors), refusal })
            }
            _ => Err(Invalid { problem: Problem::fields(400, "INVALID_INPUT", errors), refusal }),
        }
    }
}

/// A body that holds a hand-off and nothing else.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HandoffBody {
    handoff: Option<String>,
}

/// The hand-off of such a body. Unknown members and fields are treated as in [`Fields`].
pub(crate) fn read_handoff(headers: &HeaderMap, body: &[u8]) -> Result<Option<String>, Problem> {
    let read = read(headers, body, |body| {
        let mut handoff = None;
        for (name, value) in url::form_urlencoded::parse(body) {
            if name == "handoff" && handoff.replace(value.into_owned()).is_some() {
                return Err(twice(&name));
            }
        }
        Ok(HandoffBody { handoff })
    });
    read.map(|body| body.handoff)
}

/// A body within its bound, by its content type.
fn read<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: &[u8],
    from_form: impl FnOnce(&[u8]) -> Result<T, Problem>,
) -> Result<T, Problem> {
    if body.len() > MAX_BODY_BYTES {
        return Err(Problem::new(413, "TOO_LARGE", "That is too much", "A request has at most 64 KiB."));
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/x-www-form-urlencoded" => from_form(body),
        "application/json" => serde_json::from_slice(body).map_err(|error| {
            malformed(format!(
                "The JSON is not of the documented form, near line {} column {}.",
                error.line(),
                error.column()
            ))
        }),
        _ => {
            let detail = "Send application/x-www-form-urlencoded or application/json.";
            let title = "This content type is not understood";
            Err(Problem::new(415, "UNSUPPORTED_MEDIA_TYPE", title, detail))
        }
    }
}

fn twice(name: &str) -> Problem {
    malformed(format!("The field {name} is there twice."))
}

fn number_text(field: Option<&NumberOrText>) -> String {
    match field {
        None => String::new(),
        Some(NumberOrText::Number(number)) => number.to_string(),
        Some(NumberOrText::Text(text)) => text.trim().to_owned(),
    }
}

/// An error's text as a sentence of its own.
fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
    format!("{}{rest}.", first.to_uppercase())
}

fn malformed(detail: String) -> Problem {
    Problem::new(400, "INVALID_INPUT", "The request could not be read", detail)
}
