//! The one DynamoDB table: keys `pk`/`sk`, sparse index `active` (docs in README, "Data").
//!
//! Every record is checked against its key when read: a tenant's id is derived again from what the record says.
//! Expired items are filtered here, since DynamoDB deletes them up to days later.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::get_item::GetItemInput;
use aws_sdk_dynamodb::operation::query::QueryInput;
use aws_sdk_dynamodb::operation::query::builders::QueryInputBuilder;
use aws_sdk_dynamodb::operation::transact_write_items::{TransactWriteItemsError, TransactWriteItemsInput};
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemInputBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemInput};
use aws_sdk_dynamodb::types::{AttributeValue, ConditionCheck, Delete, Put, TransactWriteItem, Update};
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    ATTEMPTS_PER_HANDOFF, Checks, FailureStreak, HandoffUse, PENDING_FOR, PendingRegistration,
    RegisteredTenant, Registrations, ServiceChange, StoreError, TenantRange, TenantSnapshot, WriteOutcome,
};
use crate::client::BoundedClient;
use domain::check::{Check, Observation};
use domain::handoff::{HandoffRef, RESUME_FOR};
use domain::id::{CloudId, HandoffId, Owner, ServiceId, TenantId};
use domain::key::{PublicKey, TenantKey, WrappedKey};
use domain::service::{Change, Lifecycle, Service, ServiceName, Thresholds};
use domain::status::{History, ServiceStatus, State, Status, Transition};
use domain::tenant::{KeyEndorsement, NextKey, Tenant, TenantStatus, TriggerUrl};
use domain::tick::Tick;

mod rotations;

type Item = HashMap<String, AttributeValue>;

/// The constant partition of the index.
const ACTIVE: &str = "ACTIVE";

/// Calls at once. A call takes a few milliseconds, so this bounds only what piles up when the table is slow.
const CALLS_AT_ONCE: usize = 64;

