//! The rules of this repository as tests.

#![expect(clippy::unwrap_used, reason = "a step of a test that fails is the test's failure")]

mod rules;
