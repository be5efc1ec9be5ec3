//! Every call to AWS fails once, in every way: the run ends with an error, and the next one finishes.

use rotate_keys::{RotateKeys, Summary};
use testing::faults::{Fault, Faults};

use crate::world::{World, scheduled};

#[tokio::test]
async fn a_next_key_is_made_and_renewed_whatever_call_fails() {
    let renewing = async || {
        let (world, ids) = World::with_old_keys(1).await;
        world.run(&world.function()).await;
        world.clock.advance(8 * 86_400);
        (world, ids)
    };
    let starting = async || World::with_old_keys(1).await;
    let calls =
        ["Query", "GetItem", "GenerateDataKeyPairWithoutPlaintext", "GetPublicKey", "Sign", "UpdateItem"];
    Box::pin(walk(starting, &calls)).await;
    Box::pin(walk(renewing, &["Query", "GetItem", "GetPublicKey", "Sign", "UpdateItem"])).await;
}

async fn walk(prepare: impl AsyncFn() -> (World, Vec<domain::id::TenantId>), expected_calls: &[&str]) {
    let run = async |world: &World, faults: &Faults| {
        let aws = world.aws.with_faults(faults);
        let function = RotateKeys {
            store: aws.store(),
            deployment_key: aws.deployment_key(),
            tenant_keys: aws.wrapping_key(),
            ..world.function()
        };
        Box::pin(function.handle(scheduled(), world.deadline())).await
    };
    let (world, _) = prepare().await;
    let none = Faults::none();
    run(&world, &none).await.unwrap();
    assert_eq!(none.operations(), expected_calls);

    for (index, name) in expected_calls.iter().enumerate() {
        for fault in Fault::ALL {
            let what = format!("{fault:?} at operation {index}, {name}");
            let (world, ids) = prepare().await;
            let before = world.tenant(&ids[0]).await;
            let faults = Faults::at(index, fault);
            assert!(run(&world, &faults).await.is_err(), "{what}");
            assert_eq!(faults.operations().len(), index + 1, "nothing is tried after {what}");
            let is_stored = *name == "UpdateItem" && fault == Fault::LostAnswer;
            assert_eq!(world.tenant(&ids[0]).await != before, is_stored, "{what}");

            // Lambda runs the same event once more.
            let again = run(&world, &Faults::none()).await.unwrap();
            let done = (again.started + again.renewed, again.under_way);
            assert_eq!(done, if is_stored { (0, 1) } else { (1, 0) }, "{what}: {again:?}");
            let tenant = world.tenant(&ids[0]).await;
            let next = tenant.web_trigger().next_key.clone().unwrap();
            // Whatever came first: the key beside the endorsement is the one that it names.
            let wrapping_key = world.aws.wrapping_key();
            let private = wrapping_key.unwrap_key(&next.key.wrapped, &tenant.key_context()).await.unwrap();
            assert_eq!(private.public_key().unwrap(), next.key.public, "{what}");
            assert_eq!(tenant.web_trigger().key, before.web_trigger().key, "{what}");
            let settled = run(&world, &Faults::none()).await.unwrap();
            assert_eq!(settled, Summary { tenants: 1, under_way: 1, ..Summary::default() }, "{what}");
        }
    }
}
