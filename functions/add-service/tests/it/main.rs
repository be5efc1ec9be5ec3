//! add-service against the local AWS, a Forge app's trigger and endpoints on loopback.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is the test's failure")]

mod aws_failing;
mod bounds;
mod connections;
mod input;
mod management;
mod races;
mod registration;
mod world;
