//! The hand-off: what a person's browser carries from the Forge app to the pages of this backend (docs/protocol.md,
//! section 2).
//!
//! With a `ForgeAppPublicKey` the hand-off must be signed by the app, and the plain parameters may only repeat it.
//! Without one (open mode) the plain parameters are taken as they come, and no service can be managed: nobody would know
//! who asks. Deliberately absent: whether a hand-off was used before; only the transaction that it is for can know that (see
//! `store`).

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use url::Url;

use crate::callback::token::{self, InvalidToken, MAX_TOKEN_BYTES};
use crate::id::{CloudId, HandoffId, Kid, Owner, ServiceId, TenantId};
use crate::key::PublicKey;
use crate::problem::{FieldError, Problem};
use crate::service::{Change, ServiceName};
use crate::tenant::{TriggerRule, TriggerUrl};

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

/// The hand-off's parameters as they stand in the query or the form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HandoffParams {
    /// The site.
    pub cloud_id: Option<String>,
    /// The person, or a pseudonym.
    pub account_id: Option<String>,
    /// Where callbacks go.
    pub trigger_url: Option<String>,
    /// The page in Jira to go back to.
    pub callback_url: Option<String>,
    /// The compact JWS.
    pub handoff: Option<String>,
}

/// Where a person came from; shown as a link, never followed by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackUrl(Url);

impl CallbackUrl {
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
pub struct CallbackRule {
    /// Further host suffixes (deploy parameter `CallbackHosts`).
    pub hosts: Vec<String>,
    /// Whether `http://127.0.0.1:<port>` may be linked (the local stack only).
    pub allow_loopback: bool,
}

impl CallbackRule {
    /// `None` when the page is not to be linked; that is no error, the person only gets no link.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<CallbackUrl> {
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
        (site || local).then_some(CallbackUrl(url))
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
    pub callback_url: Option<CallbackUrl>,
    /// The compact JWS, for the REGISTER that returns it to the app.
    pub token: Option<String>,
    /// What the registration is bound to; `None` in open mode.
    pub binding: Option<Binding>,
}

/// The identity of a verified hand-off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
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
        self.binding.as_ref().is_some_and(|binding| now > binding.expires_at)
    }
}