/// Tenants, services, states and hand-offs in DynamoDB.
#[derive(Debug, Clone)]
pub struct DynamoStore {
    client: BoundedClient<Client>,
    table: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TenantRecord {
    cloud_id: CloudId,
    trigger_url: TriggerUrl,
    public_key: String,
    wrapped_key: String,
    status: TenantStatus,
    revision: u32,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    registered_at: Option<Timestamp>,
    /// Absent for the tenant's first key.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    key_made_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    next_key: Option<NextKeyRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NextKeyRecord {
    public_key: String,
    wrapped_key: String,
    made_at: Timestamp,
    #[serde(rename = "introduction")]
    endorsement: String,
    #[serde(rename = "introducedUntil")]
    endorsed_until: Timestamp,
    accepted: bool,
    refused_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceRecord {
    name: ServiceName,
    check: Json<Check>,
    /// Absent for [`Thresholds::EACH_CHECK`], whatever the default is.
    #[serde(skip_serializing_if = "needs_no_history", default = "each_check")]
    thresholds: Thresholds,
    owner: Owner,
    #[serde(rename = "activity")]
    lifecycle: Lifecycle,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    first: Option<Json<Observation>>,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    resumed_at: Option<Timestamp>,
}

/// A structure in one attribute, as a text. Each attribute of a map would be parsed, hashed and converted by itself at every
/// tick: 6 % more of what a check over HTTP executes (docs/performance.md).
struct Json<T>(T);

impl<T: Serialize> Serialize for Json<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::to_string(&self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Json<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_json::from_str(&String::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn needs_no_history(thresholds: &Thresholds) -> bool {
    !thresholds.needs_history()
}

fn each_check() -> Thresholds {
    Thresholds::EACH_CHECK
}

/// One service in STATE: about 50 bytes, so that 50 of them cost two write units more, not ten.
#[derive(Serialize, Deserialize)]
struct StateEntry {
    /// The status.
    s: char,
    /// Since when, in Unix seconds.
    t: i64,
    /// When the service was registered, in Unix seconds.
    c: i64,
    /// The history's bits; absent for a service that needs none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    h: Option<u8>,
    /// For how many ticks in a row the verdict was suppressed; absent for none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    d: Option<u8>,
    /// How many ticks in a row brought no verdict; absent for none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    u: Option<u8>,
    /// The tick whose first attempt failed without being confirmed, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    f: Option<i64>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct StateRecord {
    last_tick: Option<Tick>,
    acked_tick: Option<Tick>,
    services: BTreeMap<ServiceId, StateEntry>,
    transitions: Vec<Transition>,
    transitions_dropped: u32,
    failing_since: Option<Timestamp>,
    gone_since: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HandoffRecord {
    /// Absent as long as it was tried and has led to nothing, as is the service.
    #[serde(default)]
    tenant_id: Option<TenantId>,
    #[serde(default)]
    service_id: Option<ServiceId>,
    /// Absent for a registration.
    #[serde(default)]
    change: Option<Change>,
}

impl DynamoStore {
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
    async fn update(&self, update: UpdateItemInputBuilder) -> Result<WriteOutcome, StoreError> {
        let update = update.table_name(&self.table);
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
            .expression_attribute_values(":pk", text(tenant_pk(tenant)))
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

    fn key(pk: String, sk: &str) -> Item {
        HashMap::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
    }

    async fn update_state(
        &self,
        tenant: &TenantId,
        expression: &str,
        condition: &str,
        values: Item,
    ) -> Result<(), StoreError> {
        // Existence keeps a late answer from creating a STATE for a tenant that has been deleted. A condition that does
        // not hold is no failure: what was to be noted is out of date.
        let update = UpdateItemInput::builder()
            .set_key(Some(Self::key(tenant_pk(tenant), "STATE")))
            .update_expression(expression)
            .condition_expression(format!("attribute_exists(pk){condition}"))
            .set_expression_attribute_values((!values.is_empty()).then_some(values));
        self.update(update).await.map(drop)
    }

    /// All or nothing; the inner error has a code per item. A conflict with another transaction says nothing about the
    /// conditions, so it is tried again a few times.
    async fn transact(&self, items: Vec<TransactWriteItem>) -> Result<Result<(), Vec<String>>, StoreError> {
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

    /// The transaction if everything that it rests on is as it was read.
    async fn transact_as_read(&self, items: Vec<TransactWriteItem>) -> Result<WriteOutcome, StoreError> {
        Ok(self.transact(items).await?.map_or(WriteOutcome::Conflict, |()| WriteOutcome::Applied))
    }

    /// TENANT in a registration: new, or with its next revision.
    fn pending_tenant(
        &self,
        registration: &PendingRegistration<'_>,
        now: Timestamp,
    ) -> Result<TransactWriteItem, StoreError> {
        let tenant = registration.tenant;
        let id = tenant.id();
        let expires_at = number((now + PENDING_FOR).as_second());
        let Some(found_revision) = registration.found_revision else {
            let record = TenantRecord {
                cloud_id: tenant.cloud_id.clone(),
                trigger_url: tenant.trigger_url.clone(),
                public_key: encode(tenant.key.public.as_bytes()),
                wrapped_key: encode(tenant.key.wrapped.as_bytes()),
                status: TenantStatus::Pending,
                revision: 1,
                created_at: tenant.created_at,
                registered_at: None,
                key_made_at: None,
                next_key: None,
            };
            let mut new = to_item(&record)?;
            new.extend(Self::key(tenant_pk(&id), "TENANT"));
            new.insert("expires_at".to_owned(), expires_at);
            return self.put(new, Condition::absent(now));
        };
        // The key is part of the condition: a tenant that was deleted and made anew in between has another one. So is the
        // status: what is accepted or suspended meanwhile must neither get nor lose an end here.
        let mut as_read = Condition::new("revision = :found AND publicKey = :key AND #s = :was")
            .name("#s", "status")
            .value(":found", number(found_revision.into()))
            .value(":key", text(encode(tenant.key.public.as_bytes())))
            .value(":was", value(&tenant.status)?);
        let key = Self::key(tenant_pk(&id), "TENANT");
        if registration.service.lifecycle != Lifecycle::Pending {
            return self.condition_check(key, as_read);
        }
        as_read = as_read.value(":next", next_revision(found_revision));
        // A tenant that is still pending lives as long as its newest attempt.
        if tenant.status == TenantStatus::Pending {
            as_read = as_read.value(":expires", expires_at);
            return self.update_in(key, "SET revision = :next, expires_at = :expires", as_read);
        }
        self.update_in(key, "SET revision = :next", as_read)
    }

    /// SERVICE in a registration: stored as pending, or accepted as it was read.
    fn pending_service(
        &self,
        registration: &PendingRegistration<'_>,
        now: Timestamp,
    ) -> Result<TransactWriteItem, StoreError> {
        let service = registration.service;
        let as_read = match registration.found {
            Some(found) => Condition::service_as_read(found)?,
            None => Condition::absent(now),
        };
        let key = Self::key(tenant_pk(&registration.tenant.id()), &service_sk(&service.id));
        if service.lifecycle != Lifecycle::Pending {
            return self.condition_check(key, as_read);
        }
        let record = ServiceRecord {
            name: service.name.clone(),
            check: Json(service.check.clone()),
            thresholds: service.thresholds,
            owner: service.owner.clone(),
            lifecycle: service.lifecycle,
            first: service.first.clone().map(Json),
            created_at: service.created_at,
            resumed_at: service.resumed_at,
        };
        let mut new = to_item(&record)?;
        new.extend(key);
        new.insert("expires_at".to_owned(), number((now + PENDING_FOR).as_second()));
        self.put(new, as_read)
    }

    /// What a hand-off is used for. A registration may be carried out again under the same hand-off, until Forge has accepted
    /// it; a change may not.
    fn use_of(&self, reference: &HandoffRef, used: &HandoffUse) -> Result<TransactWriteItem, StoreError> {
        let again = if used.change.is_some() {
            ""
        } else {
            " OR (tenantId = :tenant AND serviceId = :service AND attribute_not_exists(#c))"
        };
        let mut condition = Condition::new(format!("attribute_not_exists(serviceId){again}"))
            .value(":tenant", text(used.tenant_id.clone()))
            .value(":service", text(used.service_id.clone()))
            .value(":expires", handoff_end(reference))
            .name("#c", "change");
        let mut assignments =
            "SET tenantId = :tenant, serviceId = :service, expires_at = :expires".to_owned();
        if let Some(change) = used.change {
            assignments.push_str(", #c = :change");
            condition = condition.value(":change", value(&change)?);
        }
        self.update_in(Self::key(handoff_pk(&reference.id), "HANDOFF"), &assignments, condition)
    }

    fn put(&self, item: Item, condition: Condition) -> Result<TransactWriteItem, StoreError> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(condition.text)
            .set_expression_attribute_names(condition.names)
            .set_expression_attribute_values(condition.values);
        Ok(TransactWriteItem::builder().put(put.build().map_err(refused)?).build())
    }

    /// An update of an item in a transaction; `condition` also has what `expression` names.
    fn update_in(
        &self,
        key: Item,
        expression: &str,
        condition: Condition,
    ) -> Result<TransactWriteItem, StoreError> {
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(key))
            .update_expression(expression)
            .condition_expression(condition.text)
            .set_expression_attribute_names(condition.names)
            .set_expression_attribute_values(condition.values);
        Ok(TransactWriteItem::builder().update(update.build().map_err(refused)?).build())
    }

    fn delete(&self, key: Item, condition: Condition) -> Result<TransactWriteItem, StoreError> {
        let delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(key))
            .condition_expression(condition.text)
            .set_expression_attribute_names(condition.names)
            .set_expression_attribute_values(condition.values);
        Ok(TransactWriteItem::builder().delete(delete.build().map_err(refused)?).build())
    }

    fn condition_check(&self, key: Item, condition: Condition) -> Result<TransactWriteItem, StoreError> {
        let check = ConditionCheck::builder()
            .table_name(&self.table)
            .set_key(Some(key))
            .condition_expression(condition.text)
            .set_expression_attribute_names(condition.names)
            .set_expression_attribute_values(condition.values);
        Ok(TransactWriteItem::builder().condition_check(check.build().map_err(refused)?).build())
    }
}

fn next_revision(found: u32) -> AttributeValue {
    number(i64::from(found) + 1)
}

/// When a write may be made, with the names and values of its expressions.
struct Condition {
    text: String,
    names: Option<HashMap<String, String>>,
    values: Option<Item>,
}

impl Condition {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), names: None, values: None }
    }

    fn name(mut self, placeholder: &str, name: &str) -> Self {
        self.names.get_or_insert_default().insert(placeholder.to_owned(), name.to_owned());
        self
    }

    fn value(mut self, placeholder: &str, value: AttributeValue) -> Self {
        self.values.get_or_insert_default().insert(placeholder.to_owned(), value);
        self
    }

    /// Nothing is there, or what has expired and DynamoDB has not deleted yet.
    fn absent(now: Timestamp) -> Self {
        Self::new("attribute_not_exists(pk) OR expires_at <= :now").value(":now", number(now.as_second()))
    }

    /// The tenant has the key, the status and the last registration that were read.
    fn tenant_as_read(tenant: &Tenant) -> Result<Self, StoreError> {
        let as_read = Self::new("publicKey = :key AND #s = :was")
            .name("#s", "status")
            .value(":key", text(encode(tenant.key.public.as_bytes())))
            .value(":was", value(&tenant.status)?);
        let Some(time) = tenant.registered_at else {
            return Ok(Self { text: as_read.text + " AND attribute_not_exists(registeredAt)", ..as_read });
        };
        let as_read = as_read.value(":registered", value(&time)?);
        Ok(Self { text: as_read.text + " AND registeredAt = :registered", ..as_read })
    }

    /// The service is the one that was read, and as active.
    fn service_as_read(service: &Service) -> Result<Self, StoreError> {
        // OWNER is a reserved word.
        Ok(Self::new("#o = :owner AND createdAt = :created AND activity = :was")
            .name("#o", "owner")
            .value(":owner", value(&service.owner)?)
            .value(":created", value(&service.created_at)?)
            .value(":was", value(&service.lifecycle)?))
    }
}

impl Registrations for DynamoStore {
    async fn find(&self, tenant: &TenantId, now: Timestamp) -> Result<Option<RegisteredTenant>, StoreError> {
        let mut partition = self.partition(tenant, true, now).await?;
        let Some((tenant, revision)) = partition.take_tenant()? else { return Ok(None) };
        let (state, _) = partition.take_state()?;
        let (services, unreadable) = partition.into_services();
        Ok(Some(RegisteredTenant { tenant, revision, services, unreadable, state }))
    }

