//! What each answer of the trigger leads to.

use std::time::Duration;

use aws::store::Store;
use aws::system::SystemClock;
use callback::{Callback, Deliver as _, HttpCallbacks, RetryPolicy, deliver};
use check_services::InvocationError;
use domain::response::CallbackResponse;
use domain::service::Thresholds;
use domain::snapshot::FailureStreak;
use domain::tenant::{TenantStatus, TriggerPolicy};
use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::json;
use testing::aws_server::AwsServer;
use testing::forge_app::{ACCEPTED, Reply};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::World;

#[tokio::test]
async fn each_answer_of_the_table_has_its_effect() {
    for (reply, attempts, acknowledged, failing, status) in [
        (ACCEPTED, 1, true, false, TenantStatus::Active),
        (Reply::Code(200, "DUPLICATE"), 1, true, false, TenantStatus::Active),
        (Reply::Code(400, "BAD_REQUEST"), 1, false, true, TenantStatus::Active),
        (Reply::Code(413, "TOO_LARGE"), 1, false, true, TenantStatus::Active),
        (Reply::Code(401, "UNAUTHORIZED"), 1, false, true, TenantStatus::Active),
        (Reply::Code(403, "UNREGISTERED"), 1, false, true, TenantStatus::Unregistered),
        (Reply::Code(409, "KEY_CONFLICT"), 1, false, true, TenantStatus::Active),
        (Reply::Code(412, "STALE_TICK"), 1, false, false, TenantStatus::Active),
        (Reply::Platform(404), 1, false, true, TenantStatus::Active),
        (Reply::Platform(410), 1, false, true, TenantStatus::Active),
    ] {
        let world = World::with_one_service().await;
        world.app.answer_always(reply.clone());
        world.tick(&world.function()).await;
        let watched = world.watched(&world.app).await.unwrap();
        assert_eq!(world.app.received("UPDATE").len(), attempts, "{reply:?}");
        assert_eq!(watched.state.acked_tick.is_some(), acknowledged, "{reply:?}");
        assert_eq!(watched.failures.failing_since.is_some(), failing, "{reply:?}");
        assert_eq!(watched.tenant.status, status, "{reply:?}");
    }
}

