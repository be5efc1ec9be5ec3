//! A form as it was sent, by a browser or as JSON, and as a page shows it again.

use std::collections::BTreeMap;
use std::fmt;

use lambda_http::http::HeaderMap;
use lambda_http::http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

use crate::problem::Problem;

/// The longest request body, in bytes: a hand-off of 8 KB and a URL of 2 KB, percent-encoded, fit several times.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The fields of the form that adds a service.
pub const SERVICE_FIELDS: &[&str] =
    &["handoff", "name", "url", "method", "expectedStatus", "timeoutMs", "downAfter", "aliveAfter"];
/// The field of the form that confirms a change.
pub const CHANGE_FIELDS: &[&str] = &["handoff"];

/// Fields that may be numbers in JSON.
const NUMBERS: [&str; 2] = ["timeoutMs", "aliveAfter"];

/// The text of each field. One that was not sent is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form(BTreeMap<&'static str, String>);

impl Form {
    /// The field's text as it was typed.
    pub fn get(&self, field: &str) -> &str {
        self.0.get(field).map_or("", String::as_str)
    }

    /// The field's text without spaces around it; `None` when nothing is left.
    pub fn given(&self, field: &str) -> Option<&str> {
        Some(self.get(field).trim()).filter(|text| !text.is_empty())
    }

    /// The same form with another text in a field.
    #[must_use]
    pub fn with(mut self, field: &'static str, text: &str) -> Self {
        self.0.insert(field, text.to_owned());
        self
    }

    /// Reads a body of one of the two content types.
    ///
    /// An unknown JSON member is refused: a misspelt option would silently not apply. An unknown form field is ignored:
    /// browser extensions add some. A repeated field is refused: two parsers could pick different ones.
    pub fn read(headers: &HeaderMap, body: &[u8], fields: &'static [&'static str]) -> Result<Self, Problem> {
        if body.len() > MAX_BODY_BYTES {
            return Err(Problem::new(413, "TOO_LARGE", "That is too much", "A request has at most 64 KiB."));
        }
        let content_type =
            headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/x-www-form-urlencoded" => Self::from_urlencoded(body, fields),
            "application/json" => Self::from_json(body, fields),
            _ => {
                let detail = "Send application/x-www-form-urlencoded or application/json.";
                let title = "This content type is not understood";
                Err(Problem::new(415, "UNSUPPORTED_MEDIA_TYPE", title, detail))
            }
        }
    }

    fn from_urlencoded(body: &[u8], fields: &'static [&'static str]) -> Result<Self, Problem> {
        let mut form = Self::default();
        for (name, value) in url::form_urlencoded::parse(body) {
            let Some(field) = fields.iter().find(|field| **field == name) else { continue };
            if form.0.insert(field, value.into_owned()).is_some() {
                return Err(malformed(format!("The field {name} is there twice.")));
            }
        }
        Ok(form)
    }

    fn from_json(body: &[u8], fields: &'static [&'static str]) -> Result<Self, Problem> {
        let members: Members = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            malformed(format!("The JSON is not of the documented form, near line {line} column {column}."))
        })?;
        let mut form = Self::default();
        for (name, value) in members.0 {
            let Some(field) = fields.iter().find(|field| **field == name) else {
                return Err(malformed("The JSON has a member that is not documented.".to_owned()));
            };
            let text = match value {
                Member::Text(text) => text,
                Member::Number(number) if NUMBERS.contains(field) => number.to_string(),
                Member::Null(()) => continue,
                Member::Number(_) => return Err(malformed(format!("The member {field} must be a text."))),
            };
            form.0.insert(field, text);
        }
        Ok(form)
    }
}

fn malformed(detail: String) -> Problem {
    Problem::new(400, "INVALID_INPUT", "The request could not be read", detail)
}

/// A JSON object of texts and numbers, each member once.
struct Members(BTreeMap<String, Member>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Member {
    Text(String),
    Number(u32),
    Null(()),
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EachOnce;
        impl<'de> Visitor<'de> for EachOnce {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of texts and numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is there twice"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(EachOnce)
    }
}
