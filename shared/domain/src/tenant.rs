//! A tenant: one installation of the Forge app, named by its site and its web trigger.
//!
//! Not here: anything about a tenant's services (see `service`) or what was observed (see `status`).

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::id::{CloudId, Kid, TenantId, is_uuid};
use crate::key::{KeyContext, TenantKey};
use crate::tick::Tick;

/// A registration is stored a moment after its time is taken; a tick that begins in between has not seen it. The Forge app
/// shows a registered service until a report of a tick that is later by as much does not list it.
const REGISTRATION_LAG: SignedDuration = SignedDuration::from_secs(60);

/// The URL of a Forge web trigger in one of the documented shapes, byte for byte as the app names it.
///
/// Never logged: anyone who knows it can send the app unsigned noise.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TriggerUrl(String);

/// The trigger is not of an allow-listed shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the URL of a Forge web trigger")]
pub struct TriggerUrlError;

/// Which URLs callbacks may go to.
#[derive(Debug, Clone, Default)]
pub struct TriggerPolicy {
    /// Further exact host names (deploy parameter `TriggerHosts`), https only.
    pub hosts: Vec<String>,
    /// Whether `http://127.0.0.1:<port>` is a trigger too (the local stack only).
    pub allow_loopback: bool,
}

/// Hosts of Atlassian's web triggers, `<uuid>.<suffix>`, and the path each uses.
const FORGE_TRIGGERS: [(&str, &str); 2] =
    [(".hello.atlassian-dev.net", "/x1/"), (".webtrigger.atlassian.app", "/public/")];

impl TriggerPolicy {
    /// Accepts a trigger of an allow-listed shape: no query, fragment, user, port, escape, suffix or trailing slash.
    pub fn parse(&self, text: &str) -> Result<TriggerUrl, TriggerUrlError> {
        let listed = text.strip_prefix("https://").is_some_and(|rest| self.lists(rest))
            || self.allow_loopback && text.strip_prefix("http://127.0.0.1:").is_some_and(is_loopback_trigger);
        listed.then(|| TriggerUrl(text.to_owned())).ok_or(TriggerUrlError)
    }

    fn lists(&self, rest: &str) -> bool {
        let Some(slash) = rest.find('/') else { return false };
        let (host, path) = rest.split_at(slash);
        FORGE_TRIGGERS.iter().any(|(suffix, prefix)| {
            host.strip_suffix(suffix).is_some_and(is_uuid)
                && path.strip_prefix(prefix).is_some_and(is_trigger_id)
        }) || self.hosts.iter().any(|listed| listed == host) && is_trigger_path(path)
    }

    /// Host suffixes that belong to triggers: no probe ever goes there.
    #[must_use]
    pub fn host_suffixes(&self) -> Vec<String> {
        let forge = FORGE_TRIGGERS.iter().map(|(suffix, _)| suffix.trim_start_matches('.').to_owned());
        forge.chain(self.hosts.iter().cloned()).collect()
    }
}

fn is_loopback_trigger(rest: &str) -> bool {
    let Some((port, _)) = rest.split_once('/') else { return false };
    port.bytes().all(|b| b.is_ascii_digit())
        && !port.starts_with('0')
        && port.parse::<u16>().is_ok()
        && is_trigger_path(&rest[port.len()..])
}

fn is_trigger_path(path: &str) -> bool {
    FORGE_TRIGGERS.iter().any(|(_, prefix)| path.strip_prefix(prefix).is_some_and(is_trigger_id))
}

fn is_trigger_id(id: &str) -> bool {
    (1..=256).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

impl TriggerUrl {
    /// The URL itself, for the one request that goes there.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TriggerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TriggerUrl(..)")
    }
}

/// How a tenant's callbacks fare, as far as it changes what is done for the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantStatus {
    /// Registered, not yet accepted by Forge: not checked, forgotten after 24 h.
    Pending,
    /// Checked at every tick.
    Active,
    /// Forge answered that it holds no key of ours: checked, but a person must register again.
    Unregistered,
    /// Nobody has answered for long: one UPDATE a day instead of checks, forgotten after 30 days.
    Suspended,
}

/// How a tenant's app gets what this backend has to say. The tenant's id follows from it. One way so far: Forge's own storage
/// comes with Forge Remote, whose tenants have no trigger and no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Signed callbacks to the app's web trigger.
    WebTrigger(WebTrigger),
}

/// A web trigger, and the keys that sign what is sent there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebTrigger {
    pub url: TriggerUrl,
    /// Signs UPDATE.
    pub key: TenantKey,
    /// The key that follows it, until the app has accepted it twice.
    pub next_key: Option<NextKey>,
}

impl WebTrigger {
    /// One whose key has no successor.
    pub fn new(url: TriggerUrl, key: TenantKey) -> Self {
        Self { url, key, next_key: None }
    }
}

/// What is stored of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// The Atlassian site.
    pub cloud_id: CloudId,
    /// How its app gets reports.
    pub delivery: Delivery,
    pub status: TenantStatus,
    /// When the tenant was first seen.
    pub created_at: Timestamp,
    /// When Forge last accepted a registration; `None` before the first.
    pub registered_at: Option<Timestamp>,
}

/// What the deployment key says of a next key to the app, a compact JWS (`key_endorsement::endorse_key`). Never logged, as no
/// token is.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyEndorsement(String);

impl KeyEndorsement {
    /// Takes the token.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The token, for the update that carries it and for the store.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyEndorsement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyEndorsement(..)")
    }
}

