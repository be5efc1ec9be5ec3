//! Custom metrics, eight names in all, as CloudWatch embedded metric format: one JSON line on standard output that
//! CloudWatch turns into a metric, without an API call.
//!
//! Few on purpose: each name and dimension value costs 0.30 USD a month (list price, 2026), and AWS/Lambda already has
//! invocations, errors, durations and throttles. Not here: anything per tenant.

use jiff::Timestamp;
use serde_json::json;

use domain::response::{CallbackResponse, ResponseCode};

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Checks that found a service alive, or not (`outcome`).
    Checks(CheckOutcome),
    /// Seconds from the begin of a tick's slot to its first check.
    TickLateness,
    /// Tenants that an invocation had no time to start.
    TenantsNotStarted,
    /// Services on which a tick brought no verdict: no attempt ended in time, or none was confirmed.
    ServicesUnseen,
    /// Records that are not what their keys say, or that cannot be read.
    CorruptRecords,
    /// Callbacks by `result`.
    Callbacks(CallbackResult),
    /// Registrations by `result`.
    Registrations(RegistrationResult),
    /// Verdicts that were suppressed because the control endpoints failed too.
    VerdictsSuppressed,
}

/// See [`Metric::Checks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckOutcome {
    /// As expected.
    Alive,
    /// Not so.
    NotAlive,
}

/// See [`Metric::Callbacks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackResult {
    /// The app has it.
    Accepted,
    /// The app refuses it for good: signature, key or shape.
    Refused,
    /// No answer of the app's, or one that may change.
    Failed,
}

impl CallbackResult {
    /// Of one REGISTER. None when the app refuses the hand-off inside: that is the person's, not the callback's, and is
    /// counted as a registration that was refused.
    #[must_use]
    pub fn of_registration(answer: &CallbackResponse) -> Option<Self> {
        match answer {
            CallbackResponse::App(ResponseCode::HandoffInvalid | ResponseCode::HandoffUsed) => None,
            accepted if accepted.is_acceptance() => Some(Self::Accepted),
            refused if refused.is_refusal() => Some(Self::Refused),
            _ => Some(Self::Failed),
        }
    }
}

/// See [`Metric::Registrations`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrationResult {
    /// 200 or 201.
    Accepted,
    /// 4xx.
    Refused,
    /// 5xx.
    Failed,
}

impl Metric {
    fn name(self) -> &'static str {
        match self {
            Self::Checks(_) => "Checks",
            Self::TickLateness => "TickLateness",
            Self::TenantsNotStarted => "TenantsNotStarted",
            Self::ServicesUnseen => "ServicesUnseen",
            Self::CorruptRecords => "CorruptRecords",
            Self::Callbacks(_) => "Callbacks",
            Self::Registrations(_) => "Registrations",
            Self::VerdictsSuppressed => "VerdictsSuppressed",
        }
    }

    fn unit(self) -> &'static str {
        if self == Self::TickLateness { "Seconds" } else { "Count" }
    }

    fn dimension(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Checks(CheckOutcome::Alive) => Some(("outcome", "alive")),
            Self::Checks(CheckOutcome::NotAlive) => Some(("outcome", "down")),
            Self::Callbacks(CallbackResult::Accepted) | Self::Registrations(RegistrationResult::Accepted) => {
                Some(("result", "accepted"))
            }
            Self::Callbacks(CallbackResult::Refused) | Self::Registrations(RegistrationResult::Refused) => {
                Some(("result", "refused"))
            }
            Self::Callbacks(CallbackResult::Failed) | Self::Registrations(RegistrationResult::Failed) => {
                Some(("result", "failed"))
            }
            Self::TickLateness
            | Self::TenantsNotStarted
            | Self::ServicesUnseen
            | Self::CorruptRecords
            | Self::VerdictsSuppressed => None,
        }
    }
}

/// Where metrics go.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// `METRICS_NAMESPACE`; without one nothing is written.
    pub namespace: Option<String>,
}

impl Metrics {
    /// Writes one measurement. A count of nothing is not written: a metric that never is costs nothing.
    pub fn put(&self, metric: Metric, value: usize, now: Timestamp) {
        let is_nothing = value == 0 && metric != Metric::TickLateness;
        if let Some(namespace) = self.namespace.as_deref().filter(|_| !is_nothing) {
            println!("{}", line(namespace, metric, value, now));
        }
    }
}

fn line(namespace: &str, metric: Metric, value: usize, now: Timestamp) -> String {
    let dimension = metric.dimension();
    let mut document = json!({
        "_aws": {
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [{
                "Namespace": namespace,
                "Dimensions": [dimension.iter().map(|(name, _)| name).collect::<Vec<_>>()],
                "Metrics": [{ "Name": metric.name(), "Unit": metric.unit() }],
            }],
        },
    });
    document[metric.name()] = json!(value);
    if let Some((name, value)) = dimension {
        document[name] = json!(value);
    }
    document.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_off_that_is_refused_is_no_fault_of_the_callback() {
        for (answer, result) in [
            (CallbackResponse::App(ResponseCode::Accepted), Some(CallbackResult::Accepted)),
            (CallbackResponse::App(ResponseCode::Unauthorized), Some(CallbackResult::Refused)),
            (CallbackResponse::App(ResponseCode::KeyConflict), Some(CallbackResult::Refused)),
            (CallbackResponse::App(ResponseCode::NotConfigured), Some(CallbackResult::Failed)),
            (CallbackResponse::Platform { status: 404, retry_after: None }, Some(CallbackResult::Failed)),
            (CallbackResponse::Missing, Some(CallbackResult::Failed)),
            (CallbackResponse::App(ResponseCode::HandoffInvalid), None),
            (CallbackResponse::App(ResponseCode::HandoffUsed), None),
        ] {
            assert_eq!(CallbackResult::of_registration(&answer), result, "{answer:?}");
        }
    }

    #[test]
    fn a_line_is_the_embedded_metric_format() {
        let now = Timestamp::from_second(1_795_341_900).unwrap();
        let document: serde_json::Value =
            serde_json::from_str(&line("forge-health", Metric::Callbacks(CallbackResult::Refused), 3, now))
                .unwrap();
        assert_eq!(
            document,
            json!({
                "_aws": {
                    "Timestamp": 1_795_341_900_000_i64,
                    "CloudWatchMetrics": [{
                        "Namespace": "forge-health",
                        "Dimensions": [["result"]],
                        "Metrics": [{ "Name": "Callbacks", "Unit": "Count" }]
                    }]
                },
                "Callbacks": 3,
                "result": "refused"
            })
        );
        let plain: serde_json::Value =
            serde_json::from_str(&line("n", Metric::TickLateness, 0, now)).unwrap();
        assert_eq!(plain["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([[]]));
    }
}
