//! The items as they are stored, and what is made of them.
//!
//! Every record is checked against its key when read: a tenant's id is derived again from what the record says. The names of
//! stored attributes stay, whatever our own are.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Item, StoreError};
use domain::check::{Check, Observation};
use domain::id::{CloudId, HandoffId, Owner, ServiceId, TenantId};
use domain::key::{PublicKey, TenantKey, WrappedKey};
use domain::service::{Change, Lifecycle, Service, ServiceName, Thresholds};
use domain::snapshot::FailureStreak;
use domain::status::{History, ServiceStatus, State, Status, Transition};
use domain::tenant::{Delivery, KeyEndorsement, NextKey, Tenant, TenantStatus, TriggerUrl, WebTrigger};
use domain::tick::Tick;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TenantRecord {
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
pub(super) struct NextKeyRecord {
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
pub(super) struct ServiceRecord {
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
pub(super) struct Json<T>(pub(super) T);

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
pub(super) struct StateEntry {
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
pub(super) struct StateRecord {
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
pub(super) struct HandoffRecord {
    /// Absent as long as it was tried and has led to nothing, as is the service.
    #[serde(default)]
    pub(super) tenant_id: Option<TenantId>,
    #[serde(default)]
    pub(super) service_id: Option<ServiceId>,
    /// Absent for a registration.
    #[serde(default)]
    pub(super) change: Option<Change>,
}

impl TenantRecord {
    /// A new tenant, which Forge has not accepted.
    pub(super) fn pending(tenant: &Tenant) -> Self {
        Self {
            cloud_id: tenant.cloud_id.clone(),
            trigger_url: tenant.web_trigger().url.clone(),
            public_key: encode(tenant.web_trigger().key.public.as_bytes()),
            wrapped_key: encode(tenant.web_trigger().key.wrapped.as_bytes()),
            status: TenantStatus::Pending,
            revision: 1,
            created_at: tenant.created_at,
            registered_at: None,
            key_made_at: None,
            next_key: None,
        }
    }
}

impl From<&Service> for ServiceRecord {
    fn from(service: &Service) -> Self {
        Self {
            name: service.name.clone(),
            check: Json(service.check.clone()),
            thresholds: service.thresholds,
            owner: service.owner.clone(),
            lifecycle: service.lifecycle,
            first: service.first.clone().map(Json),
            created_at: service.created_at,
            resumed_at: service.resumed_at,
        }
    }
}

/// The unexpired items of one tenant, by sort key.
pub(super) struct Partition {
    pub(super) tenant: TenantId,
    pub(super) items: HashMap<String, Item>,
}

// Each item is read once, so it is taken out: what the attributes hold need not be copied.
impl Partition {
    pub(super) fn take_tenant(&mut self) -> Result<Option<(Tenant, u32)>, StoreError> {
        let Some(item) = self.items.remove("TENANT") else { return Ok(None) };
        let record: TenantRecord = from_item(item)?;
        let key_made_at = record.key_made_at.unwrap_or(record.created_at);
        let tenant = Tenant {
            cloud_id: record.cloud_id,
            delivery: Delivery::WebTrigger(WebTrigger {
                url: record.trigger_url,
                key: read_key(&record.public_key, &record.wrapped_key, key_made_at)?,
                next_key: record.next_key.map(NextKey::try_from).transpose()?,
            }),
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
    pub(super) fn into_services(self) -> (Vec<Service>, Vec<ServiceId>) {
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

    pub(super) fn take_state(&mut self) -> Result<(State, FailureStreak), StoreError> {
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
            key: read_key(&record.public_key, &record.wrapped_key, record.made_at)?,
            endorsement: KeyEndorsement::new(record.endorsement),
            endorsed_until: record.endorsed_until,
            is_accepted: record.accepted,
            refused_at: record.refused_at,
        })
    }
}

fn read_key(public: &str, wrapped: &str, made_at: Timestamp) -> Result<TenantKey, StoreError> {
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

pub(super) fn tenant_key(tenant: &TenantId) -> Item {
    key(format!("TENANT#{tenant}"), "TENANT")
}

pub(super) fn state_key(tenant: &TenantId) -> Item {
    key(format!("TENANT#{tenant}"), "STATE")
}

pub(super) fn service_key(tenant: &TenantId, service: &ServiceId) -> Item {
    key(format!("TENANT#{tenant}"), &format!("SERVICE#{service}"))
}

pub(super) fn handoff_key(handoff: &HandoffId) -> Item {
    key(format!("HANDOFF#{handoff}"), "HANDOFF")
}

fn key(pk: String, sk: &str) -> Item {
    HashMap::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
}

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

pub(super) fn number(value: i64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn value(value: &impl Serialize) -> Result<AttributeValue, StoreError> {
    serde_dynamo::to_attribute_value(value).map_err(corrupt_record)
}

pub(super) fn to_item(record: &impl Serialize) -> Result<Item, StoreError> {
    serde_dynamo::to_item(record).map_err(corrupt_record)
}

pub(super) fn from_item<T: DeserializeOwned>(item: Item) -> Result<T, StoreError> {
    serde_dynamo::from_item(item).map_err(corrupt_record)
}

pub(super) fn has_expired(item: &Item, now: Timestamp) -> bool {
    let expires_at = item.get("expires_at").and_then(|value| value.as_n().ok());
    expires_at
        .and_then(|text| text.parse::<i64>().ok())
        .is_some_and(|expires_at| expires_at <= now.as_second())
}

fn corrupt_record(error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(error.to_string())
}
