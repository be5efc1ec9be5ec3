//! What this backend is about, and nothing of how it is reached or stored: no AWS, no HTTP, no clock. The same input gives the
//! same result. docs/architecture.md has a map of the code.

pub mod check;
pub mod clock;
pub mod handoff;
pub mod id;
pub mod jws;
pub mod key;
pub mod key_endorsement;
pub mod key_rotation;
pub mod report;
pub mod reserved_ranges;
pub mod response;
pub mod service;
pub mod snapshot;
pub mod status;
pub mod target_url;
pub mod tenant;
pub mod tick;
pub mod tick_plan;