#[tokio::test]
async fn passing_faults_are_retried_within_the_tick() {
    for fault in [
        Reply::Code(503, "NOT_CONFIGURED"),
        Reply::Code(503, "RETRY"),
        Reply::Platform(424),
        Reply::Platform(429),
        Reply::Platform(500),
        Reply::Platform(200),
    ] {
        let world = World::with_one_service().await;
        world.app.answer_next(vec![fault.clone()]);
        let summary = world.tick(&world.function()).await;
        assert_eq!((summary.accepted, world.app.received("UPDATE").len()), (1, 2), "{fault:?}");
        assert_eq!(world.watched(&world.app).await.unwrap().failures, FailureStreak::default(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_trigger_that_hangs_delays_nobody_else() {
    let world = World::with_one_service().await;
    let other = world.another_app().await;
    world.add(&other, "b").await;
    world.app.answer_always(Reply::Hang);
    let function = world.function();
    let tick = world.tick(&function);
    tokio::pin!(tick);
    // The other tenant is told while this one still hangs.
    let told = async {
        while other.received("UPDATE").is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = &mut tick => panic!("a hanging trigger cannot be done before the other one is told"),
        () = told => {}
    }
    assert_eq!(tick.await.not_accepted, 1);
}

#[tokio::test]
async fn an_unregistered_tenant_is_checked_on_and_heals_when_the_app_accepts() {
    let world = World::with_one_service().await;
    let function = world.function();
    world.app.answer_next(vec![Reply::Code(403, "UNREGISTERED")]);
    world.tick(&function).await;
    assert_eq!(world.watched(&world.app).await.unwrap().tenant.status, TenantStatus::Unregistered);
    world.next_tick(&function).await;
    let watched = world.watched(&world.app).await.unwrap();
    assert_eq!((watched.tenant.status, watched.failures), (TenantStatus::Active, FailureStreak::default()));
    assert_eq!(world.target.asked(), 2);
}

#[tokio::test]
async fn a_trigger_gone_for_a_day_suspends_and_one_answer_a_day_revives() {
    let world = World::with_one_service().await;
    let function = world.function();
    world.app.answer_always(Reply::Platform(404));
    world.tick(&function).await;
    world.clock.advance(24 * 3600 - 300);
    world.tick(&function).await;
    assert_eq!(
        world.watched(&world.app).await.unwrap().tenant.status,
        TenantStatus::Active,
        "not quite a day"
    );
    world.next_tick(&function).await;
    assert_eq!(world.watched(&world.app).await.unwrap().tenant.status, TenantStatus::Suspended);

    // One UPDATE in all 288 ticks of a day, and not one check.
    let (updates, asked) = (world.app.received("UPDATE").len(), world.target.asked());
    for _ in 0..288 {
        world.next_tick(&function).await;
    }
    assert_eq!((world.app.received("UPDATE").len() - updates, world.target.asked() - asked), (1, 0));

    world.app.answer_always(ACCEPTED);
    for _ in 0..288 {
        world.next_tick(&function).await;
    }
    assert_eq!(world.watched(&world.app).await.unwrap().tenant.status, TenantStatus::Active);
    assert!(world.target.asked() > asked);
    world.clock.advance(40 * 24 * 3600);
    assert!(world.watched(&world.app).await.is_some(), "revived for good");
}

#[tokio::test]
async fn a_suspended_tenant_is_forgotten_after_thirty_days() {
    let world = World::with_one_service().await;
    let function = world.function();
    world.app.answer_always(Reply::Platform(404));
    world.tick(&function).await;
    world.clock.advance(24 * 3600);
    world.tick(&function).await;
    // The daily tick changes nothing of it.
    for _ in 0..288 {
        world.next_tick(&function).await;
    }
    world.clock.advance(29 * 24 * 3600 - 1);
    assert!(world.watched(&world.app).await.is_some());
    world.clock.advance(2);
    assert!(world.watched(&world.app).await.is_none());
    for item in world.items(&world.app).await {
        assert!(item.contains_key("expires_at"), "{:?} stays for ever", item["sk"]);
    }
}

#[tokio::test]
async fn nobody_is_suspended_for_a_fault_that_many_share() {
    let world = World::with_one_service().await;
    let function = world.function();
    let mut apps = vec![world.app.clone()];
    for _ in 0..4 {
        let app = world.another_app().await;
        world.add(&app, "a").await;
        apps.push(app);
    }
    for app in &apps {
        app.answer_always(Reply::Platform(404));
    }
    world.tick(&function).await;
    world.clock.advance(25 * 3600);
    world.tick(&function).await;
    for app in &apps {
        assert_eq!(world.watched(app).await.unwrap().tenant.status, TenantStatus::Active);
    }
    // One of five is his own fault.
    for app in &apps[1..] {
        app.answer_always(ACCEPTED);
    }
    world.next_tick(&function).await;
    assert_eq!(world.watched(&world.app).await.unwrap().tenant.status, TenantStatus::Suspended);
}

#[tokio::test]
async fn a_forgotten_tenant_that_registers_again_begins_anew() {
    let world = World::with_one_service().await;
    let function = world.function();
    world.app.answer_always(Reply::Platform(404));
    world.tick(&function).await;
    world.clock.advance(24 * 3600);
    world.tick(&function).await;
    world.clock.advance(31 * 24 * 3600);
    // Nothing was deleted yet: every item is still there, expired.
    world.add(&world.app, "a").await;
    world.app.answer_next(vec![Reply::Platform(404)]);
    world.tick(&function).await;
    let watched = world.watched(&world.app).await.unwrap();
    assert_eq!((watched.tenant.status, watched.state.acked_tick), (TenantStatus::Active, None));
    assert_eq!(
        watched.failures.failing_since,
        Some(domain::clock::Clock::now(&world.clock)),
        "since now, not since then"
    );
}

#[tokio::test]
async fn a_registration_that_revives_forgets_the_failures() {
    let world = World::with_one_service().await;
    let function = world.function();
    world.app.answer_always(Reply::Platform(404));
    world.tick(&function).await;
    world.clock.advance(24 * 3600);
    world.tick(&function).await;
    let watched = world.watched(&world.app).await.unwrap();
    assert_eq!(watched.tenant.status, TenantStatus::Suspended);

    let ids: Vec<_> = watched.services.iter().map(|service| service.id.clone()).collect();
    let now = domain::clock::Clock::now(&world.clock);
    world.aws.store().activate(&watched.tenant, &watched.services[0], &ids[1..], now).await.unwrap();
    world.next_tick(&function).await;
    assert_eq!(
        world.watched(&world.app).await.unwrap().tenant.status,
        TenantStatus::Active,
        "one hiccup is no day"
    );
    for item in world.items(&world.app).await {
        assert!(!item.contains_key("expires_at"), "{:?} is forgotten", item["sk"]);
    }
}

#[tokio::test]
async fn a_tenant_whose_every_endpoint_hangs_delays_nobody_else() {
    let world = World::with_one_service().await;
    // Takes connections into its backlog and never answers one.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hanging = world.another_app().await;
    for path in 0..50 {
        let url = format!("http://{}/{path}", silent.local_addr().unwrap());
        world.add_service(&hanging, &url, Thresholds::default()).await;
    }
    let function = world.function();
    let tick = world.tick(&function);
    tokio::pin!(tick);
    let told = async {
        while world.app.received("UPDATE").is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = &mut tick => panic!("fifty endpoints that hang cannot be done before the other tenant is told"),
        () = told => {}
    }
    assert_eq!(world.app.received("UPDATE")[0].body["services"][0]["status"], "ALIVE");
    assert_eq!(hanging.received("UPDATE").len(), 0);
}

#[tokio::test]
async fn triggers_that_hang_delay_nobody_else_and_no_attempt_outlives_its_time() {
    let world = World::start().await;
    let callbacks = HttpCallbacks::new(world.clock.clone()).unwrap();
    let rule = TriggerPolicy { hosts: vec![], allow_loopback: true };
    let other = world.another_app().await;
    // Takes connections into its backlog and never answers one.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hanging = format!("http://{}/x1/hanging", silent.local_addr().unwrap());
    let post = async |trigger: &str, seconds, is_expected| {
        let began = std::time::Instant::now();
        let trigger = rule.parse(trigger).unwrap();
        let timeout = Duration::from_secs(seconds);
        let callback = Callback { trigger: &trigger, token: "t", body: b"{}", is_expected };
        let answer = callbacks.post(&callback, timeout).await;
        (answer, began.elapsed())
    };
    // More than there are places, and more than may be slow at once. Those that hung before leave places to the others at
    // once; those that are expected to answer do after two seconds.
    for (is_expected, longest) in [(false, Duration::from_secs(1)), (true, Duration::from_secs(14))] {
        let hanging = join_all((0..300).map(|_| post(&hanging, 6, is_expected)));
        let healthy = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            join_all((0..20).map(|_| post(&other.trigger_url, 15, true))).await
        };
        let (hanging, healthy) = tokio::join!(hanging, healthy);
        for (answer, took) in hanging {
            assert_eq!(answer, CallbackResponse::Missing);
            assert!(took < Duration::from_secs(7), "{took:?} for an attempt of six seconds");
        }
        for (answer, took) in healthy {
            let unauthorized = CallbackResponse::App(domain::response::ResponseCode::Unauthorized);
            assert_eq!(answer, unauthorized, "it answers, the token is none");
            assert!(took < longest, "{took:?} behind attempts that hang");
        }
    }
}

/// Accepts connections, and responds to each request or to none.
async fn trigger(responds: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                    if responds {
                        let response = b"HTTP/1.1 202 X\r\ncontent-length: 19\r\n\r\n{\"code\":\"ACCEPTED\"}";
                        let _ = stream.write_all(response).await;
                    }
                }
            });
        }
    });
    format!("http://{at}/x1/trigger")
}

