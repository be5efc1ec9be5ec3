//! The bodies of the two callbacks, exactly as they go over the wire.

use jiff::Timestamp;
use serde::Serialize;

use crate::check::Observation;
use crate::id::{CloudId, Owner, ServiceId, TenantId};
use crate::key::Jwk;
use crate::service::ServiceName;
use crate::status::{Status, Transition};
use crate::tick::Tick;

/// The version of the wire contract.
pub const VERSION: u8 = 1;

/// `REGISTER`: endorses the tenant's key and one added service. Signed by the deployment key.
#[derive(Debug, Serialize)]
#[serde(tag = "action", rename = "REGISTER", rename_all = "camelCase")]
pub struct Register<'a> {
    /// [`VERSION`].
    pub version: u8,
    /// The site.
    pub cloud_id: &'a CloudId,
    /// The tenant.
    pub tenant_id: &'a TenantId,
    /// When the body was made.
    pub sent_at: Timestamp,
    /// How often an update follows, in seconds.
    pub period_s: i64,
    /// The tenant's public key.
    pub jwk: Jwk,
    /// The Forge app's own hand-off as received.
    pub handoff: &'a str,
    /// The added service.
    pub service: RegisteredService<'a>,
}

/// The service of a [`Register`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredService<'a> {
    /// Its id.
    pub id: &'a ServiceId,
    /// Its name.
    pub name: &'a ServiceName,
    /// Its URL.
    pub url: &'a str,
    /// Who asks for it now.
    pub owner: &'a Owner,
    /// Who added it first, and may therefore change it.
    pub added_by: &'a Owner,
    /// Its status so far.
    pub status: Status,
    /// The first check, if it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<&'a Observation>,
}

/// `UPDATE`: a tenant's whole state at one tick. Signed by the tenant's key.
#[derive(Debug, Serialize)]
#[serde(tag = "action", rename = "UPDATE", rename_all = "camelCase")]
pub struct Update<'a> {
    /// [`VERSION`].
    pub version: u8,
    /// The site.
    pub cloud_id: &'a CloudId,
    /// The tenant.
    pub tenant_id: &'a TenantId,
    /// When the body was made.
    pub sent_at: Timestamp,
    /// The sequence number.
    pub tick: Tick,
    /// How many ticks before this one did not check the tenant; absent when the last one did.
    #[serde(skip_serializing_if = "is_zero")]
    pub missed_ticks: u32,
    /// When the next update is due at the latest.
    pub next_update_by: Timestamp,
    /// The period of the schedule, in seconds.
    pub period_s: i64,
    /// Every service: one that is absent is gone.
    pub services: Vec<UpdatedService<'a>>,
    /// Transitions not yet acknowledged, oldest first.
    pub transitions: &'a [Transition],
    /// How many older transitions were not kept.
    pub transitions_dropped: u32,
    /// What the deployment key says of the tenant's next key (`endorsement`), while there is one.
    #[serde(rename = "keyIntroduction", skip_serializing_if = "Option::is_none")]
    pub key_endorsement: Option<&'a str>,
}

/// A service in an [`Update`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdatedService<'a> {
    /// Its id.
    pub id: &'a ServiceId,
    /// Its name.
    pub name: &'a ServiceName,
    /// Its URL.
    pub url: &'a str,
    /// Who added it.
    pub added_by: &'a Owner,
    /// Its status.
    pub status: Status,
    /// When the status began.
    pub since: Timestamp,
    /// This tick's check, if one was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<&'a Observation>,
    /// The check failed while our own network was down: `status` is the last verdict. Absent otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// How many ticks in a row brought no verdict on it; absent for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen_ticks: Option<u8>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
