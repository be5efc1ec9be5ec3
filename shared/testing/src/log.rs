//! What a function logged, for tests that say what must be in it and what must never be.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use aws::environment::LogConfig;
use aws::telemetry;
use serde_json::Value;
use tracing::subscriber::DefaultGuard;

/// Collects the log lines of this thread, at the most talkative level, as long as it lives.
pub struct Log {
    written: Written,
    /// How many bytes of it have been looked at.
    seen: usize,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no test panicked inside").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Begins to collect.
    #[must_use]
    pub fn collect() -> Self {
        let written = Written::default();
        let writer = written.clone();
        let config = LogConfig { level: "TRACE".to_owned(), plain: false };
        let subscriber = telemetry::subscriber(&config, move || writer.clone());
        Self { written, seen: 0, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// Fails unless each of `expected` is part of one of the lines since the last call, and each `WARN` and `ERROR` among
    /// these is expected. `step` says what was done.
    pub fn expect(&mut self, step: &str, expected: &[Value]) {
        let text = self.text();
        let new = &text[self.seen..];
        self.seen = text.len();
        let lines: Vec<Value> =
            new.lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect();
        for wanted in expected {
            let is_there = lines.iter().any(|line| is_part(wanted, line));
            assert!(is_there, "{step}: {wanted} is missing in:\n{new}");
        }
        for line in lines.iter().filter(|line| line["level"] == "WARN" || line["level"] == "ERROR") {
            assert!(expected.iter().any(|wanted| is_part(wanted, line)), "{step}: nobody expects {line}");
        }
    }

    /// Fails if one of `secrets` stands anywhere in the log, or if a line is not one JSON object.
    pub fn assert_without(&self, secrets: &[&str]) {
        let text = self.text();
        for secret in secrets {
            assert!(!secret.is_empty() && !text.contains(secret), "{secret:?} is in the log:\n{text}");
        }
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).expect("one JSON object a line");
            assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.written.0.lock().expect("no test panicked inside").clone())
            .expect("lines of text")
    }
}

/// Whether `line` has every field of `wanted`, with the same value.
fn is_part(wanted: &Value, line: &Value) -> bool {
    wanted.as_object().expect("fields").iter().all(|(name, value)| line[name] == *value)
}
