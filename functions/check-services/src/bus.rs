//! Hands ranges of tenants on to further invocations, over our EventBridge bus.

use std::future::Future;

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;

use crate::event::{CHECK_RANGE, Range, SOURCE};

/// Ranges that could not be published.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The bus did not take some of them, three times over.
    #[error("{0} ranges were not taken")]
    Rejected(usize),
    /// The call failed.
    #[error("the bus does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Publishes ranges.
pub trait PublishRanges: Send + Sync {
    /// All of them, or an error; some may be published twice, which has one effect.
    fn publish(&self, ranges: &[Range]) -> impl Future<Output = Result<(), BusError>> + Send;
}

/// The real bus.
#[derive(Debug, Clone)]
pub struct EventBus {
    client: Client,
    name: String,
}

/// EventBridge takes ten entries a call.
const ENTRIES_PER_CALL: usize = 10;

impl EventBus {
    /// The bus of this name.
    #[must_use]
    pub fn new(client: Client, name: String) -> Self {
        Self { client, name }
    }

    fn entry(&self, range: &Range) -> PutEventsRequestEntry {
        PutEventsRequestEntry::builder()
            .event_bus_name(&self.name)
            .source(SOURCE)
            .detail_type(CHECK_RANGE)
            .detail(serde_json::to_string(range).unwrap_or_default())
            .build()
    }
}

impl PublishRanges for EventBus {
    async fn publish(&self, ranges: &[Range]) -> Result<(), BusError> {
        for batch in ranges.chunks(ENTRIES_PER_CALL) {
            let mut left: Vec<PutEventsRequestEntry> = batch.iter().map(|range| self.entry(range)).collect();
            for _ in 0..3 {
                let answer = self.client.put_events().set_entries(Some(left.clone())).send().await;
                let answer = answer.map_err(|error| BusError::Unavailable(Box::new(error)))?;
                // The answer has an entry per entry; those with an error code were not taken.
                let taken = answer.entries().iter().map(|entry| entry.error_code().is_none());
                left = left
                    .into_iter()
                    .zip(taken)
                    .filter_map(|(entry, taken)| (!taken).then_some(entry))
                    .collect();
                if left.is_empty() {
                    break;
                }
            }
            if !left.is_empty() {
                return Err(BusError::Rejected(left.len()));
            }
        }
        Ok(())
    }
}
