//! What a function logged, for tests that say what must never be in it.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use shared::config::LogConfig;
use shared::telemetry;
use tracing::subscriber::DefaultGuard;

/// Collects the log lines of this thread, at the most talkative level, as long as it lives.
pub struct Log {
    lines: Lines,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
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
        let lines = Lines::default();
        let writer = lines.clone();
        let config = LogConfig { level: "TRACE".to_owned(), plain: false };
        let subscriber = telemetry::subscriber(&config, move || writer.clone());
        Self { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// Everything so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8(self.lines.0.lock().expect("no test panicked inside").clone())
            .expect("lines of text")
    }

    /// Fails if one of `secrets` stands anywhere in the log, or if a line is not one JSON object.
    pub fn assert_without(&self, secrets: &[&str]) {
        let text = self.text();
        for secret in secrets {
            assert!(!secret.is_empty() && !text.contains(secret), "{secret:?} is in the log:\n{text}");
        }
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("one JSON object a line");
            assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
        }
    }
}
