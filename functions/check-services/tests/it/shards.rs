//! Fan-out, remainder and resume are one concept: shards.

use check_services::InvocationError;
use check_services::event::{CHECK_RANGE, Event, VERDICTS_HELD};
use domain::check::{Check, Observation};
use domain::target_url::TargetPolicy;
use probe::{Attempt, Probe, TenantQuota};

use crate::world::World;

#[tokio::test]
async fn too_many_tenants_are_handed_on_as_ranges_that_cover_each_once() {
    let (world, apps) = World::with_tenants(5).await;
    let mut function = world.function();
    function.settings.tenants_per_invocation = 2;
    let summary = world.tick(&function).await;
    assert_eq!((summary.requeued, summary.accepted), (3, 0));

    let shards = world.shards();
    // At least once, and in any order: each tenant is still told once.
    for shard in shards.iter().rev().chain(&shards) {
        function.handle(Event::Shard { detail: shard.clone() }, world.deadline()).await.unwrap();
    }
    for app in &apps {
        assert_eq!(app.received("UPDATE").len(), 1);
    }
}

#[tokio::test]
async fn a_lost_range_costs_its_tenants_that_tick_and_nobody_else_anything() {
    let (world, mut apps) = World::with_tenants(2).await;
    let mut function = world.function();
    function.settings.tenants_per_invocation = 1;
    let tick = async |lost: Option<usize>| {
        world.bus.clear();
        assert_eq!(world.next_tick(&function).await.requeued, 2);
        let shards = world.shards();
        for (_, shard) in shards.into_iter().enumerate().filter(|(index, _)| Some(*index) != lost) {
            function.handle(Event::Shard { detail: shard }, world.deadline()).await.unwrap();
        }
    };
    tick(None).await;
    tick(Some(1)).await;
    tick(None).await;
    let missed = |app: &testing::forge_app::ForgeApp| -> Vec<_> {
        app.received("UPDATE").iter().map(|update| update.body["missedTicks"].as_u64()).collect()
    };
    apps.sort_by_key(testing::forge_app::ForgeApp::tenant_id);
    assert_eq!(missed(&apps[0]), [None, None, None]);
    assert_eq!(missed(&apps[1]), [None, Some(1)]);
}

#[tokio::test]
async fn what_there_is_no_time_for_is_handed_on_until_the_next_tick_covers_it() {
    let world = World::with_one_service().await;
    let function = world.function();
    let soon = domain::clock::Clock::now(&world.clock) + jiff::SignedDuration::from_secs(44);
    let summary = function.handle(world.scheduled(), soon).await.unwrap();
    assert_eq!((summary.accepted, summary.requeued), (0, 1));
    let rest = world.shards().remove(0);
    assert_eq!((rest.generation, rest.after.clone()), (1, None));
    let summary = function.handle(Event::Shard { detail: rest.clone() }, world.deadline()).await.unwrap();
    assert_eq!(summary.accepted, 1);

    // Too many hops, or the next tick has begun: nothing is requeued any more.
    let tired = check_services::event::Shard { generation: 5, ..rest.clone() };
    let summary = function.handle(Event::Shard { detail: tired }, soon).await.unwrap();
    assert_eq!(summary.requeued, 0);
    world.clock.advance(300);
    let soon = soon + jiff::SignedDuration::from_secs(300);
    let summary = function.handle(Event::Shard { detail: rest }, soon).await.unwrap();
    assert_eq!(summary.requeued, 0);
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_none() {
    // `cargo lambda watch` counts the milliseconds of its deadline from 1970.
    let world = World::with_one_service().await;
    let long_ago = "1970-01-01T00:10:00Z".parse().unwrap();
    let summary = world.function().handle(world.scheduled(), long_ago).await.unwrap();
    assert_eq!((summary.accepted, summary.requeued, summary.not_started), (1, 0, 0));
}

#[tokio::test]
async fn starts_are_spread_over_the_period_and_the_results_name_the_tick() {
    let (world, apps) = World::with_tenants(5).await;
    let mut function = world.function();
    function.settings.period = domain::tick::Period::from_minutes(1).unwrap();
    let pace = async |function: &crate::world::Deployed| {
        let begin = std::time::Instant::now();
        world.next_tick(function).await;
        begin.elapsed()
    };
    // Five tenants need not fill the 600 ms that they might: each begins 20 ms after the one before.
    function.settings.spread_percent = 1;
    assert!(pace(&function).await >= std::time::Duration::from_millis(4 * 20));
    function.settings.spread_percent = 0;
    pace(&function).await;
    for app in &apps {
        let updates = app.received("UPDATE");
        let ticks: Vec<_> = updates.iter().map(|update| &update.body["tick"]).collect();
        assert_eq!(ticks, ["2026-11-22T10:10:00Z", "2026-11-22T10:15:00Z"]);
        assert!(updates.iter().all(|update| {
            let claims: &serde_json::Value = &update.claims["jti"];
            claims.as_str().unwrap().ends_with(update.body["tick"].as_str().unwrap())
        }));
    }
}

/// Never comes back: an endpoint, and a probe, that hold on to everything.
struct Hanging;

impl Probe for Hanging {
    async fn probe(&self, _: &Check, _: &TenantQuota, _: Attempt) -> Observation {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_tenant_that_hangs_is_cut_off_and_the_rest_handed_on_in_time() {
    let (world, apps) = World::with_tenants(31).await;
    let function = world.function_with(world.callbacks(), Hanging);
    // A fifth of a second until no tenant is started any more, and 25 more until probing ends.
    let deadline = domain::clock::Clock::now(&world.clock) + jiff::SignedDuration::from_millis(45_200);
    let summary = function.handle(world.scheduled(), deadline).await.unwrap();
    assert!(summary.accepted > 0 && summary.not_started > 0, "{summary:?}");
    assert_eq!((summary.accepted + summary.not_started, summary.requeued, summary.alive), (31, 1, 0));
    // Not seen is no verdict: the status stays what it was.
    let told: Vec<_> = apps.iter().flat_map(|app| app.received("UPDATE")).collect();
    assert_eq!(told.len(), summary.accepted);
    assert!(told.iter().all(|update| update.body["services"][0]["status"] == "UNKNOWN"));
    // Who was not started is in the shard that was requeued, and nobody else is.
    let function = world.function();
    let rest = world.shards().remove(0);
    let resumed = function.handle(Event::Shard { detail: rest }, world.deadline()).await.unwrap();
    assert_eq!((resumed.accepted, resumed.skipped), (summary.not_started, 0));
}

#[tokio::test]
async fn a_rest_that_cannot_be_handed_on_fails_the_invocation_after_all_else_is_done() {
    let (world, _apps) = World::with_tenants(31).await;
    world.tick(&world.function()).await;
    world.target.answer(500);
    world.bus.refuse(&[CHECK_RANGE]);
    let mut function = world.function();
    // Nothing listens there: an outage of our own.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable =
        TargetPolicy::public(vec![], vec![]).allow_loopback().target(&format!("http://{nobody}/")).unwrap();
    function.settings.controls = vec![Check::get(unreachable)];
    world.clock.advance(300);
    // A fifth of a second until no tenant is started any more.
    let deadline = domain::clock::Clock::now(&world.clock) + jiff::SignedDuration::from_millis(45_200);
    let ended = function.handle(world.scheduled(), deadline).await;
    assert!(matches!(ended, Err(InvocationError::Requeue(_))), "{ended:?}");
    let suppressed = world.bus.published(VERDICTS_HELD);
    assert!(
        matches!(&suppressed[..], [announced] if announced["services"].as_u64() > Some(0)),
        "{suppressed:?}"
    );
}
