//! What is asked of a monitored endpoint, and what one attempt found.
//!
//! A failed check is data ([`ProbeFailure`] inside an [`Observation`]), never an `Err`. The words here are those of the wire
//! contract (`docs/protocol.md`, section 4). `target_url` decides what may be reached at all, the crate `probe` asks.
//!
//! Not here: when to check, how often to repeat a failed attempt, and what follows from it (`status`).

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::target_url::TargetUrl;

/// How one service is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Where the endpoint is.
    pub url: TargetUrl,
    /// The request's method; redirects keep it.
    pub method: Method,
    /// Which answers count as alive.
    pub expected_status: ExpectedStatus,
    /// For everything together, over all redirects: [`Check::TIMEOUT_MS`].
    pub timeout_ms: u16,
}

impl Check {
    /// The deadlines that a check may have, in milliseconds.
    pub const TIMEOUT_MS: RangeInclusive<u16> = 500..=10_000;
    /// The deadline of a check that names none, in milliseconds.
    pub const DEFAULT_TIMEOUT_MS: u16 = 5_000;

    /// A GET that expects 200 to 299 within five seconds.
    #[must_use]
    pub fn get(url: TargetUrl) -> Self {
        Self {
            url,
            method: Method::Get,
            expected_status: ExpectedStatus::default(),
            timeout_ms: Self::DEFAULT_TIMEOUT_MS,
        }
    }
}

/// The methods that a check may use: both are safe to repeat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Method {
    /// Fetch, and read the body.
    #[default]
    #[serde(rename = "GET")]
    Get,
    /// Headers only.
    #[serde(rename = "HEAD")]
    Head,
}

impl Method {
    /// `GET` or `HEAD`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A method that is neither `GET` nor `HEAD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use GET or HEAD")]
pub struct MethodError;

impl FromStr for Method {
    type Err = MethodError;

    /// Exact, upper case, as on the wire.
    fn from_str(text: &str) -> Result<Self, MethodError> {
        match text {
            "GET" => Ok(Self::Get),
            "HEAD" => Ok(Self::Head),
            _ => Err(MethodError),
        }
    }
}

/// The answers that count as alive: a list of codes and ranges such as `200-299,301`.
///
/// Kept sorted, with touching ranges joined, so that equal sets are equal and print alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExpectedStatus(Vec<(u16, u16)>);

/// Why a text is no [`ExpectedStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ExpectedStatusError {
    /// An entry is no code, no range, or a range the wrong way round.
    #[error("write status codes like 200 or 200-299, separated by commas")]
    Syntax,
    /// A code is outside 100 to 599.
    #[error("status codes go from 100 to 599")]
    Code,
    /// More than [`ExpectedStatus::MAX_RANGES`] entries.
    #[error("at most 10 codes or ranges")]
    TooMany,
}

impl ExpectedStatus {
    /// How many codes and ranges one list may have.
    pub const MAX_RANGES: usize = 10;

    /// Whether an answer with this code counts as alive.
    #[must_use]
    pub fn contains(&self, code: u16) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&code))
    }
}

impl Default for ExpectedStatus {
    /// 200 to 299.
    fn default() -> Self {
        Self(vec![(200, 299)])
    }
}

impl FromStr for ExpectedStatus {
    type Err = ExpectedStatusError;

    fn from_str(text: &str) -> Result<Self, ExpectedStatusError> {
        let mut ranges = Vec::new();
        for entry in text.split(',') {
            if ranges.len() == Self::MAX_RANGES {
                return Err(ExpectedStatusError::TooMany);
            }
            let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
            let range = (status_code(first.trim())?, status_code(last.trim())?);
            if range.0 > range.1 {
                return Err(ExpectedStatusError::Syntax);
            }
            ranges.push(range);
        }
        ranges.sort_unstable();
        let mut joined: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(previous) if first <= previous.1 + 1 => previous.1 = previous.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Ok(Self(joined))
    }
}

/// Three digits exactly: `+200`, `0200` and `２００` are typing errors, not codes.
fn status_code(text: &str) -> Result<u16, ExpectedStatusError> {
    if text.len() != 3 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ExpectedStatusError::Syntax);
    }
    let code = text.parse().map_err(|_| ExpectedStatusError::Syntax)?;
    if (100..=599).contains(&code) { Ok(code) } else { Err(ExpectedStatusError::Code) }
}

impl fmt::Display for ExpectedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for ExpectedStatus {
    type Error = ExpectedStatusError;

    fn try_from(text: String) -> Result<Self, ExpectedStatusError> {
        text.parse()
    }
}

impl From<ExpectedStatus> for String {
    fn from(status: ExpectedStatus) -> Self {
        status.to_string()
    }
}

