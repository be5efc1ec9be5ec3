//! rotate-keys against the local AWS.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is the test's failure")]

mod aws_failing;
mod runs;
mod world;
