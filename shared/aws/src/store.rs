//! The one DynamoDB table, with tenants, services, states and used hand-offs: keys `pk`/`sk`, sparse index `active`
//! (docs/architecture.md has the items and every conditional write).
//!
//! Opened by job: `registration` is all that add-service does with it, `ticks` all that check-services does, `rotation` all
//! that rotate-keys does; each mirrors the IAM statements of its function. Expired items are filtered here, since DynamoDB
//! deletes them up to days later. Not here: anything that could list services over tenants.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::get_item::GetItemInput;
use aws_sdk_dynamodb::operation::query::QueryInput;
use aws_sdk_dynamodb::operation::query::builders::QueryInputBuilder;
use aws_sdk_dynamodb::operation::transact_write_items::{TransactWriteItemsError, TransactWriteItemsInput};
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use jiff::{SignedDuration, Timestamp};

use crate::client::BoundedClient;
use domain::handoff::HandoffRef;
use domain::id::{ServiceId, TenantId};
use domain::service::{Change, Service};
use domain::tenant::Tenant;

use expr::UpdateExpr;
use records::{Partition, has_expired, text};

mod expr;
mod records;
mod registration;
mod rotation;
mod ticks;

type Item = HashMap<String, AttributeValue>;

/// The constant partition of the index.
const ACTIVE: &str = "ACTIVE";

/// Calls at once. A call takes a few milliseconds, so this bounds only what piles up when the table is slow.
const CALLS_AT_ONCE: usize = 64;

/// How long a registration that Forge has not accepted is kept.
pub const PENDING_FOR: SignedDuration = SignedDuration::from_hours(24);
/// How long a suspended tenant is kept.
pub const SUSPENDED_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How often add-service works for one hand-off, which a person got by one press of a button.
pub const ATTEMPTS_PER_HANDOFF: u32 = 10;

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Throttled, timed out, or the answer was lost; the same call may succeed later.
    #[error("the store throttles or does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A record that is not what its key says, or not readable: nobody acts on it.
    #[error("a stored record is unusable: {0}")]
    Corrupt(String),
    /// Everything else: a missing permission or table.
    #[error("the store refused")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// One registration as a single transaction: TENANT if new, its revision, SERVICE, and what the hand-off is used for.
#[derive(Debug)]
pub struct PendingRegistration<'a> {
    /// The tenant as it was read, or a new one.
    pub tenant: &'a Tenant,
    /// The revision read with the tenant, or `None` for a tenant that is not stored yet.
    pub found_revision: Option<u32>,
    /// The service as it was read.
    pub found: Option<&'a Service>,
    /// The service as it is to be stored: pending. Or as it was read, when Forge has accepted it already and only the use of
    /// the hand-off is to be stored.
    pub service: &'a Service,
    /// The hand-off.
    pub reference: &'a HandoffRef,
}

/// What a hand-off has been used for. With its grace it may be used for that again, and for nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoffUse {
    /// The tenant.
    pub tenant_id: TenantId,
    /// The service.
    pub service_id: ServiceId,
    /// What was done to the service; `None` for a registration.
    pub change: Option<Change>,
}

/// One change to a service as a single transaction: the SERVICE, the tenant's count when it is removed, and the use of the
/// hand-off. A hand-off that is used is therefore one whose change is done.
#[derive(Debug)]
pub struct ServiceChange<'a> {
    /// The tenant, which need not exist.
    pub tenant_id: &'a TenantId,
    /// The service.
    pub service_id: &'a ServiceId,
    /// What is done to it.
    pub change: Change,
    /// The service as it was read; `None` when there is none, and only the use of the hand-off is to be stored.
    pub found: Option<&'a Service>,
    /// The revision read with the service.
    pub found_revision: u32,
    /// The hand-off.
    pub reference: &'a HandoffRef,
}

/// What became of a conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Stored.
    Applied,
    /// What it rests on is not as it was read, or another invocation was faster: nothing was stored. A request reads and
    /// decides again, a tick stops and sends nothing.
    Conflict,
}

/// A range of tenants in the order of their ids: after the one, through the other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TenantIdRange {
    /// Exclusive; `None` from the beginning.
    pub after: Option<TenantId>,
    /// Inclusive; `None` to the end.
    pub through: Option<TenantId>,
}

/// The table. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    client: BoundedClient<Client>,
    table: String,
}

impl Store {
    /// Uses the table of this name.
    #[must_use]
    pub fn new(client: Client, table: String) -> Self {
        Self { client: BoundedClient::new(client, CALLS_AT_ONCE), table }
    }

    async fn get(&self, key: Item, consistent: bool) -> Result<Option<Item>, StoreError> {
        let get =
            GetItemInput::builder().table_name(&self.table).set_key(Some(key)).consistent_read(consistent);
        let answer = self.client.send(|db| async move { get.send_with(&db).await }).await;
        Ok(answer.map_err(classify)?.item)
    }

