//! What the tests of several crates stand on: a local AWS with a table and keys, a Forge app with its trigger, and
//! endpoints to monitor. Real parts over real sockets; nothing here is compiled into a function.

#![expect(clippy::missing_panics_doc, reason = "a fixture that cannot be set up fails its test, everywhere")]

pub mod aws;
pub mod aws_server;
pub mod event_bus;
pub mod faults;
pub mod forge_app;
pub mod log;
pub mod names;
pub mod stored;
pub mod target;
pub mod time;
