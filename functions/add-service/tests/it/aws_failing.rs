//! Every call to AWS fails once, in every way: the person gets a clear answer, and the same request again finishes.

use domain::clock::Clock as _;
use domain::id::ServiceId;
use domain::service::Lifecycle;
use domain::tenant::TenantStatus;
use serde_json::{Value, json};
use testing::faults::{Fault, Faults};

use crate::world::{MANAGE_JSON, World, changed, document, json_request, text};

/// What a registration leaves behind: tenant, and each service with what the app was told of it.
async fn left_behind(world: &World) -> (TenantStatus, Vec<(String, Lifecycle, bool)>, usize) {
    let stored = world.aws.store().find(&world.app.tenant_id(), world.clock.now()).await.unwrap().unwrap();
    let registers = world.app.received("REGISTER");
    let mut services: Vec<_> = stored
        .services
        .iter()
        .map(|service| {
            let told = registers.iter().any(|register| register.body["service"]["id"] == service.id.as_str());
            (service.name.to_string(), service.lifecycle, told && service.first.is_some())
        })
        .collect();
    services.sort_by(|a, b| a.0.cmp(&b.0));
    // A key that KMS made and nobody stored is not among those that the app knows.
    (stored.tenant.status, services, world.app.known_tenant_keys())
}

/// Registers `paths` without faults, then `path` with one; and once more without.
async fn walk(before: &[&str], path: &str, expected_calls: &[&str]) {
    Box::pin(walk_all(before, path, expected_calls)).await;
}

async fn walk_all(before: &[&str], path: &str, expected_calls: &[&str]) {
    let prepare = async || {
        let world = World::start().await;
        for path in before {
            let response = world.function().handle(json_request(&world.wish(path).await)).await;
            assert_eq!(response.status(), 201, "{}", text(&response));
        }
        let wish: Value = world.wish(path).await;
        (world, wish)
    };
    let (world, wish) = prepare().await;
    let none = Faults::none();
    let finished = Box::pin(world.function_with_faults(&none).handle(json_request(&wish))).await.status();
    assert_eq!(none.operations(), expected_calls);
    let without_fault = left_behind(&world).await;

    for (index, name) in expected_calls.iter().enumerate() {
        for fault in Fault::ALL {
            let what = format!("{fault:?} at operation {index}, {name}");
            let (world, wish) = prepare().await;
            let faults = Faults::at(index, fault);
            let response = Box::pin(world.function_with_faults(&faults).handle(json_request(&wish))).await;
            let problem = document(&response);
            if fault == Fault::Refused {
                assert_eq!(
                    (response.status().as_u16(), &problem["code"]),
                    (500, &"INTERNAL".into()),
                    "{what}"
                );
            } else {
                assert_eq!(
                    (response.status().as_u16(), &problem["code"]),
                    (503, &"UNAVAILABLE".into()),
                    "{what}"
                );
                assert!(response.headers().contains_key("retry-after"), "{what}");
            }
            assert_eq!(faults.operations().len(), index + 1, "nothing is tried after {what}");

            let again = world.function().handle(json_request(&wish)).await;
            // The last one activates.
            let already = index == expected_calls.len() - 1 && fault == Fault::LostAnswer;
            let expected = if already { 200 } else { finished.as_u16() };
            assert_eq!(again.status(), expected, "{what}: {}", text(&again));
            assert_eq!(left_behind(&world).await, without_fault, "{what}");
        }
    }
}

#[tokio::test]
async fn the_first_registration_of_a_site_is_finished_by_the_same_request() {
    let calls = [
        "GetItem",
        "UpdateItem",
        "Query",
        "GenerateDataKeyPairWithoutPlaintext",
        "TransactWriteItems",
        "GetPublicKey",
        "Sign",
        "TransactWriteItems",
    ];
    walk(&[], "a", &calls).await;
}

#[tokio::test]
async fn a_further_registration_is_finished_by_the_same_request() {
    walk(
        &["a"],
        "b",
        &[
            "GetItem",
            "UpdateItem",
            "Query",
            "TransactWriteItems",
            "GetPublicKey",
            "Sign",
            "TransactWriteItems",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_repeated_registration_is_finished_by_the_same_request() {
    walk(
        &["a", "b"],
        "a",
        &[
            "GetItem",
            "UpdateItem",
            "Query",
            "TransactWriteItems",
            "GetPublicKey",
            "Sign",
            "TransactWriteItems",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_change_is_finished_by_the_same_request() {
    let calls = ["GetItem", "Query", "TransactWriteItems"];
    for (index, name) in calls.iter().enumerate() {
        for fault in Fault::ALL {
            for change in ["remove", "pause"] {
                let what = format!("{change}: {fault:?} at operation {index}, {name}");
                let world = World::start().await;
                let added = world.function().handle(json_request(&world.wish("a").await)).await;
                let id = ServiceId::parse(document(&added)["service"]["id"].as_str().unwrap()).unwrap();
                let handoff = world.app.management(change, &id, world.clock.now()).await;
                let request = || {
                    let body = json!({ "handoff": handoff }).to_string();
                    changed(MANAGE_JSON, |event| event["body"] = json!(body))
                };
                let faults = Faults::at(index, fault);
                let response = Box::pin(world.function_with_faults(&faults).handle(request())).await;
                let expected = if fault == Fault::Refused { 500 } else { 503 };
                assert_eq!(response.status(), expected, "{what}");
                assert_eq!(response.headers().contains_key("retry-after"), expected == 503, "{what}");
                assert_eq!(faults.operations(), calls[..=index], "nothing is tried after {what}");

                let again = world.function().handle(request()).await;
                assert_eq!(again.status(), 200, "{what}: {}", text(&again));
                let (_, services, _) = left_behind(&world).await;
                let left: Vec<_> = services.iter().map(|(_, activity, _)| *activity).collect();
                let expected = if change == "remove" { vec![] } else { vec![Lifecycle::Paused] };
                assert_eq!(left, expected, "{what}");
            }
        }
    }
}
