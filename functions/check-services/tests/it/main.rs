//! check-services against the local AWS, a Forge app's trigger and endpoints on loopback.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is the test's failure")]

mod answers;
mod aws_failing;
mod changes;
mod concurrency;
mod deliveries;
mod key_rotation;
mod records;
mod shards;
mod shared_addresses;
mod ticks;
mod verdicts;
mod world;
