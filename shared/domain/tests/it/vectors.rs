//! The vectors of testdata/callback/vectors.json, which the TypeScript verifier reads as well.

use std::collections::HashMap;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use domain::handoff::{HandoffPolicy, Purpose, ReturnUrlPolicy};
use domain::id::{CloudId, Kid, ServiceId, TenantId};
use domain::jws::{self, JwsError};
use domain::key::{Jwk, PrivateKey, PublicKey, Sign as _};
use domain::tenant::TriggerPolicy;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

const VECTORS: &str = include_str!("../../../../testdata/callback/vectors.json");

fn vectors<T: DeserializeOwned>(part: &str) -> T {
    let mut document: Value = serde_json::from_str(VECTORS).unwrap();
    serde_json::from_value(document[part].take()).unwrap()
}

fn trusted(jwks: &[Jwk]) -> Vec<(Kid, PublicKey)> {
    let keys = jwks.iter().map(|jwk| PublicKey::from_jwk(jwk).unwrap());
    keys.map(|key| (key.kid(), key)).collect()
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Derivation {
    cloud_id: CloudId,
    trigger_url: String,
    tenant_id: TenantId,
    url: String,
    service_id: ServiceId,
}

#[test]
fn ids_are_derived_as_the_vectors_say() {
    let derivations: Vec<Derivation> = vectors("ids");
    assert!(derivations.len() >= 4);
    for case in derivations {
        let tenant = TenantId::derive(&case.cloud_id, &case.trigger_url);
        assert_eq!(tenant, case.tenant_id);
        assert_eq!(ServiceId::derive(&tenant, &case.url), case.service_id);
    }
}

#[derive(Deserialize)]
struct Keys {
    good: Vec<GoodKey>,
    bad: Vec<BadKey>,
}

#[derive(Deserialize)]
struct GoodKey {
    name: String,
    seed: String,
    message: String,
    signature: String,
    jwk: Jwk,
    kid: Kid,
}

#[derive(Deserialize)]
struct BadKey {
    name: String,
    jwk: Jwk,
}

#[tokio::test]
async fn the_keys_of_rfc_8032_sign_as_it_prints() {
    let keys: Keys = vectors("keys");
    assert!(keys.good.len() >= 4);
    for case in keys.good {
        let private = PrivateKey::from_seed(&bytes(&case.seed));
        let public = PublicKey::from_jwk(&case.jwk).unwrap();
        assert_eq!(private.public_key().unwrap(), public, "{}", case.name);
        assert_eq!(public.kid(), case.kid, "{}", case.name);
        let message = HEXLOWER.decode(case.message.as_bytes()).unwrap();
        let signature = bytes::<64>(&case.signature);
        assert_eq!(private.sign(&message).await.unwrap(), signature, "{}", case.name);
        assert!(public.verifies(&message, &signature), "{}", case.name);
    }
}

#[test]
fn keys_that_are_malformed_or_of_small_order_are_refused() {
    let keys: Keys = vectors("keys");
    assert!(keys.bad.len() >= 20);
    for case in keys.bad {
        assert!(PublicKey::from_jwk(&case.jwk).is_err(), "{}", case.name);
    }
}

#[derive(Deserialize)]
struct Callbacks {
    keys: HashMap<String, Vec<Jwk>>,
    cases: Vec<Callback>,
}

#[derive(Deserialize)]
struct Callback {
    name: String,
    token: String,
    scope: String,
    jws: String,
}

#[test]
fn callback_tokens_are_valid_under_the_keys_of_their_scope_only_as_the_vectors_say() {
    let callbacks: Callbacks = vectors("callbacks");
    assert!(callbacks.cases.len() >= 50);
    for case in callbacks.cases {
        let keys = callbacks.keys.get(&case.scope).map(|set| trusted(set)).unwrap_or_default();
        let verdict = match jws::verify::<Map<String, Value>>(&case.token, "forge-callback+jwt", &keys) {
            Ok(_) => "Valid",
            Err(JwsError::Shape) => "Shape",
            Err(JwsError::Header) => "Header",
            Err(JwsError::Key) => "Key",
            Err(JwsError::Signature) => "Signature",
            Err(JwsError::Claims) => "Claims",
        };
        assert_eq!(verdict, case.jws, "{}", case.name);
    }
}

#[tokio::test]
async fn our_signature_over_a_good_token_is_the_vectors_own() {
    let keys: Keys = vectors("keys");
    let callbacks: Callbacks = vectors("callbacks");
    let mut compared = 0;
    for case in callbacks.cases.iter().filter(|case| case.jws == "Valid") {
        let (input, signature) = case.token.rsplit_once('.').unwrap();
        let x = &callbacks.keys[&case.scope][0].x;
        let signer = keys.good.iter().find(|key| &key.jwk.x == x).unwrap();
        let key = PrivateKey::from_seed(&bytes(&signer.seed));
        let ours = BASE64URL_NOPAD.encode(&key.sign(input.as_bytes()).await.unwrap());
        assert_eq!(ours, signature, "{}", case.name);
        compared += 1;
    }
    assert!(compared >= 20, "{compared}");
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Handoffs {
    backend_url: String,
    key: Jwk,
    cases: Vec<HandoffCase>,
    managements: Vec<HandoffCase>,
}

#[derive(Deserialize)]
struct HandoffCase {
    name: String,
    token: String,
    at: i64,
    backend: String,
}

#[test]
fn handoffs_are_accepted_only_as_the_vectors_say() {
    let handoffs: Handoffs = vectors("handoffs");
    assert!(handoffs.cases.len() >= 35 && handoffs.managements.len() >= 25);
    let rule = HandoffPolicy {
        keys: trusted(&[handoffs.key]),
        audience: handoffs.backend_url,
        triggers: TriggerPolicy::default(),
        return_urls: ReturnUrlPolicy::default(),
    };
    let judge = |case: HandoffCase, purpose| {
        let token = Some(case.token.as_str());
        let now = Timestamp::from_second(case.at).unwrap();
        let read = match purpose {
            Purpose::Register => rule.read(token, now),
            Purpose::Manage => rule.read_management(token, now).map(|management| management.handoff),
        };
        let verdict = match read {
            Ok(handoff) if handoff.is_late(now) => "late",
            Ok(_) => "accepted",
            Err(error) => error.code(),
        };
        assert_eq!(verdict, case.backend, "{}", case.name);
    };
    for case in handoffs.cases {
        judge(case, Purpose::Register);
    }
    for case in handoffs.managements {
        judge(case, Purpose::Manage);
    }
}