    async fn handoff_use(
        &self,
        handoff: &HandoffId,
        now: Timestamp,
    ) -> Result<Option<HandoffUse>, StoreError> {
        let item = self.get(Self::key(handoff_pk(handoff), "HANDOFF"), true).await?;
        let Some(item) = item.filter(|item| !has_expired(item, now)) else { return Ok(None) };
        let HandoffRecord { tenant_id, service_id, change } = from_item(item)?;
        let ids = tenant_id.zip(service_id);
        Ok(ids.map(|(tenant_id, service_id)| HandoffUse { tenant_id, service_id, change }))
    }

    async fn count_attempt(&self, handoff: &HandoffRef) -> Result<WriteOutcome, StoreError> {
        let update = UpdateItemInput::builder()
            .set_key(Some(Self::key(handoff_pk(&handoff.id), "HANDOFF")))
            .update_expression("SET attempts = if_not_exists(attempts, :none) + :one, expires_at = :expires")
            .condition_expression("attribute_not_exists(attempts) OR attempts < :all")
            .expression_attribute_values(":none", number(0))
            .expression_attribute_values(":one", number(1))
            .expression_attribute_values(":all", number(ATTEMPTS_PER_HANDOFF.into()))
            .expression_attribute_values(":expires", handoff_end(handoff));
        Ok(match self.update(update).await? {
            WriteOutcome::Applied => WriteOutcome::Applied,
            WriteOutcome::Conflict => WriteOutcome::Conflict,
        })
    }

