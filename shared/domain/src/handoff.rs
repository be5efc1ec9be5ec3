//! The hand-off: what a person's browser carries from the Forge app to the pages of this backend (docs/protocol.md,
//! section 2).
//!
//! Only the app's signature says who asks, and for which site. Whether a hand-off was used before is the store's business.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use url::Url;

use crate::id::{CloudId, HandoffId, Kid, Owner, ServiceId, TenantId};
use crate::jws::{self, JwsError};
use crate::key::PublicKey;
use crate::service::{Change, ServiceName};
use crate::tenant::{TriggerPolicy, TriggerUrl};

/// `typ` of a hand-off.
pub const HANDOFF_TYPE: &str = "forge-handoff+jwt";
/// The longest life that a hand-off may claim.
const LONGEST_LIFE_S: i64 = 600;
/// How far the app's clock may be ahead of ours.
const SKEW_S: i64 = 60;
/// How long after its expiry a hand-off still resumes the registration that it is bound to.
pub const RESUME_FOR: SignedDuration = SignedDuration::from_secs(300);

/// The longest address of a service that a hand-off may show, in bytes: longer than any that can be registered.
const MAX_SHOWN_URL_BYTES: usize = 2560;

/// What a hand-off is for. One that was made for the one is nothing to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To add a service.
    Register,
    /// To change a service that is there.
    Manage,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Manage => "manage",
        }
    }
}

/// Where a person came from; shown as a link, never followed by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnUrl(Url);

impl ReturnUrl {
    /// The whole URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Its host: the site's name as people know it.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

/// Which pages may be linked back to.
#[derive(Debug, Clone, Default)]
pub struct ReturnUrlPolicy {
    /// Further host suffixes (deploy parameter `ReturnHosts`).
    pub hosts: Vec<String>,
    /// Whether `http://127.0.0.1:<port>` may be linked (the local stack only).
    pub allow_loopback: bool,
}

impl ReturnUrlPolicy {
    /// `None` when the page is not to be linked; that is no error, the person only gets no link.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<ReturnUrl> {
        let url = Url::parse(text).ok().filter(|_| text.len() <= 2048)?;
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let host = url.host_str()?;
        let listed = |suffix: &str| {
            host.strip_suffix(suffix)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.') && rest != ".")
        };
        let site = url.scheme() == "https"
            && url.port().is_none()
            && ["atlassian.net", "jira.com"]
                .into_iter()
                .chain(self.hosts.iter().map(String::as_str))
                .any(listed);
        let local = self.allow_loopback && url.scheme() == "http" && host == "127.0.0.1";
        (site || local).then_some(ReturnUrl(url))
    }
}

/// A hand-off that passed every rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handoff {
    /// The site.
    pub cloud_id: CloudId,
    /// The person, or a pseudonym.
    pub owner: Owner,
    /// Where callbacks go.
    pub trigger_url: TriggerUrl,
    /// The page in Jira to go back to, if it may be linked.
    pub return_url: Option<ReturnUrl>,
    /// The compact JWS, for the REGISTER that returns it to the app.
    pub token: String,
    /// What its use is bound to.
    pub reference: HandoffRef,
}

/// The identity of a hand-off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandoffRef {
    /// Over all issuers.
    pub id: HandoffId,
    /// When it expires; for [`RESUME_FOR`] longer it resumes what it is bound to.
    pub expires_at: Timestamp,
}

impl Handoff {
    /// The tenant it speaks for.
    #[must_use]
    pub fn tenant_id(&self) -> TenantId {
        TenantId::derive(&self.cloud_id, self.trigger_url.as_str())
    }

    /// Whether it has expired and may only resume.
    #[must_use]
    pub fn is_late(&self, now: Timestamp) -> bool {
        now > self.reference.expires_at
    }
}

/// A hand-off to change a service. It does not say that the person may: the service's record knows its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Management {
    /// Who asks, where.
    pub handoff: Handoff,
    /// Which service.
    pub service_id: ServiceId,
    /// What the app calls it; for showing only.
    pub service_name: ServiceName,
    /// Its address as the app knows it, perhaps cut short; for showing only.
    pub service_url: String,
    /// What is to be done.
    pub change: Change,
}