    /// All items of a query, page by page.
    async fn query(&self, query: QueryInputBuilder) -> Result<Vec<Item>, StoreError> {
        let (mut items, mut start) = (Vec::new(), None);
        loop {
            let page = query.clone().table_name(&self.table).set_exclusive_start_key(start);
            let answer = self.client.send(|db| async move { page.send_with(&db).await }).await;
            let answer = answer.map_err(classify)?;
            items.extend(answer.items.unwrap_or_default());
            start = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if start.is_none() {
                return Ok(items);
            }
        }
    }

    /// An update of one item, if its condition holds.
    async fn update(&self, key: Item, expr: UpdateExpr) -> Result<WriteOutcome, StoreError> {
        let update = expr.update(&self.table, key);
        match self.client.send(|db| async move { update.send_with(&db).await }).await {
            Ok(_) => Ok(WriteOutcome::Applied),
            Err(error) if is_failed_condition(&error) => Ok(WriteOutcome::Conflict),
            Err(error) => Err(classify(error)),
        }
    }

    /// All items of a tenant that have not expired, by sort key.
    async fn partition(
        &self,
        tenant: &TenantId,
        consistent: bool,
        now: Timestamp,
    ) -> Result<Partition, StoreError> {
        let query = QueryInput::builder()
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(format!("TENANT#{tenant}")))
            .consistent_read(consistent);
        let mut items = HashMap::new();
        for item in self.query(query).await? {
            let sk = item.get("sk").and_then(|sk| sk.as_s().ok()).cloned().unwrap_or_default();
            if !has_expired(&item, now) {
                items.insert(sk, item);
            }
        }
        Ok(Partition { tenant: tenant.clone(), items })
    }

    /// All or nothing, if everything that it rests on is as it was read.
    async fn transact(&self, items: Vec<TransactWriteItem>) -> Result<WriteOutcome, StoreError> {
        Ok(self
            .transact_with_retries(items)
            .await?
            .map_or(WriteOutcome::Conflict, |()| WriteOutcome::Applied))
    }

    /// The inner error has a code per item. A conflict with another transaction says nothing about the
    /// conditions, so it is tried again a few times.
    async fn transact_with_retries(
        &self,
        items: Vec<TransactWriteItem>,
    ) -> Result<Result<(), Vec<String>>, StoreError> {
        let is_conflict = |codes: &[String]| {
            codes.iter().any(|code| code == "TransactionConflict")
                && codes.iter().all(|code| matches!(code.as_str(), "None" | "TransactionConflict"))
        };
        for pause_ms in [50, 150, 450] {
            match self.try_transact(items.clone()).await? {
                Err(codes) if is_conflict(&codes) => {
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                }
                outcome => return Ok(outcome),
            }
        }
        self.try_transact(items).await
    }

    async fn try_transact(
        &self,
        items: Vec<TransactWriteItem>,
    ) -> Result<Result<(), Vec<String>>, StoreError> {
        let transaction = TransactWriteItemsInput::builder().set_transact_items(Some(items));
        match self.client.send(|db| async move { transaction.send_with(&db).await }).await {
            Ok(_) => Ok(Ok(())),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => {
                    let reasons = cancelled.cancellation_reasons();
                    let codes: Vec<String> =
                        reasons.iter().map(|reason| reason.code().unwrap_or("None").to_owned()).collect();
                    let only_conditions = codes.iter().all(|code| {
                        matches!(code.as_str(), "None" | "ConditionalCheckFailed" | "TransactionConflict")
                    });
                    if only_conditions {
                        Ok(Err(codes))
                    } else {
                        Err(StoreError::Unavailable(Box::new(error)))
                    }
                }
                Some(
                    TransactWriteItemsError::TransactionInProgressException(_)
                    | TransactWriteItemsError::IdempotentParameterMismatchException(_),
                ) => Err(StoreError::Unavailable(Box::new(error))),
                _ => Err(classify(error)),
            },
        }
    }
}

fn refused(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Refused(Box::new(error))
}

fn is_failed_condition(error: &SdkError<UpdateItemError>) -> bool {
    matches!(error.as_service_error(), Some(UpdateItemError::ConditionalCheckFailedException(_)))
}

fn classify<E, R>(error: SdkError<E, R>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let Some(service) = error.as_service_error() else {
        return StoreError::Unavailable(Box::new(error));
    };
    match service.code() {
        Some(
            "AccessDeniedException"
            | "ResourceNotFoundException"
            | "ValidationException"
            | "UnrecognizedClientException"
            | "ItemCollectionSizeLimitExceededException",
        ) => StoreError::Refused(Box::new(error)),
        _ => StoreError::Unavailable(Box::new(error)),
    }
}
