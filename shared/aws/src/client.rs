//! Settings that every AWS client shares: time-outs, retries, and how many calls are made at once.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_kms::error::SdkError;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// For one call, retries included: well below the 29 s of add-service, far above what DynamoDB or KMS need.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Credentials, region and endpoint as the AWS SDK finds them. A call is tried three times.
pub async fn settings() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(4))
        .operation_timeout(CALL_TIMEOUT)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .load()
        .await
}

/// A client of one AWS service that makes so many calls at once and no more, since each takes a connection: Lambda has 1,024
/// descriptors. Nothing but [`BoundedClient::send`] reaches the client, so no call can go without a permit.
#[derive(Debug, Clone)]
pub struct BoundedClient<C> {
    client: C,
    permits: Arc<Semaphore>,
}

impl<C: Clone> BoundedClient<C> {
    /// Clones share the permits.
    #[must_use]
    pub fn new(client: C, calls_at_once: usize) -> Self {
        Self { client, permits: Arc::new(Semaphore::new(calls_at_once)) }
    }

    /// One call. It ends within ten seconds, the wait for its permit included.
    pub async fn send<T, E, R, F>(&self, call: impl FnOnce(C) -> F) -> Result<T, SdkError<E, R>>
    where
        F: Future<Output = Result<T, SdkError<E, R>>>,
    {
        // Boxed, since the SDK's futures are large.
        let permitted = Box::pin(async {
            // The semaphore is never closed.
            let _permit = self.permits.acquire().await;
            call(self.client.clone()).await
        });
        timeout(CALL_TIMEOUT, permitted).await.unwrap_or_else(|elapsed| Err(SdkError::timeout_error(elapsed)))
    }
}
