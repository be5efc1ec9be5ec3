//! Delivers callbacks over HTTP: one POST, or a few with backoff within a budget.
//!
//! Redirects are never followed and nothing of an answer is kept but its code. Not here: which triggers are
//! allowed; a [`TriggerUrl`] exists only after `tenant::TriggerPolicy` accepted it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use domain::clock::Clock;
use domain::response::CallbackResponse;
use domain::tenant::TriggerUrl;
use probe::tls::{self, SetupError};

/// One callback, ready to be sent.
#[derive(Clone, Copy)]
pub struct Callback<'a> {
    pub trigger: &'a TriggerUrl,
    /// The compact JWS over `body`.
    pub token: &'a str,
    pub body: &'a [u8],
    /// Whether the app responded when it was last asked.
    pub is_expected: bool,
}

/// Sends one callback to a web trigger.
pub trait Deliver: Send + Sync {
    /// One attempt. Never fails: no answer is an answer.
    fn post(
        &self,
        callback: &Callback<'_>,
        timeout: Duration,
    ) -> impl Future<Output = CallbackResponse> + Send;
}

/// How long and how often a callback is tried.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// For everything, waits included.
    pub total: Duration,
    /// For one attempt. Forge gives a handler 55 s; a healthy one answers within two.
    pub attempt: Duration,
    /// The first wait; it doubles from attempt to attempt.
    pub first_wait: Duration,
}

impl RetryPolicy {
    /// For REGISTER, while a person waits: 12 s of the 29 s that the function has.
    pub const REGISTER: Self = Self {
        total: Duration::from_secs(12),
        attempt: Duration::from_secs(10),
        first_wait: Duration::from_millis(400),
    };
    /// For UPDATE: within the tick, the next tick carries what was not delivered.
    pub const UPDATE: Self = Self {
        total: Duration::from_secs(40),
        attempt: Duration::from_secs(15),
        first_wait: Duration::from_secs(1),
    };
}

/// Waits never exceed this, whatever an answer asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Posts until the app responds, the response is final, or `retry_policy` has run out; returns the last response and the
/// number of attempts. `seed` spreads the waits of different tenants (a hash does; nothing secret).
pub async fn deliver(
    client: &impl Deliver,
    mut callback: Callback<'_>,
    retry_policy: RetryPolicy,
    seed: u64,
) -> (CallbackResponse, u32) {
    let end = Instant::now() + retry_policy.total;
    let mut wait = retry_policy.first_wait;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let left = end.saturating_duration_since(Instant::now());
        let response = client.post(&callback, retry_policy.attempt.min(left)).await;
        callback.is_expected = response != CallbackResponse::Missing;
        if response.is_acceptance() || !response.is_worth_a_retry() {
            return (response, attempts);
        }
        let pause = match &response {
            CallbackResponse::Platform { retry_after: Some(asked), .. } => {
                (*asked).clamp(wait, LONGEST_WAIT.max(wait))
            }
            _ => jitter(wait, seed, attempts),
        };
        // An attempt that would start within the last second of the budget has no chance.
        if Instant::now() + pause + Duration::from_secs(1) > end {
            return (response, attempts);
        }
        tokio::time::sleep(pause).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Between half of `wait` and all of it.
fn jitter(wait: Duration, seed: u64, attempt: u32) -> Duration {
    let mixed = seed.wrapping_add(u64::from(attempt)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let part = u32::try_from(mixed >> 48).unwrap_or(0);
    wait / 2 + wait / 2 * part / 65_536
}

/// The real thing. Clones share their connections.
#[derive(Clone)]
pub struct HttpCallbacks {
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    attempts: Arc<Semaphore>,
    slow: Arc<Semaphore>,
}

/// Attempts at once, each with a connection, of the 1,024 descriptors that Lambda allows (docs/architecture.md has the
/// budget).
const ATTEMPTS_AT_ONCE: usize = 128;

/// An attempt without a response after this is slow. A healthy app answers within two seconds.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// Slow attempts at once, with those that are expected to be. One more is given up, and repeated later: triggers that hang
/// leave places to those that respond. With as many again that have not been slow for two seconds yet, half of fifty tenants a
/// second may hang before all places are taken.
const SLOW_AT_ONCE: usize = 64;

/// How long a connection is kept for the next callback to the same host. Triggers may all be on one host or each on its
/// own; at fifty tenants a second this keeps at most two hundred that nobody needs.
const IDLE_FOR: Duration = Duration::from_secs(2);

/// Nothing of a response beyond this is read; ours has 30 bytes.
const MAX_RESPONSE_BYTES: usize = 4 * 1024;

impl HttpCallbacks {
    /// Connections to triggers are reused between tenants whose triggers share a host. `clock` is for responses that name
    /// the time of the next attempt.
    pub fn new(clock: impl Clock + 'static) -> Result<Self, SetupError> {
        let tls = tls::client(&Arc::new(rustls::crypto::aws_lc_rs::default_provider()))?
            .with_root_certificates(tls::authorities(&[])?)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .pool_idle_timeout(IDLE_FOR)
            .user_agent(concat!("forge-health/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            client,
            clock: Arc::new(clock),
            attempts: Arc::new(Semaphore::new(ATTEMPTS_AT_ONCE)),
            slow: Arc::new(Semaphore::new(SLOW_AT_ONCE)),
        })
    }

    async fn attempt(&self, callback: &Callback<'_>) -> CallbackResponse {
        // Neither semaphore is closed; without a permit there would only be more attempts at once.
        let _slow = if callback.is_expected { None } else { self.slow.acquire().await.ok() };
        let _attempt = self.attempts.acquire().await;
        let mut exchange = pin!(self.exchange(callback));
        // No error is logged here: a reqwest error names the URL.
        if !callback.is_expected {
            return exchange.await.unwrap_or(CallbackResponse::Missing);
        }
        if let Ok(response) = timeout(SLOW_AFTER, &mut exchange).await {
            return response.unwrap_or(CallbackResponse::Missing);
        }
        match self.slow.try_acquire() {
            Ok(_slow) => exchange.await.unwrap_or(CallbackResponse::Missing),
            Err(_) => CallbackResponse::Missing,
        }
    }

    async fn exchange(&self, callback: &Callback<'_>) -> reqwest::Result<CallbackResponse> {
        let mut response = self
            .client
            .post(callback.trigger.as_str())
            .bearer_auth(callback.token)
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(callback.body.to_vec())
            .send()
            .await?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers(), self.clock.now());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_RESPONSE_BYTES {
                return Ok(CallbackResponse::Platform { status, retry_after });
            }
        }
        Ok(CallbackResponse::read(status, retry_after, &body))
    }
}

