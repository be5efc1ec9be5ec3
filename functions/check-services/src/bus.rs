//! What goes over our EventBridge bus: shards for further invocations, and events for an operator.

use aws::client::BoundedClient;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::operation::put_events::PutEventsInput;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use serde::Serialize;

use crate::event::{
    CHECK_RANGE, SOURCE, STATUS_CHANGED, Shard, StatusChanged, VERDICTS_HELD, VerdictsSuppressed,
};

/// Events that could not be published.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The bus did not take some of them, three times over.
    #[error("{0} events were not taken")]
    Rejected(usize),
    /// The call failed.
    #[error("the bus does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Our bus. What is published twice has one effect.
#[derive(Debug, Clone)]
pub struct EventBus {
    client: BoundedClient<Client>,
    name: String,
}

/// EventBridge takes ten entries a call.
const ENTRIES_PER_CALL: usize = 10;

/// Calls at once, each with a connection: with a bus that hangs there would be one per tenant.
const CALLS_AT_ONCE: usize = 16;

impl EventBus {
    /// The bus of this name.
    #[must_use]
    pub fn new(client: Client, name: String) -> Self {
        Self { client: BoundedClient::new(client, CALLS_AT_ONCE), name }
    }

    /// Publishes all of them, or an error; some may be published twice.
    pub async fn publish_shards(&self, shards: &[Shard]) -> Result<(), BusError> {
        let entries: Vec<_> = shards.iter().map(|shard| self.entry(CHECK_RANGE, shard)).collect();
        self.put(&entries).await
    }

    /// Announces that verdicts were suppressed.
    pub async fn suppressed(&self, suppressed: &VerdictsSuppressed) -> Result<(), BusError> {
        self.put(&[self.entry(VERDICTS_HELD, suppressed)]).await
    }

    /// Announces which services changed their status.
    pub async fn changes(&self, changes: &[StatusChanged]) -> Result<(), BusError> {
        let entries: Vec<_> = changes.iter().map(|change| self.entry(STATUS_CHANGED, change)).collect();
        self.put(&entries).await
    }

    fn entry(&self, detail_type: &str, detail: &impl Serialize) -> PutEventsRequestEntry {
        PutEventsRequestEntry::builder()
            .event_bus_name(&self.name)
            .source(SOURCE)
            .detail_type(detail_type)
            .detail(serde_json::to_string(detail).unwrap_or_default())
            .build()
    }

    async fn put(&self, entries: &[PutEventsRequestEntry]) -> Result<(), BusError> {
        for batch in entries.chunks(ENTRIES_PER_CALL) {
            let mut left = batch.to_vec();
            for _ in 0..3 {
                let put = PutEventsInput::builder().set_entries(Some(left.clone()));
                let answer = self.client.send(|bus| async move { put.send_with(&bus).await }).await;
                let answer = answer.map_err(|error| BusError::Unavailable(Box::new(error)))?;
                // The answer has an entry per entry; those with an error code, or without an answer, were not taken.
                let taken = answer.entries().iter().map(|entry| entry.error_code().is_none());
                let taken = taken.chain(std::iter::repeat(false));
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
