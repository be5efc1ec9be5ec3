//! Every path of a tick leaves its line, and no line holds a secret. A test binary of its own, as in add-service.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is the test's failure")]

use check_services::event::Event;
use data_encoding::BASE64URL_NOPAD;
use jiff::Timestamp;
use shared::store::Checks as _;
use shared::store::dynamo::DynamoStore;
use shared_testing::forge_app::{ACCEPTED, Reply};
use shared_testing::log::Log;

#[path = "../it/world.rs"]
#[expect(dead_code, reason = "shared with the other tests")]
mod world;

use world::World;

#[tokio::test]
async fn every_path_is_logged_and_no_secret_is() {
    let world = World::start().await;
    world.add(&world.app, "secret-path?token=secret-query").await;
    let wrapped = world.watched(&world.app).await.unwrap().tenant.wrapped_key;
    let log = Log::collect();
    let mut function = world.function();
    for (reply, message) in [
        (ACCEPTED, "tenant checked"),
        (Reply::Code(401, "UNAUTHORIZED"), "the app refuses our callback"),
        (Reply::Code(403, "UNREGISTERED"), "callback not accepted"),
        (Reply::Platform(404), "no answer of the app's own"),
    ] {
        world.app.answer_always(reply);
        world.target.answer(500);
        world.next_tick(&function).await;
        assert!(log.text().contains(message), "{message} is missing:\n{}", log.text());
    }
    // An app that accepts again is told twice, then once an hour.
    world.app.answer_always(ACCEPTED);
    function.settings.callback_mode = shared::config::CallbackMode::OnChange;
    for _ in 0..4 {
        world.next_tick(&function).await;
    }
    let is_quiet = |line: &str| line.contains("tenant checked") && line.contains("NOT_NEEDED");
    assert!(log.text().lines().any(is_quiet), "a quiet tick has its line:\n{}", log.text());
    function.settings.callback_mode = shared::config::CallbackMode::EveryTick;
    world.app.answer_always(Reply::Platform(404));
    world.next_tick(&function).await;
    *world.bus.deaf.lock().unwrap() = true;
    world.target.answer(200);
    world.next_tick(&function).await;
    world.clock.advance(25 * 3600);
    world.tick(&function).await;
    world.clock.advance(-3600);
    let future = Event::Scheduled { time: Timestamp::MAX };
    function.handle(future, world.deadline()).await.unwrap();
    function.settings.triggers.allow_loopback = false;
    world.clock.advance(2 * 24 * 3600);
    for _ in 0..288 {
        world.next_tick(&function).await;
    }
    function.store = DynamoStore::new(world.aws.dynamo(), "no-such-table".to_owned());
    function.handle(world.scheduled(), world.deadline()).await.unwrap_err();
    assert!(function.store.mark(&world.app.tenant_id(), shared::tenant::TenantStatus::Active).await.is_err());
    for message in [
        "service is not alive",
        "tick done",
        "changes of status could not be announced",
        "tenant suspended",
        "tick refused",
        "the stored trigger is not allowed",
    ] {
        assert!(log.text().contains(message), "{message} is missing:\n{}", log.text());
    }
    let trigger_id = world.app.trigger_url.rsplit('/').next().unwrap();
    let wrapped = BASE64URL_NOPAD.encode(wrapped.as_bytes());
    log.assert_without(&[
        &world.app.trigger_url,
        trigger_id,
        &wrapped,
        "eyJ",
        "Bearer",
        "secret-path",
        "secret-query",
    ]);
}
