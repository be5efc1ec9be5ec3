//! A Forge app as the backend sees it: it signs hand-offs, and its web trigger verifies and answers callbacks.
//!
//! The verification here is independent of the code under test only in its inputs; that the tokens satisfy another
//! implementation is shown by the TypeScript receiver in the end-to-end test.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::callback::token;
use shared::clock::random_nonce;
use shared::handoff::{CallbackRule, HANDOFF_TYPE, HandoffRule};
use shared::id::{CloudId, Kid, TenantId};
use shared::key::{Jwk, PrivateKey, PublicKey};
use shared::tenant::TriggerRule;
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

#[derive(Default)]
struct Inbox {
    callbacks: Vec<Callback>,
    replies: VecDeque<Reply>,
    steady: Option<Reply>,
    tenant_keys: HashMap<String, PublicKey>,
    deployment_keys: HashMap<String, PublicKey>,
    own_keys: Vec<(Kid, PublicKey)>,
    faults: Vec<String>,
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
    pub fn handoff_rule(&self) -> HandoffRule {
        let key = self.key.public_key().expect("a usable key");
        HandoffRule { keys: vec![(key.kid(), key)], ..Self::open_rule() }
    }

    /// Rules of a deployment in open mode, on loopback.
    #[must_use]
    pub fn open_rule() -> HandoffRule {
        HandoffRule {
            keys: Vec::new(),
            audience: BACKEND_URL.to_owned(),
            triggers: TriggerRule { hosts: Vec::new(), allow_loopback: true },
            callbacks: CallbackRule::default(),
        }
    }

    /// A fresh hand-off, valid for ten minutes from `now`.
    pub async fn handoff(&self, now: Timestamp) -> String {
        self.handoff_of("owner-1", now).await
    }

    /// The same for another person.
    pub async fn handoff_of(&self, owner: &str, now: Timestamp) -> String {
        let claims = json!({
            "iss": "ari:cloud:ecosystem::app/test", "aud": BACKEND_URL, "purpose": "register",
            "iat": now.as_second(), "exp": now.as_second() + 600, "jti": HEXLOWER.encode(&random_nonce()),
            "cloudId": self.cloud_id, "accountId": owner, "triggerUrl": self.trigger_url,
            "callbackUrl": "https://shop.atlassian.net/jira"
        });
        token::sign(HANDOFF_TYPE, &claims, self.key.as_ref()).await.expect("a signed hand-off")
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
        self.inbox().tenant_keys.insert(key.kid().to_string(), key.clone());
    }

    /// How many different tenant keys the app has been given.
    #[must_use]
    pub fn known_tenant_keys(&self) -> usize {
        self.inbox().tenant_keys.len()
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().expect("no test panicked inside")
    }
}

async fn receive(State(inbox): State<Arc<Mutex<Inbox>>>, headers: HeaderMap, body: Bytes) -> Response {
    let reply = {
        let mut inbox = inbox.lock().expect("no test panicked inside");
        match verify(&mut inbox, &headers, &body) {
            Ok((claims, body)) => {
                let steady = inbox.steady.clone().unwrap_or(ACCEPTED);
                let reply = inbox.replies.pop_front().unwrap_or(steady);
                inbox.callbacks.push(Callback { claims, body, reply: reply.clone() });
                reply
            }
            Err(fault) => {
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

fn verify(inbox: &mut Inbox, headers: &HeaderMap, body: &[u8]) -> Result<(Value, Value), String> {
    let token = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or("no bearer token")?;
    let message: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let register = message["action"] == "REGISTER";
    let keys = if register { &inbox.deployment_keys } else { &inbox.tenant_keys };
    let keys: Vec<_> = keys.values().map(|key| (key.kid(), key.clone())).collect();
    let claims: Value =
        token::verify(token, "forge-callback+jwt", &keys).map_err(|error| error.to_string())?;
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
            return Err(format!("{what} is wrong"));
        }
    }
    if register {
        // The app compares the service's owner with the hand-off that it signed itself.
        let handoff = message["handoff"]
            .as_str()
            .map(|token| token::verify::<Value>(token, HANDOFF_TYPE, &inbox.own_keys));
        if let Some(handoff) = handoff {
            let handoff = handoff.map_err(|error| error.to_string())?;
            if handoff["accountId"] != message["service"]["owner"] {
                return Err("service.owner is not the hand-off's".to_owned());
            }
        }
        let jwk: Jwk = serde_json::from_value(message["jwk"].clone()).map_err(|error| error.to_string())?;
        let key = PublicKey::from_jwk(&jwk).map_err(|error| error.to_string())?;
        inbox.tenant_keys.insert(key.kid().to_string(), key);
    }
    Ok((claims, message))
}
