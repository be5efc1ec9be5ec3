//! A Forge app as the backend sees it: it signs hand-offs, and its web trigger verifies and answers callbacks.
//!
//! The verification here is independent of the code under test only in its inputs; that the tokens satisfy another
//! implementation is shown by the TypeScript receiver in the end-to-end test.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use aws::system::random_nonce;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use domain::handoff::{HANDOFF_TYPE, HandoffPolicy, ReturnUrlPolicy};
use domain::id::{CloudId, Kid, ServiceId, TenantId};
use domain::jws::{self, JwsError};
use domain::key::{Jwk, PrivateKey, PublicKey};
use domain::key_endorsement::ENDORSEMENT_TYPE;
use domain::tenant::TriggerPolicy;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

/// `BACKEND_URL` in the tests.
pub const BACKEND_URL: &str = "https://backend.example";

/// How a trigger answers a callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A code of the contract, under its status.
    Code(u16, &'static str),
    /// The platform's own answer.
    Platform(u16),
    /// None, ever.
    Hang,
    /// The app accepts, and the answer is lost on its way.
    LoseAnswer,
}

/// What the platform's own answers hold, in the body and in a header: nobody may keep or log it.
pub const ANSWERED: &str = "secret-of-the-platform";

/// Accepted.
pub const ACCEPTED: Reply = Reply::Code(202, "ACCEPTED");

/// A callback that arrived, its token verified against the keys that the app knows.
#[derive(Debug, Clone)]
pub struct Callback {
    /// The key that signed the token.
    pub kid: String,
    /// The token's claims.
    pub claims: Value,
    /// The body.
    pub body: Value,
    /// How it was answered.
    pub reply: Reply,
}

impl Callback {
    /// `REGISTER` or `UPDATE`.
    #[must_use]
    pub fn action(&self) -> &str {
        self.body["action"].as_str().unwrap_or_default()
    }
}

/// For how long a tenant key counts after the first UPDATE under its successor, in seconds.
const KEY_OVERLAP_S: i64 = 3600;

/// A tenant key, and until when it counts once another one is in use.
#[derive(Clone)]
struct TrustedKey {
    key: PublicKey,
    until: Option<i64>,
}

#[derive(Default)]
struct Inbox {
    callbacks: Vec<Callback>,
    replies: VecDeque<Reply>,
    steady: Option<Reply>,
    tenant_keys: Vec<TrustedKey>,
    given_keys: HashSet<String>,
    knows_no_endorsements: bool,
    not_trusted: usize,
    deployment_keys: HashMap<String, PublicKey>,
    own_keys: Vec<(Kid, PublicKey)>,
    faults: Vec<String>,
    /// The key and the service that each accepted hand-off is bound to, by its token.
    handoffs: HashMap<String, (String, String)>,
}

/// One installation of the app.
#[derive(Clone)]
pub struct ForgeApp {
    /// Its site.
    pub cloud_id: CloudId,
    /// Its trigger.
    pub trigger_url: String,
    key: Arc<PrivateKey>,
    inbox: Arc<Mutex<Inbox>>,
}