impl Deliver for HttpCallbacks {
    async fn post(&self, callback: &Callback<'_>, timeout: Duration) -> CallbackResponse {
        // Waiting for a place is part of the attempt: nothing here outlives its time.
        tokio::time::timeout(timeout, self.attempt(callback)).await.unwrap_or(CallbackResponse::Missing)
    }
}

/// `Retry-After` in seconds, or the time of Atlassian's `X-Ratelimit-Reset`.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(seconds) = text(RETRY_AFTER.as_str()).and_then(|value| value.trim().parse::<u32>().ok()) {
        return Some(Duration::from_secs(seconds.into()));
    }
    // Atlassian writes minutes precision ("2026-11-22T10:05Z"), which `jiff` reads as well.
    let reset: Timestamp = text("x-ratelimit-reset")?.trim().parse().ok()?;
    reset.duration_since(now).try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use domain::response::ResponseCode;
    use domain::tenant::TriggerPolicy;

    /// Answers as told, then accepts; notes when it was asked.
    struct Scripted(Mutex<(Vec<CallbackResponse>, Vec<Instant>)>);

    impl Deliver for Scripted {
        async fn post(&self, _: &Callback<'_>, timeout: Duration) -> CallbackResponse {
            let answer = {
                let mut state = self.0.lock().unwrap();
                state.1.push(Instant::now());
                if state.0.is_empty() {
                    CallbackResponse::App(ResponseCode::Accepted)
                } else {
                    state.0.remove(0)
                }
            };
            if answer == CallbackResponse::Missing {
                tokio::time::sleep(timeout).await;
            }
            answer
        }
    }

    async fn run(answers: Vec<CallbackResponse>) -> (CallbackResponse, u32, Vec<Instant>) {
        let rule = TriggerPolicy { hosts: vec!["t.example".into()], allow_loopback: false };
        let trigger = rule.parse("https://t.example/x1/a").unwrap();
        let callback = Callback { trigger: &trigger, token: "t", body: b"{}", is_expected: true };
        let port = Scripted(Mutex::new((answers, Vec::new())));
        let (answer, attempts) = deliver(&port, callback, RetryPolicy::UPDATE, 42).await;
        (answer, attempts, port.0.into_inner().unwrap().1)
    }

    #[tokio::test(start_paused = true)]
    async fn passing_faults_are_retried_within_the_budget() {
        let fault = |status| CallbackResponse::Platform { status, retry_after: None };
        let (answer, attempts, _) =
            run(vec![fault(424), fault(429), fault(503), CallbackResponse::App(ResponseCode::Retry)]).await;
        assert_eq!((answer, attempts), (CallbackResponse::App(ResponseCode::Accepted), 5));
        let start = Instant::now();
        let (answer, attempts, _) = run(vec![CallbackResponse::Missing; 50]).await;
        assert_eq!(answer, CallbackResponse::Missing);
        assert!((2..=4).contains(&attempts), "{attempts}");
        assert!(start.elapsed() <= RetryPolicy::UPDATE.total);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_asked_for_is_honoured_and_clamped() {
        let asked = |secs| {
            vec![CallbackResponse::Platform { status: 429, retry_after: Some(Duration::from_secs(secs)) }]
        };
        let (_, attempts, times) = run(asked(9)).await;
        assert_eq!((attempts, times[1] - times[0]), (2, Duration::from_secs(9)));
        let (_, _, times) = run(asked(100_000)).await;
        assert_eq!(times[1] - times[0], LONGEST_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn final_answers_are_not_repeated() {
        for answer in [
            CallbackResponse::App(ResponseCode::Unauthorized),
            CallbackResponse::App(ResponseCode::BadRequest),
            CallbackResponse::App(ResponseCode::StaleTick),
            CallbackResponse::App(ResponseCode::Unregistered),
            CallbackResponse::Platform { status: 404, retry_after: None },
        ] {
            assert_eq!(run(vec![answer.clone()]).await.1, 1, "{answer:?}");
        }
    }

    #[test]
    fn both_forms_of_a_requested_wait_are_read() {
        let now = "2026-11-22T10:05:00Z".parse().unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers, now), None);
        headers.insert("x-ratelimit-reset", "2026-11-22T10:04Z".parse().unwrap());
        assert_eq!(retry_after(&headers, now), None, "a time that has passed asks for nothing");
        headers.insert("x-ratelimit-reset", "2026-11-22T10:06:30Z".parse().unwrap());
        assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(90)));
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(7)));
    }
}