    async fn begin_registration(
        &self,
        registration: &PendingRegistration<'_>,
        now: Timestamp,
    ) -> Result<WriteOutcome, StoreError> {
        let used = HandoffUse {
            tenant_id: registration.tenant.id(),
            service_id: registration.service.id.clone(),
            change: None,
        };
        let writes = vec![
            self.pending_tenant(registration, now)?,
            self.pending_service(registration, now)?,
            self.use_of(registration.reference, &used)?,
        ];
        self.transact_as_read(writes).await
    }

    async fn activate(
        &self,
        tenant: &Tenant,
        service: &Service,
        others: &[ServiceId],
        now: Timestamp,
    ) -> Result<WriteOutcome, StoreError> {
        let id = tenant.id();
        let key = |sk: &str| Self::key(tenant_pk(&id), sk);
        // REGISTER has just named the key: one that took its place meanwhile is not the one that the app trusts.
        let as_read = Condition::tenant_as_read(tenant)?
            .value(":index", text(ACTIVE))
            .value(":id", text(id.clone()))
            .value(":status", value(&TenantStatus::Active)?)
            .value(":now", value(&now)?);
        let assignments =
            "SET active = :index, tenantId = :id, #s = :status, registeredAt = :now REMOVE expires_at";
        let mut writes = vec![self.update_in(key("TENANT"), assignments, as_read)?];

        // A pause since it was read stays one; what was removed stays away; another registration of the URL is another one.
        let mut as_read = Condition::service_as_read(service)?;
        let mut set = Vec::new();
        if service.lifecycle == Lifecycle::Pending {
            set.push("activity = :active");
            as_read = as_read.value(":active", value(&Lifecycle::Active)?);
        }
        if let Some(first) = &service.first {
            // FIRST is a reserved word; a first result is never replaced by a later one.
            set.push("#f = if_not_exists(#f, :first)");
            as_read = as_read.value(":first", value(&Json(first))?).name("#f", "first");
        }
        let set = if set.is_empty() { String::new() } else { format!("SET {} ", set.join(", ")) };
        let assignments = format!("{set}REMOVE expires_at");
        writes.push(self.update_in(key(&service_sk(&service.id)), &assignments, as_read)?);

        if tenant.status == TenantStatus::Suspended {
            // The app has just answered: the failures that led to the suspension are over.
            let there = Condition::new("attribute_exists(pk)");
            writes.push(self.update_in(key("STATE"), "REMOVE expires_at, failingSince, goneSince", there)?);
        }
        for other in others {
            // What was removed and registered again meanwhile is pending, and keeps its end.
            let accepted = Condition::new("attribute_exists(pk) AND activity <> :pending")
                .value(":pending", value(&Lifecycle::Pending)?);
            writes.push(self.update_in(key(&service_sk(other)), "REMOVE expires_at", accepted)?);
        }
        self.transact_as_read(writes).await
    }

