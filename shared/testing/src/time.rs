//! A clock that stands where a test puts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use domain::clock::Clock;
use jiff::Timestamp;

/// A clock shared by everything that clones it.
#[derive(Debug, Clone)]
pub struct FixedClock(Arc<AtomicI64>);

impl FixedClock {
    /// Stands at this second.
    #[must_use]
    pub fn at(text: &str) -> Self {
        let time: Timestamp = text.parse().expect("a timestamp");
        Self(Arc::new(AtomicI64::new(time.as_second())))
    }

    /// Moves on.
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).expect("a time in range")
    }
}