impl ForgeApp {
    /// Starts one that trusts `deployment_key` and accepts everything.
    pub async fn start(deployment_key: &PublicKey) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let mut inbox = Inbox::default();
        inbox.deployment_keys.insert(deployment_key.kid().to_string(), deployment_key.clone());
        let key = PrivateKey::from_seed(&[1; 32]);
        let public_key = key.public_key().expect("a usable key");
        inbox.own_keys.push((public_key.kid(), public_key));
        let inbox = Arc::new(Mutex::new(inbox));
        let app = Router::new().fallback(receive).with_state(Arc::clone(&inbox));
        tokio::spawn(async { axum::serve(listener, app).await });
        let id = HEXLOWER.encode(&random_nonce());
        let uuid = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
        Self {
            cloud_id: CloudId::parse(&uuid).expect("a UUID"),
            trigger_url: format!("http://{address}/x1/{id}"),
            key: Arc::new(key),
            inbox,
        }
    }

    /// The tenant that this installation is.
    #[must_use]
    pub fn tenant_id(&self) -> TenantId {
        TenantId::derive(&self.cloud_id, &self.trigger_url)
    }

    /// Rules of a deployment that knows this app, on loopback.
    #[must_use]
    pub fn handoff_rule(&self) -> HandoffPolicy {
        let key = self.key.public_key().expect("a usable key");
        HandoffPolicy {
            keys: vec![(key.kid(), key)],
            audience: BACKEND_URL.to_owned(),
            triggers: TriggerPolicy { hosts: Vec::new(), allow_loopback: true },
            return_urls: ReturnUrlPolicy::default(),
        }
    }

    /// A fresh hand-off, valid for ten minutes from `now`.
    pub async fn handoff(&self, now: Timestamp) -> String {
        self.handoff_of("owner-1", now).await
    }

    /// The same for another person.
    pub async fn handoff_of(&self, owner: &str, now: Timestamp) -> String {
        self.handoff_with(json!({ "accountId": owner }), now).await
    }

    /// A fresh hand-off of `owner-1` to `change` a service.
    pub async fn management(&self, change: &str, service: &ServiceId, now: Timestamp) -> String {
        self.handoff_with(management_claims(change, service), now).await
    }

    /// The same with other claims, or more.
    ///
    /// # Panics
    /// When the claims are no object.
    pub async fn handoff_with(&self, claims: Value, now: Timestamp) -> String {
        let others = claims.as_object().expect("claims are an object").clone();
        let mut claims = json!({
            "iss": "ari:cloud:ecosystem::app/test", "aud": BACKEND_URL, "purpose": "register",
            "iat": now.as_second(), "exp": now.as_second() + 600, "jti": HEXLOWER.encode(&random_nonce()),
            "cloudId": self.cloud_id, "accountId": "owner-1", "triggerUrl": self.trigger_url,
            "callbackUrl": "https://shop.atlassian.net/jira"
        });
        claims.as_object_mut().expect("it is one").extend(others);
        jws::sign(HANDOFF_TYPE, &claims, self.key.as_ref()).await.expect("a signed hand-off")
    }

    /// Answers the next callbacks like this, then as before.
    pub fn answer_next(&self, replies: impl IntoIterator<Item = Reply>) {
        self.inbox().replies.extend(replies);
    }

    /// Answers every callback like this from now on.
    pub fn answer_always(&self, reply: Reply) {
        self.inbox().steady = Some(reply);
    }

    /// Every callback so far.
    #[must_use]
    pub fn callbacks(&self) -> Vec<Callback> {
        let inbox = self.inbox();
        assert_eq!(inbox.faults, Vec::<String>::new(), "callbacks that do not verify");
        inbox.callbacks.clone()
    }

    /// Every callback of one kind so far.
    #[must_use]
    pub fn received(&self, action: &str) -> Vec<Callback> {
        self.callbacks().into_iter().filter(|callback| callback.action() == action).collect()
    }

    /// Gives the app a tenant's key, as REGISTER would.
    pub fn trust(&self, key: &PublicKey) {
        self.inbox().register(key);
    }

    /// Trusts this key and no other, as when a registration and an update were stored at the same moment.
    pub fn trust_only(&self, key: &PublicKey) {
        self.inbox().tenant_keys = vec![TrustedKey { key: key.clone(), until: None }];
    }

    /// From now on it understands no endorsements, like an app from before they existed.
    pub fn ignore_endorsements(&self) {
        self.inbox().knows_no_endorsements = true;
    }

    /// Pins another deployment key, which endorses keys from now on.
    pub fn pin(&self, deployment_key: &PublicKey) {
        self.inbox().deployment_keys =
            HashMap::from([(deployment_key.kid().to_string(), deployment_key.clone())]);
    }

    /// The keys that count at `now`, the one in use first.
    #[must_use]
    pub fn trusted_keys(&self, now: Timestamp) -> Vec<PublicKey> {
        self.inbox().trusted(now.as_second()).into_iter().map(|trusted| trusted.key).collect()
    }

    /// How many updates with an endorsement were refused because the app does not trust their key.
    #[must_use]
    pub fn not_trusted(&self) -> usize {
        self.inbox().not_trusted
    }

    /// How many different tenant keys the app has been given.
    #[must_use]
    pub fn known_tenant_keys(&self) -> usize {
        self.inbox().given_keys.len()
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().expect("no test panicked inside")
    }
}