    async fn apply_change(
        &self,
        ServiceChange { tenant_id, service_id, change, found, found_revision, reference }: &ServiceChange<'_>,
        now: Timestamp,
    ) -> Result<WriteOutcome, StoreError> {
        let used = HandoffUse {
            tenant_id: (*tenant_id).clone(),
            service_id: (*service_id).clone(),
            change: Some(*change),
        };
        let mut writes = vec![self.use_of(reference, &used)?];
        let key = Self::key(tenant_pk(tenant_id), &service_sk(service_id));
        let Some(found) = found else {
            writes.push(self.condition_check(key, Condition::absent(now))?);
            return self.transact_as_read(writes).await;
        };
        let as_read = Condition::service_as_read(found)?;
        let (activity, set) = match change {
            Change::Remove => {
                writes.push(self.delete(key, as_read)?);
                let same_revision = Condition::new("revision = :found")
                    .value(":found", number((*found_revision).into()))
                    .value(":next", next_revision(*found_revision));
                let tenant = Self::key(tenant_pk(tenant_id), "TENANT");
                writes.push(self.update_in(tenant, "SET revision = :next", same_revision)?);
                return self.transact_as_read(writes).await;
            }
            Change::Pause => (Lifecycle::Paused, "SET activity = :activity"),
            Change::Resume => (Lifecycle::Active, "SET activity = :activity, resumedAt = :now"),
        };
        let mut as_read = as_read.value(":activity", value(&activity)?);
        if *change == Change::Resume {
            as_read = as_read.value(":now", value(&now)?);
        }
        writes.push(self.update_in(key, set, as_read)?);
        self.transact_as_read(writes).await
    }
}

impl DynamoStore {
    /// What the index lists in a range, ascending.
    async fn listed(&self, range: &TenantRange) -> Result<Vec<TenantId>, StoreError> {
        // Both ends in one BETWEEN, which includes both; the excluded one is skipped below.
        let low = range.after.as_ref().map_or("", TenantId::as_str);
        let high = range.through.as_ref().map_or("~", TenantId::as_str);
        let mut query =
            QueryInput::builder().index_name("active").expression_attribute_values(":active", text(ACTIVE));
        query = match (range.after.is_some(), range.through.is_some()) {
            (false, false) => query.key_condition_expression("active = :active"),
            (false, true) => query
                .key_condition_expression("active = :active AND tenantId <= :high")
                .expression_attribute_values(":high", text(high)),
            (true, _) => query
                .key_condition_expression("active = :active AND tenantId BETWEEN :low AND :high")
                .expression_attribute_values(":low", text(low))
                .expression_attribute_values(":high", text(high)),
        };
        let mut ids = Vec::new();
        for item in self.query(query).await? {
            let id =
                item.get("tenantId").and_then(|id| id.as_s().ok()).map(String::as_str).unwrap_or_default();
            match TenantId::parse(id) {
                Ok(id) if Some(&id) != range.after.as_ref() => ids.push(id),
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "an index entry names no tenant and is passed over");
                }
            }
        }
        Ok(ids)
    }

    /// An update of an existing TENANT under a condition.
    async fn update_tenant(
        &self,
        tenant: &TenantId,
        expression: &str,
        condition: &str,
        values: Item,
    ) -> Result<WriteOutcome, StoreError> {
        let update = UpdateItemInput::builder()
            .set_key(Some(Self::key(tenant_pk(tenant), "TENANT")))
            .update_expression(expression)
            .condition_expression(condition)
            .set_expression_attribute_values(Some(values));
        self.update(update).await
    }
}

impl Checks for DynamoStore {
    async fn active(&self, range: &TenantRange) -> Result<Vec<TenantId>, StoreError> {
        self.listed(range).await
    }

    async fn load(&self, tenant: &TenantId, now: Timestamp) -> Result<Option<TenantSnapshot>, StoreError> {
        let mut partition = self.partition(tenant, false, now).await?;
        let Some((tenant, _)) = partition.take_tenant()? else { return Ok(None) };
        let (state, failures) = partition.take_state()?;
        let (mut services, unreadable) = partition.into_services();
        services.retain(|service| service.lifecycle != Lifecycle::Pending);
        // An app whose last service was removed gets an empty report, until it has acknowledged one.
        let acknowledged = state.last_tick.filter(|last| state.acked_tick == Some(*last));
        let knows = acknowledged.is_some_and(|tick| !tenant.is_registered_since(tick));
        // A next key is offered nevertheless, or a leaked key would be trusted for ever.
        let offers_key = tenant.next_key.as_ref().is_some_and(|next| next.refused_at.is_none());
        let is_empty = services.is_empty() && unreadable.is_empty() && state.services.is_empty();
        if is_empty && knows && !offers_key {
            return Ok(None);
        }
        Ok(Some(TenantSnapshot { tenant, services, unreadable, state, failures }))
    }

    async fn commit(
        &self,
        tenant: &TenantId,
        found: Option<Tick>,
        state: &State,
    ) -> Result<WriteOutcome, StoreError> {
        let set = "SET lastTick = :tick, services = :services, transitions = :transitions, \
                   transitionsDropped = :dropped";
        // Only what a commit owns: the acknowledgement and the delivery record may have been written since the read,
        // which is eventually consistent, and must survive.
        let entries: BTreeMap<&ServiceId, StateEntry> =
            state.services.iter().map(|(id, status)| (id, StateEntry::from(*status))).collect();
        let update = UpdateItemInput::builder()
            .set_key(Some(Self::key(tenant_pk(tenant), "STATE")))
            .expression_attribute_values(":tick", value(&state.last_tick)?)
            .expression_attribute_values(":services", value(&entries)?)
            .expression_attribute_values(":transitions", value(&state.transitions)?)
            .expression_attribute_values(":dropped", value(&state.transitions_dropped)?);
        // A suspended tenant's one tick a day is no sign of life: there the expiry stays.
        let remove =
            if found.is_none() { " REMOVE expires_at, ackedTick, failingSince, goneSince" } else { "" };
        let update = update.update_expression(format!("{set}{remove}"));
        let update = match found {
            // Only a STATE that has expired, and that DynamoDB has not deleted yet, is passed over when read.
            None => {
                update.condition_expression("attribute_not_exists(lastTick) OR attribute_exists(expires_at)")
            }
            Some(found) => update
                .condition_expression("lastTick = :found")
                .expression_attribute_values(":found", value(&found)?),
        };
        self.update(update).await
    }

