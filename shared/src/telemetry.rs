//! Logs: one JSON object a line, for `CloudWatch` Logs Insights.
//!
//! The message reads alone; the fields are for queries and have dotted names (`tenant.id`, `service.id`,
//! `probe.outcome`). Never logged: keys, tokens, bodies, trigger URLs, query strings, header values.

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