/// What a hand-off to `change` a service has beside what every one has.
#[must_use]
pub fn management_claims(change: &str, service: &ServiceId) -> Value {
    json!({
        "purpose": "manage", "change": change, "serviceId": service, "serviceName": "Shop API",
        "serviceUrl": "https://shop.example/health"
    })
}

async fn receive(State(inbox): State<Arc<Mutex<Inbox>>>, headers: HeaderMap, body: Bytes) -> Response {
    let reply = {
        let mut inbox = inbox.lock().expect("no test panicked inside");
        match verify(&mut inbox, &headers, &body) {
            Ok((callback, keys)) => {
                let steady = inbox.steady.clone().unwrap_or(ACCEPTED);
                let reply = inbox.replies.pop_front().unwrap_or(steady);
                if matches!(reply, ACCEPTED | Reply::LoseAnswer) {
                    inbox.tenant_keys = keys;
                    if let Some(token) = callback.body["handoff"].as_str() {
                        inbox.handoffs.insert(token.to_owned(), use_of(&callback.body));
                    }
                }
                inbox.callbacks.push(Callback { reply: reply.clone(), ..callback });
                reply
            }
            Err(VerificationError::UnknownEndorsedKey) => {
                inbox.not_trusted += 1;
                Reply::Code(401, "UNAUTHORIZED")
            }
            Err(VerificationError::HandoffUsed) => Reply::Code(403, "HANDOFF_USED"),
            Err(VerificationError::Fault(fault)) => {
                inbox.faults.push(fault);
                Reply::Code(401, "UNAUTHORIZED")
            }
        }
    };
    match reply {
        Reply::Code(status, code) => {
            let status = StatusCode::from_u16(status).expect("a status code");
            (status, [("content-type", "application/json")], format!(r#"{{"code":"{code}"}}"#))
                .into_response()
        }
        Reply::Platform(status) => {
            let status = StatusCode::from_u16(status).expect("a status code");
            (status, [("x-answered", ANSWERED)], ANSWERED).into_response()
        }
        Reply::LoseAnswer => StatusCode::BAD_GATEWAY.into_response(),
        Reply::Hang => std::future::pending().await,
    }
}

impl Inbox {
    /// The receiver's rule: a known key changes nothing, another one replaces all.
    fn register(&mut self, key: &PublicKey) {
        self.given_keys.insert(key.kid().to_string());
        if !self.tenant_keys.iter().any(|known| known.key == *key) {
            self.tenant_keys = vec![TrustedKey { key: key.clone(), until: None }];
        }
    }

    fn trusted(&self, now_s: i64) -> Vec<TrustedKey> {
        self.tenant_keys.iter().filter(|key| key.until.is_none_or(|until| now_s <= until)).cloned().collect()
    }

    /// The trusted keys, with the one that this message endorses.
    fn trusted_with(&self, message: &Value, now_s: i64) -> Vec<TrustedKey> {
        let mut keys = self.trusted(now_s);
        let endorsed = message["keyIntroduction"].as_str().filter(|_| !self.knows_no_endorsements);
        let Some(key) = endorsed.and_then(|token| self.endorsed(token, message, &keys, now_s)) else {
            return keys;
        };
        if !keys.iter().any(|known| known.key == key) {
            let present = keys[0].key.clone();
            keys.retain(|known| known.key == present || known.until.is_some());
            keys.push(TrustedKey { key, until: None });
        }
        keys
    }

    fn endorsed(&self, token: &str, message: &Value, keys: &[TrustedKey], now_s: i64) -> Option<PublicKey> {
        let signers: Vec<_> = self.deployment_keys.values().map(|key| (key.kid(), key.clone())).collect();
        let claims: Value = jws::verify(token, ENDORSEMENT_TYPE, &signers).ok()?;
        let fits = claims["sub"] == message["tenantId"]
            && claims["aud"] == message["cloudId"]
            && claims["currentKid"] == keys.first()?.key.kid().to_string()
            && claims["iat"].as_i64()? - 60 <= now_s
            && now_s < claims["exp"].as_i64()? + 60;
        let jwk: Jwk = serde_json::from_value(claims["jwk"].clone()).ok()?;
        fits.then(|| PublicKey::from_jwk(&jwk).ok()).flatten()
    }
}

/// The key that signed comes first; the key that it follows has its last hour.
fn after_update(keys: Vec<TrustedKey>, signer: &str, now_s: i64) -> Vec<TrustedKey> {
    let position = keys.iter().position(|trusted| trusted.key.kid().as_str() == signer);
    match position.map(|at| (at, &keys[at])) {
        Some((at, signing)) if at > 0 && signing.until.is_none() => {
            let until = Some(now_s + KEY_OVERLAP_S);
            vec![signing.clone(), TrustedKey { until, ..keys[0].clone() }]
        }
        _ => keys,
    }
}

/// Why a callback is not applied.
enum VerificationError {
    /// It endorses a key, and is signed by one that the app does not trust: what a rotation may meet with.
    UnknownEndorsedKey,
    /// Its hand-off was used for another key or another service.
    HandoffUsed,
    /// The backend has made a mistake.
    Fault(String),
}

impl From<String> for VerificationError {
    fn from(fault: String) -> Self {
        Self::Fault(fault)
    }
}

impl From<&str> for VerificationError {
    fn from(fault: &str) -> Self {
        Self::Fault(fault.to_owned())
    }
}

/// The callback, and the tenant keys that are trusted once it is applied.
fn verify(
    inbox: &mut Inbox,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(Callback, Vec<TrustedKey>), VerificationError> {
    let token = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or("no bearer token")?;
    let message: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let register = message["action"] == "REGISTER";
    let (kid, now_s) = unverified(token).ok_or("no token")?;
    let tenant_keys = inbox.trusted_with(&message, now_s);
    let keys: Vec<_> = if register {
        inbox.deployment_keys.values().map(|key| (key.kid(), key.clone())).collect()
    } else {
        tenant_keys.iter().map(|trusted| (trusted.key.kid(), trusted.key.clone())).collect()
    };
    let claims: Value = match jws::verify(token, "forge-callback+jwt", &keys) {
        Ok(claims) => claims,
        Err(JwsError::Key) if message["keyIntroduction"].is_string() => {
            return Err(VerificationError::UnknownEndorsedKey);
        }
        Err(error) => return Err(error.to_string().into()),
    };
    let scope = if register { "health:register" } else { "health:update" };
    let hash = BASE64URL_NOPAD.encode(&Sha256::digest(body));
    let lifetime = claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat);
    for (what, holds) in [
        ("scope", claims["scope"] == scope),
        ("body_sha256", claims["body_sha256"] == hash.as_str()),
        ("iss", claims["iss"] == BACKEND_URL),
        ("aud", claims["aud"] == message["cloudId"]),
        ("sub", claims["sub"] == message["tenantId"]),
        ("exp", lifetime == Some(300)),
    ] {
        if !holds {
            return Err(format!("{what} is wrong").into());
        }
    }
    if register {
        // The app compares the service's owner with the hand-off that it signed itself.
        let token = message["handoff"].as_str().ok_or("no hand-off")?;
        let handoff: Value =
            jws::verify(token, HANDOFF_TYPE, &inbox.own_keys).map_err(|error| error.to_string())?;
        if handoff["accountId"] != message["service"]["owner"] {
            return Err("service.owner is not the hand-off's".into());
        }
        let jwk: Jwk = serde_json::from_value(message["jwk"].clone()).map_err(|error| error.to_string())?;
        let key = PublicKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
        if inbox.handoffs.get(token).is_some_and(|bound| *bound != use_of(&message)) {
            return Err(VerificationError::HandoffUsed);
        }
        inbox.register(&key);
        return Ok((Callback { kid, claims, body: message, reply: ACCEPTED }, inbox.tenant_keys.clone()));
    }
    let tenant_keys = after_update(tenant_keys, &kid, now_s);
    Ok((Callback { kid, claims, body: message, reply: ACCEPTED }, tenant_keys))
}

/// What a REGISTER uses its hand-off for.
fn use_of(message: &Value) -> (String, String) {
    (message["jwk"]["x"].to_string(), message["service"]["id"].to_string())
}

/// Which key a token names, and when it was made: the time of a test's app is that of its backend.
fn unverified(token: &str) -> Option<(String, i64)> {
    let part = |index| {
        let bytes = BASE64URL_NOPAD.decode(token.split('.').nth(index)?.as_bytes()).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok()
    };
    Some((part(0)?["kid"].as_str()?.to_owned(), part(1)?["iat"].as_i64()?))
}
