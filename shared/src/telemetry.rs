//! Logs: one JSON object a line, for `CloudWatch` Logs Insights.
//!
//! The message reads alone; the fields are for queries and have dotted names (`tenant.id`, `service.id`,
//! `probe.outcome`). Never logged: keys, tokens, bodies, trigger URLs, query strings, header values.

use std::error::Error;
use std::fmt;

use tracing_subscriber::EnvFilter;

use crate::config::LogConfig;

/// Installs the process's subscriber. Libraries are heard from `WARN` on; AWS crates print request details below it.
pub fn init(config: &LogConfig) {
    let level = config.level.to_ascii_lowercase();
    let level = if ["trace", "debug", "info", "warn", "error"].contains(&level.as_str()) {
        level
    } else {
        "info".into()
    };
    let filter = EnvFilter::new(format!(
        "warn,shared={level},register={level},add_service={level},check_services={level}"
    ));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    // Only a second call can fail, and then there is a subscriber already.
    let _ = if config.plain {
        subscriber.without_time().try_init()
    } else {
        subscriber.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
}

/// An error with everything that caused it, in one line: `the store refused: service error: AccessDeniedException`.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
    use crate::key::KeyError;

    #[test]
    fn an_error_is_told_with_its_causes() {
        let cause = std::io::Error::other("connection reset");
        let error = KeyError::Unavailable(Box::new(cause));
        assert_eq!(Chain(&error).to_string(), "KMS throttles or does not answer: connection reset");
    }
}
