//! Time and randomness from the operating system. Nothing else in the workspace asks for either (`clippy.toml` enforces it):
//! functions get them as arguments.

use domain::clock::Clock;
use jiff::Timestamp;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks for the time")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// 128 bits that have not been used before: the `jti` of a REGISTER.
pub type Nonce = [u8; 16];

/// Draws a [`Nonce`] from the operating system.
///
/// # Panics
/// When the operating system has no randomness to give, which leaves nothing sensible to do.
#[must_use]
#[expect(clippy::disallowed_methods, clippy::expect_used, reason = "the one place that asks for randomness")]
pub fn random_nonce() -> Nonce {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).expect("the operating system gives randomness");
    nonce
}