    async fn acknowledge(&self, tenant: &TenantId, tick: Tick) -> Result<(), StoreError> {
        let values = HashMap::from([(":tick".to_owned(), value(&tick)?)]);
        let forward = " AND (attribute_not_exists(ackedTick) OR ackedTick < :tick)";
        let expression = "SET ackedTick = :tick REMOVE failingSince, goneSince";
        self.update_state(tenant, expression, forward, values).await
    }

    async fn record_failures(
        &self,
        tenant: &TenantId,
        found: FailureStreak,
        failures: FailureStreak,
    ) -> Result<(), StoreError> {
        let mut values = Item::new();
        let (mut set, mut remove) = (Vec::new(), Vec::new());
        let mut condition = String::new();
        for (name, found, time) in [
            ("failingSince", found.failing_since, failures.failing_since),
            ("goneSince", found.gone_since, failures.gone_since),
        ] {
            condition = condition + " AND " + &is_as_read(name, &value(&found)?, &mut values);
            if let Some(time) = time {
                set.push(format!("{name} = :{name}"));
                values.insert(format!(":{name}"), value(&time)?);
            } else {
                remove.push(name);
            }
        }
        let set = if set.is_empty() { String::new() } else { format!("SET {} ", set.join(", ")) };
        let remove = if remove.is_empty() { String::new() } else { format!("REMOVE {}", remove.join(", ")) };
        self.update_state(tenant, format!("{set}{remove}").trim_end(), &condition, values).await
    }

    async fn mark(&self, tenant: &Tenant, status: TenantStatus) -> Result<WriteOutcome, StoreError> {
        let as_read = Condition::tenant_as_read(tenant)?.value(":status", value(&status)?);
        let update = UpdateItemInput::builder()
            .set_key(Some(Self::key(tenant_pk(&tenant.id()), "TENANT")))
            .update_expression("SET #s = :status")
            .condition_expression(as_read.text)
            .set_expression_attribute_names(as_read.names)
            .set_expression_attribute_values(as_read.values);
        self.update(update).await
    }

    async fn suspend(
        &self,
        tenant: &Tenant,
        services: &[ServiceId],
        expires_at: Option<Timestamp>,
    ) -> Result<WriteOutcome, StoreError> {
        let id = tenant.id();
        let status = if expires_at.is_some() { TenantStatus::Suspended } else { TenantStatus::Active };
        let service_keys = services.iter().map(service_sk);
        let mut writes = Vec::new();
        for sk in ["TENANT".to_owned(), "STATE".to_owned()].into_iter().chain(service_keys) {
            let is_tenant = sk == "TENANT";
            let mut as_read = if is_tenant {
                Condition::tenant_as_read(tenant)?.value(":status", value(&status)?)
            } else if sk == "STATE" {
                Condition::new("attribute_exists(pk)")
            } else {
                // One that was removed and added again meanwhile has an end of its own.
                Condition::new("attribute_exists(pk) AND activity <> :pending")
                    .value(":pending", value(&Lifecycle::Pending)?)
            };
            if let Some(time) = expires_at {
                as_read = as_read.value(":expires", number(time.as_second()));
            }
            let mut set: Vec<_> = expires_at.map(|_| "expires_at = :expires").into_iter().collect();
            set.extend(is_tenant.then_some("#s = :status"));
            let set = if set.is_empty() { String::new() } else { format!("SET {}", set.join(", ")) };
            let remove = if expires_at.is_some() { "" } else { " REMOVE expires_at" };
            let update = Update::builder()
                .table_name(&self.table)
                .set_key(Some(Self::key(tenant_pk(&id), &sk)))
                .update_expression(format!("{set}{remove}").trim_start())
                .condition_expression(as_read.text)
                .set_expression_attribute_names(as_read.names)
                .set_expression_attribute_values(as_read.values);
            writes.push(TransactWriteItem::builder().update(update.build().map_err(refused)?).build());
        }
        Ok(self.transact(writes).await?.map_or(WriteOutcome::Conflict, |()| WriteOutcome::Applied))
    }

    async fn record_next_key_response(
        &self,
        tenant: &TenantId,
        found: &NextKey,
        next: &NextKey,
    ) -> Result<(), StoreError> {
        let mut values = HashMap::from([
            (":accepted".to_owned(), value(&next.is_accepted)?),
            (":refused".to_owned(), value(&next.refused_at)?),
        ]);
        let expression = "SET nextKey.accepted = :accepted, nextKey.refusedAt = :refused";
        let condition = next_key_as_read(found, &mut values)?;
        self.update_tenant(tenant, expression, &condition, values).await.map(drop)
    }

