//! Logs: one JSON object a line, for `CloudWatch` Logs Insights.
//!
//! The message reads alone; the fields are for queries and have dotted names (`tenant.id`, `service.id`,
//! `probe.outcome`). Never logged: keys, tokens, bodies, trigger URLs, query strings, header values.

use std::error::Error;

use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::environment::LogConfig;

/// The crates of this repository that log.
const OURS: [&str; 8] =
    ["add_service", "aws", "callback", "check_services", "probe", "register", "rotate_keys", "web"];

/// Installs the process's subscriber.
pub fn init(config: &LogConfig) {
    // Only a second call can fail, and then there is a subscriber already.
    let _ = tracing::subscriber::set_global_default(subscriber(config, std::io::stdout));
}

/// The subscriber, writing elsewhere. Libraries are heard from `WARN` on: below it AWS crates print requests.
pub fn subscriber<W>(config: &LogConfig, writer: W) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level: LevelFilter = config.level.parse().unwrap_or(LevelFilter::INFO);
    // Whole crate names: "aws" is ours and "aws_config" is not.
    let is_heard = move |metadata: &Metadata<'_>| {
        let origin = metadata.target().split("::").next().unwrap_or_default();
        *metadata.level() <= if OURS.contains(&origin) { level } else { LevelFilter::WARN }
    };
    let filter = filter_fn(is_heard).with_max_level_hint(level.max(LevelFilter::WARN));
    let layer = fmt::layer().with_target(false).with_writer(writer);
    let layer = if config.plain {
        layer.without_time().boxed()
    } else {
        layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
    };
    tracing_subscriber::registry().with(filter).with(layer)
}

/// Logs why a function cannot start, where its `main` gives up: Lambda itself shows that as plain text at best.
pub fn cannot_start(error: &(impl Error + 'static)) {
    tracing::error!(error = %ErrorChain(error), "cannot start");
}

/// An error with everything that caused it, in one line: `the store refused: service error: AccessDeniedException`.
#[derive(Debug, Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a dyn Error);

impl std::fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        // An error that goes on for ever would be a bug of a library; ten causes tell the story.
        for _ in 0..10 {
            let Some(error) = cause else { break };
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::key::KeyError;

    #[test]
    fn an_error_is_told_with_its_causes() {
        let cause = std::io::Error::other("connection reset");
        let error = KeyError::Unavailable(Box::new(cause));
        assert_eq!(ErrorChain(&error).to_string(), "KMS throttles or does not answer: connection reset");
    }
}