/// The key that follows a tenant's present one, from when it is made until the app has twice accepted an UPDATE under it.
/// It is never replaced by another: the app may trust it already, and its answer be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextKey {
    /// The key pair.
    pub key: TenantKey,
    /// Its endorsement.
    pub endorsement: KeyEndorsement,
    /// When the endorsement ends.
    pub endorsed_until: Timestamp,
    /// Whether the app has accepted an UPDATE under it.
    pub is_accepted: bool,
    /// The first tick, since it was last endorsed, at which the app refused it, or it was unusable, and the app accepted
    /// the present key in its place.
    pub refused_at: Option<Timestamp>,
}

impl Tenant {
    /// Derived, never stored as the truth: a record that was moved to another key does not match.
    #[must_use]
    pub fn id(&self) -> TenantId {
        TenantId::derive(&self.cloud_id, self.web_trigger().url.as_str())
    }

    /// Whether Forge has accepted a registration that the report of `tick` may not know of.
    #[must_use]
    pub fn is_registered_since(&self, tick: Tick) -> bool {
        self.registered_at.is_some_and(|at| at + REGISTRATION_LAG >= tick.start())
    }

    /// Names the tenant's key in its callbacks.
    #[must_use]
    pub fn kid(&self) -> Kid {
        self.web_trigger().key.public.kid()
    }

    pub fn web_trigger(&self) -> &WebTrigger {
        let Delivery::WebTrigger(web_trigger) = &self.delivery;
        web_trigger
    }

    pub fn web_trigger_mut(&mut self) -> &mut WebTrigger {
        let Delivery::WebTrigger(web_trigger) = &mut self.delivery;
        web_trigger
    }

    /// What KMS binds the wrapped key to.
    #[must_use]
    pub fn key_context(&self) -> KeyContext {
        KeyContext { cloud_id: self.cloud_id.clone(), tenant_id: self.id() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "99999999-8888-4777-8666-555555555555";

    #[test]
    fn the_documented_shapes_are_triggers() {
        let rule = TriggerPolicy::default();
        for url in [
            format!("https://{UUID}.hello.atlassian-dev.net/x1/abcDEF_-123"),
            format!("https://{UUID}.webtrigger.atlassian.app/public/abc"),
        ] {
            assert_eq!(rule.parse(&url).map(|t| t.0), Ok(url));
        }
    }

    #[test]
    fn nothing_else_is_a_trigger() {
        let rule = TriggerPolicy { hosts: vec!["triggers.example".into()], allow_loopback: false };
        for url in [
            "",
            "https://",
            "https://evil.example/x1/abc",
            &format!("http://{UUID}.hello.atlassian-dev.net/x1/abc"),
            &format!("https://{UUID}.hello.atlassian-dev.net"),
            &format!("https://{UUID}.hello.atlassian-dev.net/x1/"),
            &format!("https://{UUID}.hello.atlassian-dev.net/x1/abc/"),
            &format!("https://{UUID}.hello.atlassian-dev.net/x1/abc?x=1"),
            &format!("https://{UUID}.hello.atlassian-dev.net/x1/abc#x"),
            &format!("https://{UUID}.hello.atlassian-dev.net/x1/a%62c"),
            &format!("https://{UUID}.hello.atlassian-dev.net/x1/../x1/abc"),
            &format!("https://{UUID}.hello.atlassian-dev.net:443/x1/abc"),
            &format!("https://{UUID}.hello.atlassian-dev.net./x1/abc"),
            &format!("https://{UUID}.hello.atlassian-dev.net/public/abc"),
            &format!("https://{UUID}.webtrigger.atlassian.app/x1/abc"),
            &format!("https://user@{UUID}.hello.atlassian-dev.net/x1/abc"),
            &format!("https://evil.example/{UUID}.hello.atlassian-dev.net/x1/abc"),
            &format!("https://{}.hello.atlassian-dev.net/x1/abc", UUID.to_uppercase().replace('9', "A")),
            &format!("https://x{UUID}.hello.atlassian-dev.net/x1/abc"),
            &format!("HTTPS://{UUID}.hello.atlassian-dev.net/x1/abc"),
            &format!("https://{UUID}.hello.atlassian-dev.net.evil.example/x1/abc"),
            &format!("https://{UUID}.hello.atlassian-dev.net/x1/abc\n"),
            "http://127.0.0.1:8900/x1/abc",
            "https://sub.triggers.example/x1/abc",
            "https://triggers.example/elsewhere/abc",
        ] {
            assert_eq!(rule.parse(url), Err(TriggerUrlError), "{url}");
        }
        assert!(rule.parse("https://triggers.example/x1/abc").is_ok());
    }

    #[test]
    fn loopback_is_a_trigger_only_where_configured() {
        let rule = TriggerPolicy { hosts: vec![], allow_loopback: true };
        assert!(rule.parse("http://127.0.0.1:8900/x1/abc").is_ok());
        for url in [
            "http://127.0.0.1/x1/abc",
            "http://127.0.0.1:0/x1/abc",
            "http://127.0.0.1:70000/x1/abc",
            "http://127.0.0.1:8900@evil.example/x1/abc",
            "http://127.0.0.1:+89/x1/abc",
            "http://localhost:8900/x1/abc",
            "http://127.0.0.1:8900/other/abc",
        ] {
            assert_eq!(rule.parse(url), Err(TriggerUrlError), "{url}");
        }
    }
}