/// As a tick delivers them: fifty a second, and nobody has hung before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_that_respond_wait_for_nobody_while_half_of_all_hang() {
    let callbacks = HttpCallbacks::new(SystemClock).unwrap();
    let rule = TriggerPolicy { hosts: vec![], allow_loopback: true };
    let triggers = [trigger(false).await, trigger(true).await].map(|url| rule.parse(&url).unwrap());
    let started = tokio::time::Instant::now();
    let deliveries = (0..1_000_u32).map(|tenant| {
        let responds = tenant % 2 == 1;
        let (callbacks, trigger) = (callbacks.clone(), triggers[usize::from(responds)].clone());
        tokio::spawn(async move {
            tokio::time::sleep_until(started + tenant * Duration::from_millis(20)).await;
            let callback = Callback { trigger: &trigger, token: "t", body: b"{}", is_expected: true };
            let began = tokio::time::Instant::now();
            let (response, _) = deliver(&callbacks, callback, RetryPolicy::UPDATE, tenant.into()).await;
            responds.then(|| (response, began.elapsed()))
        })
    });
    let delivered: Vec<_> = join_all(deliveries).await.into_iter().filter_map(Result::unwrap).collect();
    assert!(delivered.iter().all(|(response, _)| response.is_acceptance()));
    let mut waits: Vec<_> = delivered.into_iter().map(|(_, wait)| wait).collect();
    waits.sort_unstable();
    println!("p50 {:?}, p99 {:?}", waits[250], waits[495]);
    assert!(waits[495] < Duration::from_secs(2), "{:?}", waits[495]);
}

#[tokio::test]
async fn a_round_reports_before_its_deadline_whatever_hangs() {
    let world = World::with_one_service().await;
    // One call is given up after ten seconds. A read of a tenant that has page after page never ends.
    let listed = json!({ "Items": [{ "tenantId": { "S": world.app.tenant_id() } }] });
    let page = json!({ "Items": [], "LastEvaluatedKey": { "pk": { "S": "a" }, "sk": { "S": "a" } } });
    let endless = AwsServer::start([(200, listed), (200, page)]).await.pausing(Duration::from_millis(100));
    let mut function = world.function();
    function.store = Store::new(endless.dynamo(), "table".to_owned());
    let began = std::time::Instant::now();
    let deadline = domain::clock::Clock::now(&world.clock) + SignedDuration::from_millis(45_200);
    let ended = function.handle(world.scheduled(), deadline).await;
    assert!(matches!(ended, Err(InvocationError::Tenants(1))), "{ended:?}");
    assert!(began.elapsed() < Duration::from_millis(44_200), "{:?}", began.elapsed());
    assert!(began.elapsed() > Duration::from_secs(40), "the tenant ended: {:?}", began.elapsed());
}
