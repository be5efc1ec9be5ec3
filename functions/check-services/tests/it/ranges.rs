//! Fan-out, remainder and resume are one concept: ranges handed on.

use check_services::bus::{BusError, Publish};
use check_services::event::{Event, Shard, StatusChanged, VerdictsSuppressed};
use check_services::{CheckServices, InvocationError};
use domain::check::{Check, Observation};
use domain::target_url::TargetPolicy;
use probe::{Attempt, Probe, TenantQuota};

use crate::world::{Bus, World};

#[tokio::test]
async fn too_many_tenants_are_handed_on_as_ranges_that_cover_each_once() {
    let (world, apps) = World::with_tenants(5).await;
    let mut function = world.function();
    function.settings.tenants_per_invocation = 2;
    let summary = world.tick(&function).await;
    assert_eq!((summary.requeued, summary.accepted), (3, 0));

    let ranges = world.bus.ranges.lock().unwrap().clone();
    // At least once, and in any order: each tenant is still told once.
    for range in ranges.iter().rev().chain(&ranges) {
        function.handle(Event::Shard { detail: range.clone() }, world.deadline()).await.unwrap();
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
        world.bus.ranges.lock().unwrap().clear();
        assert_eq!(world.next_tick(&function).await.requeued, 2);
        let ranges = world.bus.ranges.lock().unwrap().clone();
        for (_, range) in ranges.into_iter().enumerate().filter(|(index, _)| Some(*index) != lost) {
            function.handle(Event::Shard { detail: range }, world.deadline()).await.unwrap();
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
    let rest = world.bus.ranges.lock().unwrap()[0].clone();
    assert_eq!((rest.generation, rest.after.clone()), (1, None));
    let summary = function.handle(Event::Shard { detail: rest.clone() }, world.deadline()).await.unwrap();
    assert_eq!(summary.accepted, 1);

    // Too many hops, or the next tick has begun: nothing is handed on any more.
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
    let deployed = world.function();
    let function = CheckServices {
        probe: Hanging,
        store: deployed.store,
        keys: deployed.keys,
        callbacks: deployed.callbacks,
        bus: deployed.bus,
        clock: deployed.clock,
        metrics: deployed.metrics,
        settings: deployed.settings,
    };
    // A fifth of a second until no tenant is started any more, and 25 more until probing ends.
    let deadline = domain::clock::Clock::now(&world.clock) + jiff::SignedDuration::from_millis(45_200);
    let summary = function.handle(world.scheduled(), deadline).await.unwrap();
    assert!(summary.accepted > 0 && summary.not_started > 0, "{summary:?}");
    assert_eq!((summary.accepted + summary.not_started, summary.requeued, summary.alive), (31, 1, 0));
    // Not seen is no verdict: the status stays what it was.
    let told: Vec<_> = apps.iter().flat_map(|app| app.received("UPDATE")).collect();
    assert_eq!(told.len(), summary.accepted);
    assert!(told.iter().all(|update| update.body["services"][0]["status"] == "UNKNOWN"));
    // Who was not started is in the range that was handed on, and nobody else is.
    let function = world.function();
    let rest = world.bus.ranges.lock().unwrap()[0].clone();
    let resumed = function.handle(Event::Shard { detail: rest }, world.deadline()).await.unwrap();
    assert_eq!((resumed.accepted, resumed.skipped), (summary.not_started, 0));
}

/// Takes no ranges, but everything else.
struct NoRanges(Bus);

impl Publish for NoRanges {
    async fn ranges(&self, ranges: &[Shard]) -> Result<(), BusError> {
        Err(BusError::Rejected(ranges.len()))
    }

    async fn suppressed(&self, suppressed: &VerdictsSuppressed) -> Result<(), BusError> {
        self.0.suppressed(suppressed).await
    }

    async fn changes(&self, changes: &[StatusChanged]) -> Result<(), BusError> {
        self.0.changes(changes).await
    }
}

#[tokio::test]
async fn a_rest_that_cannot_be_handed_on_fails_the_invocation_after_all_else_is_done() {
    let (world, _apps) = World::with_tenants(31).await;
    world.tick(&world.function()).await;
    world.target.answer(500);
    let deployed = world.function();
    let mut settings = deployed.settings;
    // Nothing listens there: an outage of our own.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable =
        TargetPolicy::public(vec![], vec![]).allow_loopback().target(&format!("http://{nobody}/")).unwrap();
    settings.controls = vec![Check::get(unreachable)];
    let function = CheckServices {
        bus: NoRanges(deployed.bus),
        probe: deployed.probe,
        store: deployed.store,
        keys: deployed.keys,
        callbacks: deployed.callbacks,
        clock: deployed.clock,
        metrics: deployed.metrics,
        settings,
    };
    world.clock.advance(300);
    // A fifth of a second until no tenant is started any more.
    let deadline = domain::clock::Clock::now(&world.clock) + jiff::SignedDuration::from_millis(45_200);
    let ended = function.handle(world.scheduled(), deadline).await;
    assert!(matches!(ended, Err(InvocationError::Requeue(_))), "{ended:?}");
    let suppressed = world.bus.suppressed.lock().unwrap();
    assert!(matches!(&suppressed[..], [announced] if announced.services > 0), "{suppressed:?}");
}
