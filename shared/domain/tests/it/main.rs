//! The domain from outside: histories of checks, and the vectors that the Forge app reads as well.

#![expect(clippy::unwrap_used, reason = "a step of a test that fails is the test's failure")]

mod status;
mod tick_plan;
mod vectors;
