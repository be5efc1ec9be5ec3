//! What the backend tells a Forge app, how it is signed, and what the answers mean (docs/protocol.md, section 4).
//!
//! Deliberately absent: when to send and what to do about an answer; that belongs to the functions.

pub mod answer;
pub mod http;
pub mod introduction;
pub mod message;
pub mod token;

pub use answer::{Answer, Code};
