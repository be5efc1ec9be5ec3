//! Probes over real sockets.

mod probe;