/// Why an attempt did not find the service alive. A closed set, part of the wire contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeFailure {
    /// The name does not resolve, or no name server answered.
    Dns,
    /// No connection: refused, unreachable, or only IPv6 addresses where there is no IPv6.
    Connect,
    /// The TLS handshake failed: certificate, protocol version, or broken off.
    Tls,
    /// The deadline passed, whatever was going on.
    Timeout,
    /// An answer with a status code that is not expected.
    Status,
    /// After the connection stood: no valid HTTP answer, headers too large, or broken off before its end.
    Body,
    /// Too many redirects, a loop, one without a target, or one from https to http.
    Redirect,
    /// The address rule forbids the target, or a redirect's.
    Blocked,
}

impl ProbeFailure {
    /// Every class, in the order of the contract.
    pub const ALL: [Self; 8] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Status,
        Self::Body,
        Self::Redirect,
        Self::Blocked,
    ];

    /// The word of the wire contract.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Body => "body",
            Self::Redirect => "redirect",
            Self::Blocked => "blocked",
        }
    }
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one or more attempts found: reason classes only, no address and no byte of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// When the (last) attempt began, whole seconds.
    pub checked_at: Timestamp,
    /// From the begin of the attempt to its verdict, look-up, redirects and body included.
    pub response_time_ms: u32,
    /// How many attempts led to this: 1 as a probe returns it.
    pub attempts: u8,
    /// The last status code that was received, also when the attempt failed after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// Nothing when the service is alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ProbeFailure>,
    /// When the server's certificate ends, whole seconds; the earliest one where redirects met several. Present also
    /// when the handshake failed because it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires_at: Option<Timestamp>,
}

impl Observation {
    /// Whether the attempt found the service alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.failure.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target_url::TargetPolicy;

    #[test]
    fn expected_status_is_canonical() {
        for (text, canonical) in [
            ("200-299", "200-299"),
            ("200", "200"),
            ("301,200-299", "200-299,301"),
            (" 200 - 204 , 301 ", "200-204,301"),
            ("200-250,240-299,300", "200-300"),
            ("204,204", "204"),
            ("100-599", "100-599"),
        ] {
            let parsed: ExpectedStatus = text.parse().unwrap();
            assert_eq!(parsed.to_string(), canonical, "{text}");
            assert_eq!(canonical.parse::<ExpectedStatus>().unwrap(), parsed);
        }
        assert_eq!(ExpectedStatus::default(), "200-299".parse().unwrap());
    }

    #[test]
    fn expected_status_refuses_what_is_no_list_of_codes() {
        use ExpectedStatusError::{Code, Syntax, TooMany};
        let eleven = ["200"; 11].join(",");
        for (text, error) in [
            ("", Syntax),
            (",", Syntax),
            ("200,", Syntax),
            ("2xx", Syntax),
            ("299-200", Syntax),
            ("200-", Syntax),
            ("-200", Syntax),
            ("200-201-202", Syntax),
            ("+20", Syntax),
            ("0200", Syntax),
            ("２", Syntax),
            ("099", Code),
            ("600", Code),
            ("200-999", Code),
            (&eleven, TooMany),
        ] {
            assert_eq!(text.parse::<ExpectedStatus>(), Err(error), "{text}");
        }
    }

    #[test]
    fn expected_status_contains_its_bounds_only() {
        let expected: ExpectedStatus = "200-204,301".parse().unwrap();
        let inside: Vec<u16> = (0..=999).filter(|&code| expected.contains(code)).collect();
        assert_eq!(inside, [200, 201, 202, 203, 204, 301]);
    }

    #[test]
    fn observation_has_the_names_of_the_contract() {
        let alive = Observation {
            checked_at: "2026-11-22T10:05:00Z".parse().unwrap(),
            response_time_ms: 41,
            attempts: 1,
            http_status: Some(200),
            failure: None,
            certificate_expires_at: Some("2027-01-01T00:00:00Z".parse().unwrap()),
        };
        let text = serde_json::to_string(&alive).unwrap();
        assert_eq!(
            text,
            r#"{"checkedAt":"2026-11-22T10:05:00Z","responseTimeMs":41,"attempts":1,"httpStatus":200,"certificateExpiresAt":"2027-01-01T00:00:00Z"}"#
        );
        assert_eq!(serde_json::from_str::<Observation>(&text).unwrap(), alive);
        assert!(alive.is_alive());

        for failure in ProbeFailure::ALL {
            assert_eq!(serde_json::to_value(failure).unwrap(), failure.as_str());
        }
    }

    #[test]
    fn check_survives_the_store() {
        let check = Check {
            url: TargetPolicy::public(Vec::new(), Vec::new()).target("https://example.com/health").unwrap(),
            method: Method::Head,
            expected_status: "200,204".parse().unwrap(),
            timeout_ms: 800,
        };
        let text = serde_json::to_string(&check).unwrap();
        assert_eq!(
            text,
            r#"{"url":"https://example.com/health","method":"HEAD","expectedStatus":"200,204","timeoutMs":800}"#
        );
        assert_eq!(serde_json::from_str::<Check>(&text).unwrap(), check);
    }
}
