//! Outages that many services share: one address, and many tenants behind it. Real sockets and the waits as deployed, which
//! takes minutes; names and addresses as a hoster has them, from a name server of the test.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use callback::HttpCallbacks;
use check_services::{CONFIRM_AFTER, CheckServices};
use domain::check::{Check, Observation};
use domain::id::ServiceId;
use domain::service::Thresholds;
use domain::target_url::TargetPolicy;
use jiff::SignedDuration;
use probe::{Attempt, HttpProbe, Limits, Network, Probe, TenantQuota};
use serde_json::Value;
use testing::forge_app::ForgeApp;
use testing::names::NameServer;
use testing::time::FixedClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, Mutex};

use crate::world::World;

/// Every listener of a test has this port, each at an address of its own.
const PORT: u16 = 18_080;

/// How much longer healthy services may wait beside neighbours that hang than beside neighbours that answer, but for one in a
/// hundred.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A server that accepts connections, and what it sees of them.
#[derive(Clone, Default)]
struct Seen {
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    unanswered: Arc<std::sync::Mutex<Vec<Instant>>>,
    is_broken: Arc<AtomicBool>,
}

impl Seen {
    fn breaks(&self) {
        self.is_broken.store(true, Ordering::SeqCst);
    }
}

/// Accepts, reads and answers. Once it is broken with the status of the host that the request's begins with, or not at all.
async fn serve(address: [u8; 4], answering: &'static [(&'static str, u16)]) -> Seen {
    let listener = TcpListener::bind(SocketAddr::from((address, PORT))).await.unwrap();
    let seen = Seen::default();
    let server = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = server.clone();
            let accepted = Instant::now();
            tokio::spawn(async move {
                // The end of the connection before it is noticed a moment after it.
                tokio::time::sleep(Duration::from_millis(5)).await;
                seen.most.fetch_max(seen.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let mut head = [0; 2048];
                let read = stream.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
                let answer =
                    answering.iter().find(|(prefix, _)| host.starts_with(prefix)).map(|(_, status)| *status);
                if let Some(status) = if seen.is_broken.load(Ordering::SeqCst) { answer } else { Some(200) } {
                    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes()).await;
                } else {
                    seen.unanswered.lock().unwrap().push(accepted);
                }
                // Until the other side has gone.
                while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
                seen.open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    seen
}

/// Notes how long each probe waited beside what it measured.
#[derive(Clone)]
struct Timed {
    probe: Arc<HttpProbe>,
    waits: Arc<Mutex<Vec<(String, Duration)>>>,
}

impl Timed {
    fn new(names: &NameServer, clock: &FixedClock) -> Self {
        let network = Network { name_servers: vec![names.at], ..Network::default() };
        let probe = HttpProbe::within(&network, policy(), Limits::default(), clock.clone()).unwrap();
        Self { probe: Arc::new(probe), waits: Arc::default() }
    }

    /// The longest wait but for one in a hundred, of the hosts whose names begin like this.
    async fn p99(&self, prefix: &str) -> Duration {
        let waits = self.waits.lock().await;
        let mut waits: Vec<_> =
            waits.iter().filter(|(host, _)| host.starts_with(prefix)).map(|(_, wait)| *wait).collect();
        waits.sort_unstable();
        assert!(!waits.is_empty(), "{prefix}");
        waits[(waits.len() * 99 / 100).min(waits.len() - 1)]
    }
}

fn policy() -> TargetPolicy {
    TargetPolicy::public(vec![], vec![]).allow_loopback()
}

impl Probe for Timed {
    async fn probe(&self, check: &Check, quota: &TenantQuota, attempt: Attempt) -> Observation {
        let began = Instant::now();
        let seen = self.probe.probe(check, quota, attempt).await;
        let waited = began.elapsed().saturating_sub(Duration::from_millis(seen.response_time_ms.into()));
        self.waits.lock().await.push((check.url.host().to_owned(), waited));
        seen
    }
}

type Function = CheckServices<HttpCallbacks, Timed>;

/// The function as deployed, with names from the test.
fn deployed(world: &World, names: &NameServer) -> Function {
    let mut function = world.function_with(world.callbacks(), Timed::new(names, &world.clock));
    function.settings.confirm_after = CONFIRM_AFTER.to_vec();
    function
}

/// Stores a service per name for one more app, all at once: the first as add-service does, the others as copies of it.
async fn app_with(world: &World, names: &[String], timeout_ms: u16) -> ForgeApp {
    let app = world.another_app().await;
    let url = |name: &str| format!("http://{name}:{PORT}/health");
    world.add_service(&app, &url(&names[0]), Thresholds::default()).await;
    let items = world.items(&app).await;
    let sk = |item: &HashMap<String, AttributeValue>| item["sk"].as_s().unwrap().clone();
    let first = items.iter().find(|item| sk(item).starts_with("SERVICE#")).unwrap();
    let mut check: Value = serde_json::from_str(first["check"].as_s().unwrap()).unwrap();
    let copies = names.iter().map(|name| {
        check["url"] = url(name).into();
        check["timeoutMs"] = timeout_ms.into();
        let id = ServiceId::derive(&app.tenant_id(), &url(name));
        let mut item = first.clone();
        item.insert("sk".to_owned(), AttributeValue::S(format!("SERVICE#{id}")));
        item.insert("check".to_owned(), AttributeValue::S(check.to_string()));
        let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
        WriteRequest::builder().put_request(put).build()
    });
    let copies: Vec<_> = copies.collect();
    for batch in copies.chunks(25) {
        let write = world.aws.dynamo().batch_write_item().request_items(&world.aws.table, batch.to_vec());
        assert!(write.send().await.unwrap().unprocessed_items.unwrap().is_empty());
    }
    app
}

/// The services' statuses in an app's last report, by name of the host.
fn reported(app: &ForgeApp) -> BTreeMap<String, String> {
    let body = app.received("UPDATE").pop().unwrap().body;
    let services = body["services"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let host = |service: &Value| text(&service["url"]).split(['/', ':']).nth(3).unwrap().to_owned();
    services.iter().map(|service| (host(service), text(&service["status"]))).collect()
}

fn down(apps: &[ForgeApp]) -> usize {
    apps.iter().flat_map(|app| reported(app).into_values()).filter(|status| status == "DOWN").count()
}

/// A tick in which everybody answers: what healthy services wait in it, they wait for a busy machine.
async fn all_alive(
    world: &World,
    function: &Function,
    healthy: &[&'static str],
) -> Vec<(&'static str, Duration)> {
    world.clock.advance(300);
    let summary = function.handle(world.scheduled(), world.clock_deadline()).await.unwrap();
    assert_eq!((summary.not_alive, summary.unseen), (0, 0), "{summary:?}");
    let mut waits = Vec::new();
    for prefix in healthy {
        waits.push((*prefix, function.probe.p99(prefix).await));
    }
    function.probe.waits.lock().await.clear();
    waits
}

/// Whether healthy services lost little by their neighbours.
async fn assert_undelayed(function: &Function, before: &[(&'static str, Duration)]) {
    for (prefix, before) in before {
        let wait = function.probe.p99(prefix).await;
        println!("{prefix}: {wait:?}, before the outage {before:?}");
        // While others hang a tenant holds a third as many connections at once: what a busy machine needs for each counts
        // three times.
        assert!(wait <= LONGEST_WAIT + *before * 3, "{prefix} waited {wait:?}, before the outage {before:?}");
    }
}

/// The addresses of the test, from the beginning of a name: `h7-...` is 127.0.<net>.7.
async fn names(net: u8) -> NameServer {
    NameServer::of(move |name| {
        let host = name.strip_prefix('h')?.split('-').next()?.parse().ok()?;
        Some(IpAddr::V4(Ipv4Addr::new(127, 0, net, host)))
    })
    .await
}

/// Runs ticks until all services of these apps are `DOWN`; returns how many it took, 4 when three were too few.
async fn ticks_until_down(world: &World, function: &Function, apps: &[ForgeApp], services: usize) -> usize {
    for tick in 1..=3 {
        world.clock.advance(300);
        let summary = function.handle(world.scheduled(), world.clock_deadline()).await.unwrap();
        println!("tick {tick}: {} of {services} are DOWN; {summary:?}", down(apps));
        if down(apps) == services {
            return tick;
        }
    }
    4
}

/// Whether no moment has seen more than 96 connections, and no five seconds more unanswered ones than the first sixteen and
/// sixteen a second. A tenth more, since a busy machine accepts late.
fn assert_gentle(seen: &Seen) {
    assert!(seen.most.load(Ordering::SeqCst) <= 96, "{}", seen.most.load(Ordering::SeqCst));
    let mut opened = seen.unanswered.lock().unwrap().clone();
    opened.sort_unstable();
    let most = opened.iter().enumerate().map(|(first, at)| {
        opened[first..].iter().take_while(|other| **other - *at < Duration::from_secs(5)).count()
    });
    let most = most.max().unwrap_or(0);
    assert!(most <= 107, "{most} connections within five seconds");
}

/// All at once, since they mostly wait; each has a function, and so limits, of its own.
static BEGIN: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(SCENARIOS));
const SCENARIOS: usize = 4;

/// Each scenario asks hundreds of targets in its first second: not all in the same one.
async fn begin(scenario: u32) {
    BEGIN.wait().await;
    tokio::time::sleep(scenario * Duration::from_secs(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outages_behind_shared_addresses_are_reported_within_two_ticks() {
    tokio::join!(
        a_thousand_services_behind_one_address(),
        a_service_of_each_of_two_hundred_tenants_behind_one_address(),
        fifty_services_behind_each_of_twenty_addresses(),
        a_service_among_hostile_neighbours_is_down_in_the_first_tick(),
    );
}

async fn a_thousand_services_behind_one_address() {
    let world = World::start().await;
    // One address behind which a thousand services hang, ten of its neighbours answer, and so do a hundred elsewhere.
    let shared = serve([127, 0, 81, 1], &[("h1-good", 200)]).await;
    let _elsewhere = serve([127, 0, 81, 2], &[("h2-good", 200)]).await;
    let names = names(81).await;
    let mut hanging = Vec::new();
    for tenant in 0..20 {
        let hosts: Vec<_> = (0..50).map(|n| format!("h1-silent-{tenant}-{n}.example.com")).collect();
        // Half of them with the default deadline, half with the longest.
        hanging.push(app_with(&world, &hosts, if tenant % 2 == 0 { 5_000 } else { 10_000 }).await);
    }
    let mut healthy = Vec::new();
    for tenant in 0..5 {
        let mut hosts: Vec<_> = (0..20).map(|n| format!("h2-good-{tenant}-{n}.example.com")).collect();
        hosts.extend((0..2).map(|n| format!("h1-good-{tenant}-{n}.example.com")));
        healthy.push(app_with(&world, &hosts, 5_000).await);
    }
    let function = deployed(&world, &names);
    begin(0).await;
    let before = all_alive(&world, &function, &["h1-good", "h2-good"]).await;
    shared.breaks();
    let ticks = ticks_until_down(&world, &function, &hanging, 1_000).await;
    assert!(ticks <= 2, "{ticks}");
    assert_gentle(&shared);
    for app in &healthy {
        assert!(reported(app).values().all(|status| status == "ALIVE"), "{:?}", reported(app));
    }
    assert_undelayed(&function, &before).await;
}

/// Each tenant has one service there, and nobody has used the address more than another.
async fn a_service_of_each_of_two_hundred_tenants_behind_one_address() {
    let world = World::start().await;
    let shared = serve([127, 0, 84, 1], &[("h1-good", 200)]).await;
    let names = names(84).await;
    let mut hanging = Vec::new();
    for tenant in 0..200 {
        hanging.push(app_with(&world, &[format!("h1-silent-{tenant}.example.com")], 10_000).await);
    }
    let healthy = app_with(&world, &["h1-good.example.com".to_owned()], 5_000).await;
    let function = deployed(&world, &names);
    begin(1).await;
    all_alive(&world, &function, &["h1-good"]).await;
    shared.breaks();
    let ticks = ticks_until_down(&world, &function, &hanging, 200).await;
    assert!(ticks <= 2, "{ticks}");
    assert_gentle(&shared);
    assert_eq!(reported(&healthy).into_values().collect::<Vec<_>>(), ["ALIVE"]);
    println!("one of two hundred: {:?}", function.probe.p99("h1-good").await);
}

async fn fifty_services_behind_each_of_twenty_addresses() {
    let world = World::start().await;
    let mut addresses = Vec::new();
    for host in 1..=20 {
        addresses.push(serve([127, 0, 82, host], &[]).await);
    }
    let _elsewhere = serve([127, 0, 82, 99], &[("h99-good", 200)]).await;
    let names = names(82).await;
    let mut hanging = Vec::new();
    for tenant in 0..20 {
        // Everybody's services are spread over all addresses.
        let hosts: Vec<_> =
            (0..50).map(|n| format!("h{}-silent-{tenant}-{n}.example.com", 1 + (tenant + n) % 20)).collect();
        hanging.push(app_with(&world, &hosts, 10_000).await);
    }
    let hosts: Vec<_> = (0..50).map(|n| format!("h99-good-{n}.example.com")).collect();
    let healthy = app_with(&world, &hosts, 5_000).await;
    let function = deployed(&world, &names);
    begin(2).await;
    let before = all_alive(&world, &function, &["h99-good"]).await;
    addresses.iter().for_each(Seen::breaks);
    let ticks = ticks_until_down(&world, &function, &hanging, 1_000).await;
    assert!(ticks <= 2, "{ticks}");
    addresses.iter().for_each(assert_gentle);
    assert!(reported(&healthy).values().all(|status| status == "ALIVE"));
    assert_undelayed(&function, &before).await;
}

async fn a_service_among_hostile_neighbours_is_down_in_the_first_tick() {
    let world = World::start().await;
    let shared = serve([127, 0, 83, 1], &[("h1-broken", 500)]).await;
    let names = names(83).await;
    for tenant in 0..16 {
        let hosts: Vec<_> = (0..24).map(|n| format!("h1-silent-{tenant}-{n}.example.com")).collect();
        app_with(&world, &hosts, 10_000).await;
    }
    let broken = app_with(&world, &["h1-broken.example.com".to_owned()], 5_000).await;
    let function = deployed(&world, &names);
    begin(3).await;
    all_alive(&world, &function, &["h1-broken"]).await;
    shared.breaks();
    world.clock.advance(300);
    function.handle(world.scheduled(), world.clock_deadline()).await.unwrap();
    assert_eq!(reported(&broken).into_values().collect::<Vec<_>>(), ["DOWN"]);
    assert_gentle(&shared);
}

impl World {
    fn clock_deadline(&self) -> jiff::Timestamp {
        domain::clock::Clock::now(&self.clock) + SignedDuration::from_secs(300)
    }
}