    async fn promote_next_key(&self, tenant: &Tenant, next: &NextKey) -> Result<WriteOutcome, StoreError> {
        let mut values = HashMap::from([
            (":present".to_owned(), text(encode(tenant.key.public.as_bytes()))),
            (":next".to_owned(), text(encode(next.key.public.as_bytes()))),
            (":wrapped".to_owned(), text(encode(next.key.wrapped.as_bytes()))),
            (":made".to_owned(), value(&next.key.made_at)?),
            (":accepted".to_owned(), value(&next.is_accepted)?),
        ]);
        let expression = "SET publicKey = :next, wrappedKey = :wrapped, keyMadeAt = :made REMOVE nextKey";
        // A registration since then may have given the app the present key again: the next tick sees which one it trusts.
        let unchanged = is_as_read("registeredAt", &value(&tenant.registered_at)?, &mut values);
        let condition = format!(
            "publicKey = :present AND nextKey.publicKey = :next AND nextKey.accepted = :accepted AND {unchanged}"
        );
        self.update_tenant(&tenant.id(), expression, &condition, values).await
    }
}

/// The condition that a tenant's next key is still what was read.
fn next_key_as_read(
    found: &NextKey,
    values: &mut HashMap<String, AttributeValue>,
) -> Result<String, StoreError> {
    values.extend([
        (":wasNext".to_owned(), text(encode(found.key.public.as_bytes()))),
        (":wasAccepted".to_owned(), value(&found.is_accepted)?),
        (":wasRefused".to_owned(), value(&found.refused_at)?),
        (":wasUntil".to_owned(), value(&found.endorsed_until)?),
    ]);
    Ok("nextKey.publicKey = :wasNext AND nextKey.accepted = :wasAccepted AND \
        nextKey.refusedAt = :wasRefused AND nextKey.introducedUntil = :wasUntil"
        .to_owned())
}

/// The unexpired items of one tenant, by sort key.
struct Partition {
    tenant: TenantId,
    items: HashMap<String, Item>,
}

// Each item is read once, so it is taken out: what the attributes hold need not be copied.
impl Partition {
    fn take_tenant(&mut self) -> Result<Option<(Tenant, u32)>, StoreError> {
        let Some(item) = self.items.remove("TENANT") else { return Ok(None) };
        let record: TenantRecord = from_item(item)?;
        let key_made_at = record.key_made_at.unwrap_or(record.created_at);
        let tenant = Tenant {
            cloud_id: record.cloud_id,
            trigger_url: record.trigger_url,
            key: tenant_key(&record.public_key, &record.wrapped_key, key_made_at)?,
            next_key: record.next_key.map(NextKey::try_from).transpose()?,
            status: record.status,
            created_at: record.created_at,
            registered_at: record.registered_at,
        };
        if tenant.id() == self.tenant {
            Ok(Some((tenant, record.revision)))
        } else {
            Err(StoreError::Corrupt("the tenant's id does not follow from its site and trigger".into()))
        }
    }

    /// The services, and the ids of those whose records cannot be read: one bad record must not hide the others.
    fn into_services(self) -> (Vec<Service>, Vec<ServiceId>) {
        let (mut services, mut unreadable) = (Vec::new(), Vec::new());
        for (sk, item) in self.items {
            let Some(id) = sk.strip_prefix("SERVICE#") else { continue };
            match service(&self.tenant, id, item) {
                Ok(service) => services.push(service),
                Err(error) => {
                    tracing::error!(tenant.id = %self.tenant, service.id = id, %error, "a service's record cannot be read; the service is skipped");
                    unreadable.extend(ServiceId::parse(id).ok());
                }
            }
        }
        services.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        unreadable.sort();
        (services, unreadable)
    }

    fn take_state(&mut self) -> Result<(State, FailureStreak), StoreError> {
        let Some(item) = self.items.remove("STATE") else { return Ok(Default::default()) };
        let record: StateRecord = from_item(item)?;
        let mut services = BTreeMap::new();
        for (id, entry) in record.services {
            services.insert(id, entry.try_into()?);
        }
        let state = State {
            last_tick: record.last_tick,
            acked_tick: record.acked_tick,
            services,
            transitions: record.transitions,
            transitions_dropped: record.transitions_dropped,
        };
        Ok((state, FailureStreak { failing_since: record.failing_since, gone_since: record.gone_since }))
    }
}

impl From<&NextKey> for NextKeyRecord {
    fn from(next: &NextKey) -> Self {
        Self {
            public_key: encode(next.key.public.as_bytes()),
            wrapped_key: encode(next.key.wrapped.as_bytes()),
            made_at: next.key.made_at,
            endorsement: next.endorsement.as_str().to_owned(),
            endorsed_until: next.endorsed_until,
            accepted: next.is_accepted,
            refused_at: next.refused_at,
        }
    }
}

