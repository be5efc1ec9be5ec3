//! Every path leaves its line, and no line holds a secret.
//!
//! A test binary of its own: `tracing` remembers per process whether a call site has a listener, and tests beside this
//! one would have it remember that nobody listens.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is the test's failure")]

use data_encoding::BASE64URL_NOPAD;
use serde_json::json;
use shared::clock::Clock as _;
use shared::config::ServiceLimits;
use shared::store::Registrations as _;
use shared::store::dynamo::DynamoStore;
use shared_testing::forge_app::Reply;
use shared_testing::log::Log;

#[path = "../it/world.rs"]
#[expect(dead_code, reason = "shared with the other tests")]
mod world;

use world::{World, json_request};

#[tokio::test]
async fn every_path_is_logged_and_no_secret_is() {
    let world = World::start().await;
    let log = Log::collect();
    let limits = ServiceLimits { per_tenant: 2, per_owner: 1 };
    let function = world.function_with(world.app.handoff_rule(), limits);
    let first = world.wish("secret-path-1?token=secret-query").await;
    let mut used = first.clone();
    used["url"] = json!(world.target.url("secret-path-2"));
    let mut forged = first.clone();
    forged["handoff"] = json!(format!("{}A", first["handoff"].as_str().unwrap()));
    let mut local = world.wish("").await;
    local["url"] = json!("http://10.1.2.3/secret-path-3");
    let another = world.wish("secret-path-4").await;
    for (reply, wish, status, message) in [
        (Some(Reply::Code(401, "UNAUTHORIZED")), &first, 502, "REGISTER sent"),
        (Some(Reply::Code(403, "HANDOFF_INVALID")), &first, 403, "registration not carried out"),
        (None, &first, 201, "service registered"),
        (None, &used, 401, "used for another service"),
        (None, &forged, 401, "hand-off refused"),
        (None, &local, 403, "TARGET_NOT_ALLOWED"),
        (None, &another, 409, "service limit reached"),
    ] {
        world.app.answer_next(reply);
        let response = function.handle(json_request(wish)).await;
        assert_eq!(response.status(), status, "{message}");
        assert!(log.text().contains(message), "{message} is missing:\n{}", log.text());
    }
    let mut broken = world.function();
    broken.store = DynamoStore::new(world.aws.dynamo(), "no-such-table".to_owned());
    assert_eq!(broken.handle(json_request(&another)).await.status(), 500);
    assert!(log.text().contains("registration failed") && log.text().contains("tenant key made"));

    let stored = world.aws.store().find(&world.app.tenant_id(), world.clock.now()).await.unwrap().unwrap();
    let wrapped = BASE64URL_NOPAD.encode(stored.tenant.wrapped_key.as_bytes());
    let trigger_id = world.app.trigger_url.rsplit('/').next().unwrap();
    log.assert_without(&[
        &world.app.trigger_url,
        trigger_id,
        &wrapped,
        first["handoff"].as_str().unwrap(),
        "eyJ",
        "Bearer",
        "secret-path",
        "secret-query",
        "Mozilla",
        "shop.atlassian.net",
        "Service secret",
    ]);
}