/// A verified hand-off to change a service. That the person may is said by nobody yet: the service's record knows its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Management {
    /// Who asks, where.
    pub handoff: Handoff,
    /// What the change is bound to: the hand-off's own.
    pub binding: Binding,
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
    /// Open mode: parameters that are missing or not of their form.
    #[error("missing or malformed parameters: {}", .0.join(", "))]
    Malformed(Vec<&'static str>),
    /// No hand-off, though one is required.
    #[error("no hand-off")]
    Missing,
    /// Not a token of the Forge app.
    #[error("not a token of the Forge app: {0}")]
    Token(#[from] InvalidToken),
    /// Made for another backend, for another purpose, or with claims out of bounds.
    #[error("the hand-off's {0} is wrong")]
    Claim(&'static str),
    /// Too old even to resume.
    #[error("the hand-off has expired")]
    Expired,
    /// A plain parameter contradicts the signed one.
    #[error("{0} differs from the signed hand-off")]
    Contradiction(&'static str),
    /// The trigger is not of an allow-listed shape.
    #[error("not the URL of a Forge web trigger")]
    Trigger,
    /// Open mode: nobody vouches for who asks.
    #[error("services are managed with signed hand-offs only")]
    OpenMode,
}

impl HandoffError {
    /// What the person is told: always how to go on, never which check failed (the log says that).
    #[must_use]
    pub fn problem(&self, purpose: Purpose) -> Problem {
        let again = match purpose {
            Purpose::Register => {
                "Go back to Jira, open the Health Monitor page and press “Add service” again."
            }
            Purpose::Manage => {
                "Go back to Jira, open the Health Monitor page and press the button there again."
            }
        };
        match self {
            Self::Malformed(names) => {
                let errors = names
                    .iter()
                    .map(|&field| FieldError { field, message: "is missing or not of its form".to_owned() })
                    .collect();
                let title = "This link is incomplete";
                Problem { errors, ..Problem::new(400, "INVALID_LINK", title, again) }
            }
            Self::Missing => Problem::new(400, "HANDOFF_MISSING", "This link is incomplete", again),
            Self::Expired => Problem::new(401, "HANDOFF_EXPIRED", "This link has expired", again),
            Self::Trigger => {
                let detail = "The link names a web trigger that is not Atlassian's. Nothing was stored.";
                Problem::new(
                    403,
                    "TRIGGER_NOT_ALLOWED",
                    "This link does not lead back to a Forge app",
                    detail,
                )
            }
            Self::OpenMode => {
                let detail = "It accepts unsigned links (open mode), so it cannot know who asks. Nothing was changed. \
                              Tell the people who run this monitor.";
                Problem::new(403, "OPEN_MODE", "This backend cannot change services", detail)
            }
            Self::Token(_) | Self::Claim(_) | Self::Contradiction(_) => {
                Problem::new(401, "HANDOFF_INVALID", "This link is not valid here", again)
            }
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
pub struct HandoffRule {
    /// The Forge app's public keys; none means open mode.
    pub keys: Vec<(Kid, PublicKey)>,
    /// `BACKEND_URL`, which a hand-off must name.
    pub audience: String,
    /// Where callbacks may go.
    pub triggers: TriggerRule,
    /// What may be linked.
    pub callbacks: CallbackRule,
}

impl HandoffRule {
    /// Whether unsigned parameters are taken.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.keys.is_empty()
    }

    /// Accepts or refuses one to add a service. A hand-off up to [`RESUME_FOR`] past its expiry is accepted here and
    /// `is_late`.
    pub fn read(&self, params: &HandoffParams, now: Timestamp) -> Result<Handoff, HandoffError> {
        if self.is_open() {
            return self.read_plain(params);
        }
        self.read_signed(params, Purpose::Register, now).map(|(handoff, _, _)| handoff)
    }

    /// Accepts or refuses one to change a service; late ones as [`HandoffRule::read`] does.
    pub fn read_management(
        &self,
        params: &HandoffParams,
        now: Timestamp,
    ) -> Result<Management, HandoffError> {
        if self.is_open() {
            return Err(HandoffError::OpenMode);
        }
        let (handoff, binding, claims) = self.read_signed(params, Purpose::Manage, now)?;
        let id = claims.service_id.as_deref().and_then(|text| ServiceId::parse(text).ok());
        let name = claims.service_name.as_deref().and_then(|text| ServiceName::parse(text).ok());
        let shown = |url: &String| {
            (1..=MAX_SHOWN_URL_BYTES).contains(&url.len()) && !url.chars().any(char::is_control)
        };
        Ok(Management {
            handoff,
            binding,
            service_id: id.ok_or(HandoffError::Claim("serviceId"))?,
            service_name: name.ok_or(HandoffError::Claim("serviceName"))?,
            service_url: claims.service_url.filter(shown).ok_or(HandoffError::Claim("serviceUrl"))?,
            change: claims.change.ok_or(HandoffError::Claim("change"))?,
        })
    }

    fn read_plain(&self, params: &HandoffParams) -> Result<Handoff, HandoffError> {
        let mut bad = Vec::new();
        let cloud_id = parsed("cloudId", params.cloud_id.as_deref(), CloudId::parse, &mut bad);
        let owner = parsed("accountId", params.account_id.as_deref(), Owner::parse, &mut bad);
        let trigger = params.trigger_url.as_deref().filter(|text| !text.is_empty());
        if trigger.is_none() {
            bad.push("triggerUrl");
        }
        let token = params.handoff.as_deref().filter(|text| !text.is_empty());
        if token.is_some_and(|text| text.len() > MAX_TOKEN_BYTES || !text.is_ascii()) {
            bad.push("handoff");
        }
        let (Some(cloud_id), Some(owner), Some(trigger), true) = (cloud_id, owner, trigger, bad.is_empty())
        else {
            return Err(HandoffError::Malformed(bad));
        };
        Ok(Handoff {
            cloud_id,
            owner,
            trigger_url: self.triggers.parse(trigger).map_err(|_| HandoffError::Trigger)?,
            callback_url: params.callback_url.as_deref().and_then(|text| self.callbacks.parse(text)),
            token: token.map(ToOwned::to_owned),
            binding: None,
        })
    }

    fn read_signed(
        &self,
        params: &HandoffParams,
        purpose: Purpose,
        now: Timestamp,
    ) -> Result<(Handoff, Binding, Claims), HandoffError> {
        let text = params.handoff.as_deref().filter(|text| !text.is_empty()).ok_or(HandoffError::Missing)?;
        let claims: Claims = token::verify(text, HANDOFF_TYPE, &self.keys)?;
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

        let callback = claims.callback_url.as_deref().unwrap_or_default();
        for (name, plain, signed) in [
            ("cloudId", &params.cloud_id, claims.cloud_id.as_str()),
            ("accountId", &params.account_id, claims.account_id.as_str()),
            ("triggerUrl", &params.trigger_url, claims.trigger_url.as_str()),
            ("callbackUrl", &params.callback_url, callback),
        ] {
            if plain.as_deref().is_some_and(|plain| !plain.is_empty() && plain != signed) {
                return Err(HandoffError::Contradiction(name));
            }
        }
        let binding = Binding { id: HandoffId::derive(&claims.iss, &claims.jti), expires_at };
        let handoff = Handoff {
            cloud_id: CloudId::parse(&claims.cloud_id).map_err(|_| HandoffError::Claim("cloudId"))?,
            owner: Owner::parse(&claims.account_id).map_err(|_| HandoffError::Claim("accountId"))?,
            trigger_url: self.triggers.parse(&claims.trigger_url).map_err(|_| HandoffError::Trigger)?,
            callback_url: self.callbacks.parse(callback),
            token: Some(text.to_owned()),
            binding: Some(binding.clone()),
        };
        Ok((handoff, binding, claims))
    }
}

fn parsed<T, E>(
    name: &'static str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, E>,
    bad: &mut Vec<&'static str>,
) -> Option<T> {
    let value = text.and_then(|text| parse(text).ok());
    if value.is_none() {
        bad.push(name);
    }
    value
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

    fn rule(open: bool) -> HandoffRule {
        let key = app().public_key().unwrap();
        HandoffRule {
            keys: if open { vec![] } else { vec![(key.kid(), key)] },
            audience: "https://backend.example".into(),
            triggers: TriggerRule::default(),
            callbacks: CallbackRule::default(),
        }
    }

    fn claims() -> Value {
        json!({
            "iss": "ari:cloud:ecosystem::app/1", "aud": "https://backend.example", "iat": NOW, "exp": NOW + 600,
            "jti": "0123456789abcdef0123456789abcdef", "purpose": "register", "cloudId": CLOUD,
            "accountId": "p-1", "triggerUrl": TRIGGER, "callbackUrl": "https://shop.atlassian.net/jira"
        })
    }

    async fn read(
        claims: &Value,
        change: impl FnOnce(&mut HandoffParams),
        later: i64,
    ) -> Result<Handoff, HandoffError> {
        let token = token::sign(HANDOFF_TYPE, claims, &app()).await.unwrap();
        let mut params = HandoffParams { handoff: Some(token), ..HandoffParams::default() };
        change(&mut params);
        rule(false).read(&params, Timestamp::from_second(NOW + later).unwrap())
    }

    #[tokio::test]
    async fn a_signed_handoff_needs_no_plain_parameters() {
        let handoff = read(&claims(), |_| {}, 0).await.unwrap();
        assert_eq!(handoff.cloud_id.as_str(), CLOUD);
        assert_eq!(handoff.callback_url.unwrap().host(), "shop.atlassian.net");
        assert!(handoff.binding.is_some());
    }

    #[tokio::test]
    async fn plain_parameters_must_repeat_the_signed_ones() {
        let same = read(&claims(), |params| params.cloud_id = Some(CLOUD.into()), 0).await;
        assert!(same.is_ok());
        let other = read(&claims(), |params| params.account_id = Some("p-2".into()), 0).await;
        assert_eq!(other, Err(HandoffError::Contradiction("accountId")));
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
            ("iat", json!("soon"), HandoffError::Token(InvalidToken::Claims)),
        ] {
            let mut claims = claims();
            claims[name] = value.clone();
            assert_eq!(read(&claims, |_| {}, 0).await, Err(error), "{name} {value}");
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
        let token = token::sign(HANDOFF_TYPE, claims, &app()).await.unwrap();
        let params = HandoffParams { handoff: Some(token), ..HandoffParams::default() };
        rule(false).read_management(&params, Timestamp::from_second(NOW).unwrap())
    }

    #[tokio::test]
    async fn a_handoff_to_manage_names_one_service_and_one_change() {
        let management = manage(&management_claims()).await.unwrap();
        assert_eq!((management.service_id.as_str(), management.change), ("w4g76pj5y32txfsc", Change::Remove));
        assert_eq!(Some(&management.binding), management.handoff.binding.as_ref());
        let registration = read(&management_claims(), |_| {}, 0).await;
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
            ("change", json!("destroy"), HandoffError::Token(InvalidToken::Claims)),
            ("cloudId", json!("x"), HandoffError::Claim("cloudId")),
            ("exp", json!(NOW + 601), HandoffError::Claim("exp")),
        ] {
            let mut claims = management_claims();
            claims[name] = value.clone();
            assert_eq!(manage(&claims).await, Err(error), "{name} {value}");
        }
    }

    #[tokio::test]
    async fn in_open_mode_nothing_is_managed_whoever_signed() {
        let token = token::sign(HANDOFF_TYPE, &management_claims(), &app()).await.unwrap();
        let params = HandoffParams { handoff: Some(token), ..HandoffParams::default() };
        let now = Timestamp::from_second(NOW).unwrap();
        assert_eq!(rule(true).read_management(&params, now), Err(HandoffError::OpenMode));
    }

    #[tokio::test]
    async fn after_its_expiry_a_handoff_only_resumes_for_five_minutes() {
        assert!(
            !read(&claims(), |_| {}, 600).await.unwrap().is_late(Timestamp::from_second(NOW + 600).unwrap())
        );
        assert!(
            read(&claims(), |_| {}, 900).await.unwrap().is_late(Timestamp::from_second(NOW + 900).unwrap())
        );
        assert_eq!(read(&claims(), |_| {}, 901).await, Err(HandoffError::Expired));
    }

    #[test]
    fn open_mode_names_every_bad_parameter() {
        let read = |params: HandoffParams| rule(true).read(&params, Timestamp::UNIX_EPOCH);
        assert_eq!(
            read(HandoffParams::default()),
            Err(HandoffError::Malformed(vec!["cloudId", "accountId", "triggerUrl"]))
        );
        let good = HandoffParams {
            cloud_id: Some(CLOUD.into()),
            account_id: Some("a".into()),
            trigger_url: Some(TRIGGER.into()),
            ..HandoffParams::default()
        };
        assert_eq!(read(good.clone()).unwrap().binding, None);
        assert_eq!(
            read(HandoffParams { trigger_url: Some("https://evil.example/".into()), ..good }),
            Err(HandoffError::Trigger)
        );
    }

    #[test]
    fn only_sites_are_linked() {
        let rule = CallbackRule { hosts: vec!["jira.corp.example".into()], allow_loopback: false };
        for url in ["https://shop.atlassian.net/x?y#z", "https://jira.com/", "https://jira.corp.example/a"] {
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
            "//shop.atlassian.net/",
            "http://127.0.0.1:8900/",
        ] {
            assert!(rule.parse(url).is_none(), "{url}");
        }
    }
}
