//! Drives a hyper connection to the end of one exchange.

use std::future::Future;
use std::pin::pin;

use domain::check::ProbeFailure;
use futures::FutureExt as _;
use futures::future::{Either, select};

use super::connection::tls_error;

/// Drives a connection until there is an answer, and then says goodbye if that takes no waiting: TLS wants it said, but how
/// a connection ends is no finding.
pub(super) async fn drive<T>(
    driver: impl Future<Output = hyper::Result<()>>,
    exchange: impl Future<Output = Result<T, ProbeFailure>>,
) -> Result<T, ProbeFailure> {
    // Fused, a driver that has ended is dropped, and with it the ends of the channels that an exchange may wait at.
    let driver = pin!(driver.fuse());
    match select(pin!(exchange), driver).await {
        Either::Left((answer, driver)) => {
            drop(driver.now_or_never());
            answer
        }
        // What the exchange still needs has been read.
        Either::Right((ended, exchange)) => exchange.await.map_err(|failure| match ended {
            // It may know no more than that the connection is gone.
            Err(error) if failure == ProbeFailure::Body => interrupted(&error),
            _ => failure,
        }),
    }
}

/// The failure class of a request that got no complete answer.
pub(super) fn interrupted(error: &hyper::Error) -> ProbeFailure {
    // A server that wants a certificate from its client says so after the handshake.
    if tls_error(error).is_some() { ProbeFailure::Tls } else { ProbeFailure::Body }
}