impl TryFrom<NextKeyRecord> for NextKey {
    type Error = StoreError;
    fn try_from(record: NextKeyRecord) -> Result<Self, StoreError> {
        Ok(Self {
            key: tenant_key(&record.public_key, &record.wrapped_key, record.made_at)?,
            endorsement: KeyEndorsement::new(record.endorsement),
            endorsed_until: record.endorsed_until,
            is_accepted: record.accepted,
            refused_at: record.refused_at,
        })
    }
}

fn tenant_key(public: &str, wrapped: &str, made_at: Timestamp) -> Result<TenantKey, StoreError> {
    let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).map_err(corrupt_record);
    let public: [u8; 32] =
        decode(public)?.try_into().map_err(|_| StoreError::Corrupt("public key".into()))?;
    let public = PublicKey::from_bytes(&public).map_err(corrupt_record)?;
    Ok(TenantKey { public, wrapped: WrappedKey::new(decode(wrapped)?), made_at })
}

/// A service from its record, if the record is what its key says.
fn service(tenant: &TenantId, id: &str, item: Item) -> Result<Service, StoreError> {
    let record: ServiceRecord = from_item(item)?;
    let service = Service {
        id: ServiceId::derive(tenant, record.check.0.url.as_str()),
        name: record.name,
        check: record.check.0,
        thresholds: record.thresholds,
        owner: record.owner,
        lifecycle: record.lifecycle,
        first: record.first.map(|first| first.0),
        created_at: record.created_at,
        resumed_at: record.resumed_at,
    };
    if service.id.as_str() == id {
        Ok(service)
    } else {
        Err(StoreError::Corrupt("a service's id does not follow from its URL".into()))
    }
}

impl From<ServiceStatus> for StateEntry {
    fn from(status: ServiceStatus) -> Self {
        let s = match status.status {
            Status::Alive => 'A',
            Status::Down => 'D',
            Status::Paused => 'P',
            Status::Unknown => 'U',
        };
        Self {
            s,
            t: status.since.as_second(),
            c: status.created_at.as_second(),
            h: (status.history != History::default()).then(|| status.history.bits()),
            d: (status.suppressed > 0).then_some(status.suppressed),
            u: (status.unseen > 0).then_some(status.unseen),
            f: status.unconfirmed_at.map(Tick::as_second),
        }
    }
}

impl TryFrom<StateEntry> for ServiceStatus {
    type Error = StoreError;
    fn try_from(entry: StateEntry) -> Result<Self, StoreError> {
        let status = match entry.s {
            'A' => Status::Alive,
            'D' => Status::Down,
            'P' => Status::Paused,
            'U' => Status::Unknown,
            other => return Err(StoreError::Corrupt(format!("status {other:?}"))),
        };
        let time = |seconds| Timestamp::from_second(seconds).map_err(corrupt_record);
        Ok(Self {
            status,
            since: time(entry.t)?,
            created_at: time(entry.c)?,
            history: History::from_bits(entry.h.unwrap_or_default()),
            suppressed: entry.d.unwrap_or_default(),
            unseen: entry.u.unwrap_or_default(),
            unconfirmed_at: entry.f.map(time).transpose()?.map(Tick::from_start),
        })
    }
}

/// A condition that the attribute is what was read, an absent one included (`NULL`).
fn is_as_read(name: &str, read: &AttributeValue, values: &mut Item) -> String {
    if read.is_null() {
        return format!("attribute_not_exists({name})");
    }
    values.insert(format!(":read_{name}"), read.clone());
    format!("{name} = :read_{name}")
}

fn tenant_pk(tenant: &TenantId) -> String {
    format!("TENANT#{tenant}")
}

fn service_sk(service: &ServiceId) -> String {
    format!("SERVICE#{service}")
}

fn handoff_pk(handoff: &HandoffId) -> String {
    format!("HANDOFF#{handoff}")
}

/// After it a hand-off is refused, whatever it was used for.
fn handoff_end(handoff: &HandoffRef) -> AttributeValue {
    number((handoff.expires_at + RESUME_FOR).as_second())
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn encode(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn value(value: &impl Serialize) -> Result<AttributeValue, StoreError> {
    serde_dynamo::to_attribute_value(value).map_err(corrupt_record)
}

fn to_item(record: &impl Serialize) -> Result<Item, StoreError> {
    serde_dynamo::to_item(record).map_err(corrupt_record)
}

fn from_item<T: DeserializeOwned>(item: Item) -> Result<T, StoreError> {
    serde_dynamo::from_item(item).map_err(corrupt_record)
}

fn has_expired(item: &Item, now: Timestamp) -> bool {
    let expires_at = item.get("expires_at").and_then(|value| value.as_n().ok());
    expires_at
        .and_then(|text| text.parse::<i64>().ok())
        .is_some_and(|expires_at| expires_at <= now.as_second())
}

fn corrupt_record(error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(error.to_string())
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