/// Why a hand-off is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandoffError {
    /// No hand-off.
    #[error("no hand-off")]
    Missing,
    /// More than one: two parsers could pick different ones.
    #[error("more than one hand-off")]
    Repeated,
    /// Not a token of the Forge app.
    #[error("not a token of the Forge app: {0}")]
    Token(#[from] JwsError),
    /// Made for another backend, for another purpose, or with claims out of bounds.
    #[error("the hand-off's {0} is wrong")]
    Claim(&'static str),
    /// Too old even to resume.
    #[error("the hand-off has expired")]
    Expired,
    /// The trigger is not of an allow-listed shape.
    #[error("not the URL of a Forge web trigger")]
    Trigger,
}

impl HandoffError {
    /// The stable word of the contract for it (docs/protocol.md, section 2).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing => "HANDOFF_MISSING",
            Self::Repeated => "INVALID_LINK",
            Self::Token(_) | Self::Claim(_) => "HANDOFF_INVALID",
            Self::Expired => "HANDOFF_EXPIRED",
            Self::Trigger => "TRIGGER_NOT_ALLOWED",
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    iss: String,
    aud: String,
    iat: i64,
    exp: i64,
    jti: String,
    purpose: String,
    cloud_id: String,
    account_id: String,
    trigger_url: String,
    callback_url: Option<String>,
    service_id: Option<String>,
    service_name: Option<String>,
    service_url: Option<String>,
    change: Option<Change>,
}

/// The rules for hand-offs of this deployment.
#[derive(Debug, Clone)]
pub struct HandoffPolicy {
    /// The Forge app's public keys.
    pub keys: Vec<(Kid, PublicKey)>,
    /// `BACKEND_URL`, which a hand-off must name.
    pub audience: String,
    /// Where callbacks may go.
    pub triggers: TriggerPolicy,
    /// What may be linked.
    pub return_urls: ReturnUrlPolicy,
}

impl HandoffPolicy {
    /// Accepts or refuses one to add a service. A hand-off up to [`RESUME_FOR`] past its expiry is accepted here and
    /// `is_late`.
    pub fn read(&self, token: Option<&str>, now: Timestamp) -> Result<Handoff, HandoffError> {
        self.verify(token, Purpose::Register, now).map(|(handoff, _)| handoff)
    }

    /// Accepts or refuses one to change a service; late ones as [`HandoffPolicy::read`] does.
    pub fn read_management(&self, token: Option<&str>, now: Timestamp) -> Result<Management, HandoffError> {
        let (handoff, claims) = self.verify(token, Purpose::Manage, now)?;
        let id = claims.service_id.as_deref().and_then(|text| ServiceId::parse(text).ok());
        let name = claims.service_name.as_deref().and_then(|text| ServiceName::parse(text).ok());
        let shown = |url: &String| {
            (1..=MAX_SHOWN_URL_BYTES).contains(&url.len()) && !url.chars().any(char::is_control)
        };
        Ok(Management {
            handoff,
            service_id: id.ok_or(HandoffError::Claim("serviceId"))?,
            service_name: name.ok_or(HandoffError::Claim("serviceName"))?,
            service_url: claims.service_url.filter(shown).ok_or(HandoffError::Claim("serviceUrl"))?,
            change: claims.change.ok_or(HandoffError::Claim("change"))?,
        })
    }

    fn verify(
        &self,
        token: Option<&str>,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<(Handoff, Claims), HandoffError> {
        let text = token.filter(|text| !text.is_empty()).ok_or(HandoffError::Missing)?;
        let claims: Claims = jws::verify(text, HANDOFF_TYPE, &self.keys)?;
        let claim = |name, holds: bool| if holds { Ok(()) } else { Err(HandoffError::Claim(name)) };
        claim("aud", claims.aud == self.audience)?;
        claim("purpose", claims.purpose == purpose.as_str())?;
        claim("iss", (1..=256).contains(&claims.iss.len()))?;
        claim("jti", claims.jti.len() == 32 && claims.jti.bytes().all(|b| b.is_ascii_hexdigit()))?;
        claim("exp", (1..=LONGEST_LIFE_S).contains(&claims.exp.saturating_sub(claims.iat)))?;
        claim("iat", claims.iat <= now.as_second().saturating_add(SKEW_S))?;
        let expires_at = Timestamp::from_second(claims.exp).map_err(|_| HandoffError::Claim("exp"))?;
        if now.duration_since(expires_at) > RESUME_FOR {
            return Err(HandoffError::Expired);
        }
        let handoff = Handoff {
            cloud_id: CloudId::parse(&claims.cloud_id).map_err(|_| HandoffError::Claim("cloudId"))?,
            owner: Owner::parse(&claims.account_id).map_err(|_| HandoffError::Claim("accountId"))?,
            trigger_url: self.triggers.parse(&claims.trigger_url).map_err(|_| HandoffError::Trigger)?,
            return_url: claims.callback_url.as_deref().and_then(|text| self.return_urls.parse(text)),
            token: text.to_owned(),
            reference: HandoffRef { id: HandoffId::derive(&claims.iss, &claims.jti), expires_at },
        };
        Ok((handoff, claims))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::key::PrivateKey;

    const CLOUD: &str = "11111111-2222-4333-8444-555555555555";
    const TRIGGER: &str = "https://99999999-8888-4777-8666-555555555555.hello.atlassian-dev.net/x1/abc";
    const NOW: i64 = 1_800_000_000;

    fn app() -> PrivateKey {
        PrivateKey::from_seed(&[1; 32])
    }

    fn rule() -> HandoffPolicy {
        let key = app().public_key().unwrap();
        HandoffPolicy {
            keys: vec![(key.kid(), key)],
            audience: "https://backend.example".into(),
            triggers: TriggerPolicy::default(),
            return_urls: ReturnUrlPolicy::default(),
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "ari:cloud:ecosystem::app/1", "aud": "https://backend.example", "iat": NOW, "exp": NOW + 600,
            "jti": "0123456789abcdef0123456789abcdef", "purpose": "register", "cloudId": CLOUD,
            "accountId": "p-1", "triggerUrl": TRIGGER, "callbackUrl": "https://shop.atlassian.net/jira"
        })
    }

    async fn read(claims: &Value, later: i64) -> Result<Handoff, HandoffError> {
        let token = jws::sign(HANDOFF_TYPE, claims, &app()).await.unwrap();
        rule().read(Some(&token), Timestamp::from_second(NOW + later).unwrap())
    }

    #[tokio::test]
    async fn a_handoff_is_what_the_app_signed_and_its_token_is_kept() {
        let handoff = read(&claims(), 0).await.unwrap();
        assert_eq!(handoff.cloud_id.as_str(), CLOUD);
        assert_eq!(handoff.return_url.unwrap().host(), "shop.atlassian.net");
        assert_eq!(handoff.reference.expires_at.as_second(), NOW + 600);
        assert_eq!(
            handoff.token,
            jws::sign(HANDOFF_TYPE, &claims(), &app()).await.unwrap(),
            "the app gets it back as it made it"
        );
    }

    #[test]
    fn without_a_token_nothing_is_read() {
        for token in [None, Some("")] {
            assert_eq!(rule().read(token, Timestamp::UNIX_EPOCH), Err(HandoffError::Missing));
            assert_eq!(
                rule().read_management(token, Timestamp::UNIX_EPOCH).unwrap_err(),
                HandoffError::Missing
            );
        }
    }

    #[tokio::test]
    async fn without_a_key_of_the_app_no_token_is_accepted() {
        let token = jws::sign(HANDOFF_TYPE, &claims(), &app()).await.unwrap();
        let rule = HandoffPolicy { keys: vec![], ..rule() };
        let read = rule.read(Some(&token), Timestamp::from_second(NOW).unwrap());
        assert_eq!(read, Err(HandoffError::Token(JwsError::Key)));
    }

    #[tokio::test]
    async fn every_claim_is_checked() {
        for (name, value, error) in [
            ("aud", json!("https://other.example"), HandoffError::Claim("aud")),
            ("purpose", json!("manage"), HandoffError::Claim("purpose")),
            ("jti", json!("short"), HandoffError::Claim("jti")),
            ("exp", json!(NOW + 601), HandoffError::Claim("exp")),
            ("exp", json!(NOW), HandoffError::Claim("exp")),
            ("iat", json!(NOW + 61), HandoffError::Claim("iat")),
            ("cloudId", json!("x"), HandoffError::Claim("cloudId")),
            ("accountId", json!(""), HandoffError::Claim("accountId")),
            ("triggerUrl", json!("https://evil.example/x1/a"), HandoffError::Trigger),
            ("iat", json!("soon"), HandoffError::Token(JwsError::Claims)),
        ] {
            let mut claims = claims();
            claims[name] = value.clone();
            assert_eq!(read(&claims, 0).await, Err(error), "{name} {value}");
        }
    }

    fn management_claims() -> Value {
        let mut claims = claims();
        claims["purpose"] = json!("manage");
        claims["serviceId"] = json!("w4g76pj5y32txfsc");
        claims["serviceName"] = json!("Shop");
        claims["serviceUrl"] = json!("https://shop.example/health");
        claims["change"] = json!("remove");
        claims
    }

    async fn manage(claims: &Value) -> Result<Management, HandoffError> {
        let token = jws::sign(HANDOFF_TYPE, claims, &app()).await.unwrap();
        rule().read_management(Some(&token), Timestamp::from_second(NOW).unwrap())
    }

    #[tokio::test]
    async fn a_handoff_to_manage_names_one_service_and_one_change() {
        let management = manage(&management_claims()).await.unwrap();
        assert_eq!((management.service_id.as_str(), management.change), ("w4g76pj5y32txfsc", Change::Remove));
        let registration = read(&management_claims(), 0).await;
        assert_eq!(registration, Err(HandoffError::Claim("purpose")), "it adds nothing");
        assert_eq!(manage(&claims()).await, Err(HandoffError::Claim("purpose")), "and the other way round");
        for (name, value, error) in [
            ("purpose", json!("Manage"), HandoffError::Claim("purpose")),
            ("serviceId", Value::Null, HandoffError::Claim("serviceId")),
            ("serviceId", json!("W4G76PJ5Y32TXFSC"), HandoffError::Claim("serviceId")),
            ("serviceId", json!("SERVICE#w4g76pj5"), HandoffError::Claim("serviceId")),
            ("serviceName", json!(""), HandoffError::Claim("serviceName")),
            ("serviceName", json!("a\u{202e}b"), HandoffError::Claim("serviceName")),
            ("serviceUrl", json!(""), HandoffError::Claim("serviceUrl")),
            ("serviceUrl", json!("a\nb"), HandoffError::Claim("serviceUrl")),
            ("serviceUrl", json!("a".repeat(MAX_SHOWN_URL_BYTES + 1)), HandoffError::Claim("serviceUrl")),
            ("change", Value::Null, HandoffError::Claim("change")),
            ("change", json!("destroy"), HandoffError::Token(JwsError::Claims)),
            ("cloudId", json!("x"), HandoffError::Claim("cloudId")),
            ("exp", json!(NOW + 601), HandoffError::Claim("exp")),
        ] {
            let mut claims = management_claims();
            claims[name] = value.clone();
            assert_eq!(manage(&claims).await, Err(error), "{name} {value}");
        }
    }

    #[tokio::test]
    async fn after_its_expiry_a_handoff_only_resumes_for_five_minutes() {
        assert!(!read(&claims(), 600).await.unwrap().is_late(Timestamp::from_second(NOW + 600).unwrap()));
        assert!(read(&claims(), 900).await.unwrap().is_late(Timestamp::from_second(NOW + 900).unwrap()));
        assert_eq!(read(&claims(), 901).await, Err(HandoffError::Expired));
    }

    #[test]
    fn only_sites_are_linked() {
        let rule = ReturnUrlPolicy { hosts: vec!["jira.corp.example".into()], allow_loopback: false };
        for url in [
            "https://shop.atlassian.net/x?y#z",
            "https://jira.com/",
            "https://jira.corp.example/a",
            "https://a.jira.corp.example/",
        ] {
            assert!(rule.parse(url).is_some(), "{url}");
        }
        for url in [
            "",
            "javascript:alert(1)",
            "http://shop.atlassian.net/",
            "https://shop.atlassian.net:8443/",
            "https://u@shop.atlassian.net/",
            "https://shop.atlassian.net.evil.example/",
            "https://evilatlassian.net/",
            "https://.atlassian.net/",
            "https://evil-jira.corp.example/",
            "https://jira.corp.example.evil.example/",
            "https://corp.example/",
            "https://shop.atlassian.net./",
            "https://:p@shop.atlassian.net/",
            "//shop.atlassian.net/",
            "http://127.0.0.1:8900/",
        ] {
            assert!(rule.parse(url).is_none(), "{url}");
        }
    }
}
