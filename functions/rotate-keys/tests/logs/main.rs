//! Every path of a run leaves its line, and no line holds a secret. A test binary with one test, as in add-service.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is the test's failure")]

use data_encoding::BASE64URL_NOPAD;
use domain::clock::Clock as _;
use jiff::SignedDuration;
use serde_json::json;
use testing::log::Log;

#[path = "../it/world.rs"]
mod world;

use world::{World, scheduled};

#[tokio::test]
async fn every_path_is_logged_and_no_secret_is() {
    let mut log = Log::collect();
    let (world, ids) = World::with_old_keys(1).await;
    let function = world.function();
    world.run(&function).await;
    let next = world.tenant(&ids[0]).await.web_trigger().next_key.clone().unwrap();
    log.expect(
        "a run",
        &[
            json!({ "level": "INFO", "message": "next tenant key endorsed", "tenant.id": ids[0],
                    "key.id": next.key.public.kid() }),
            json!({ "level": "INFO", "message": "keys rotated", "tenants": 1, "tenants.left": 0,
                    "tenants.corrupt": 0, "keys.started": 1, "keys.renewed": 0, "keys.under_way": 0 }),
        ],
    );

    let soon = world.clock.now() + SignedDuration::from_secs(45);
    function.handle(scheduled(), soon).await.unwrap();
    let late = "out of time; the next run comes to the rest";
    log.expect("out of time", &[json!({ "level": "WARN", "message": late, "tenants.left": 1 })]);

    let text = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
    let spoil = world.aws.dynamo().update_item().table_name(&world.aws.table);
    let spoil = spoil.key("pk", text(&format!("TENANT#{}", ids[0]))).key("sk", text("TENANT"));
    let spoil =
        spoil.update_expression("SET cloudId = :c").expression_attribute_values(":c", text("secret-cloud"));
    spoil.send().await.unwrap();
    world.run(&function).await;
    log.expect("a damaged record", &[json!({ "level": "ERROR", "message": "tenant passed over" })]);

    let kms = aws_sdk_kms::Client::new(&world.aws.settings);
    kms.disable_key().key_id(&world.aws.wrapping_key_id).send().await.unwrap();
    let (disabled, _) = World::with_old_keys(1).await;
    let mut function = disabled.function();
    function.tenant_keys = world.aws.wrapping_key();
    function.handle(scheduled(), disabled.deadline()).await.unwrap_err();
    // The runtime logs what is returned.
    log.expect("a disabled key", &[]);

    log.assert_without(&[
        "secret-trigger",
        "/x1/",
        "eyJ",
        "Bearer",
        &BASE64URL_NOPAD.encode(next.key.wrapped.as_bytes()),
    ]);
}
