//! No target is attacked through us, and no tenant starves another: the bounds, seen from the targets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::check::{Check, ProbeFailure};
use futures::FutureExt as _;
use futures::future::join_all;
use probe::{Attempt, ConnectionLimits, HttpProbe, Limits, Probe as _, TenantQuota};
use tokio::time::sleep;

use super::server::{Server, answer, drained, read_head, redirect, write_and_close};
use super::{get, loopback, names_from, prober_in};
use testing::names::NameServer;

#[tokio::test]
async fn a_host_that_answers_sees_little_more_than_sixteen_connections_whoever_asks_and_by_whatever_name() {
    let names = NameServer::answering(&["127.0.0.1"]).await;
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = (Arc::clone(&open), Arc::clone(&most));
    let server = Server::running(move |mut stream| {
        let (open, most) = (Arc::clone(&counted.0), Arc::clone(&counted.1));
        async move {
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let is_first = read_head(&mut stream).await.starts_with("GET /first ");
            sleep(Duration::from_millis(20)).await;
            let bytes = if is_first { redirect("302 Found", "/second") } else { answer("200 OK", "", "") };
            // Before the answer: the other side may be gone, and the next one come, before this line is reached again.
            open.fetch_sub(1, Ordering::SeqCst);
            write_and_close(&mut stream, &bytes).await;
        }
    })
    .await;
    let prober = prober_in(&names_from(&names), loopback());
    let checks: Vec<_> = (0..90)
        .map(|i| match i % 3 {
            0 => get(&server.url("/")),
            1 => get(&server.url_at(&format!("n{i}.example.com"), "/")),
            _ => get(&server.url_at(&format!("n{i}.example.net"), "/first")),
        })
        .collect();
    let tenants: Vec<_> = (0..30).map(|_| TenantQuota::default()).collect();
    let asked =
        checks.iter().enumerate().map(|(i, check)| prober.probe(check, &tenants[i % 30], Attempt::EXPECTED));
    let seen = join_all(asked).await;
    assert!(seen.iter().all(domain::check::Observation::is_alive));
    let most = most.load(Ordering::SeqCst);
    assert_eq!(server.connections(), 90 + 30);
    // Each answer takes 20 ms: before one pause ends, sixteen places are free again.
    assert!((16..=20).contains(&most), "{most}");
}

#[tokio::test]
async fn tenants_whose_every_endpoint_hangs_leave_sockets_to_the_others() {
    let silent = Server::running(async |mut stream| drained(&mut stream).await).await;
    let good = Server::answering(answer("200 OK", "", "")).await;
    let connections = ConnectionLimits {
        total: 40,
        slow: 40,
        per_address_at_once: 1_000,
        per_address: 1_000,
        ..ConnectionLimits::default()
    };
    let limits = Limits { connections, ..Limits::default() };
    let prober = HttpProbe::new(loopback(), limits, aws::system::SystemClock).unwrap();
    let hanging = Check { timeout_ms: 2_000, ..get(&silent.url("/")) };
    let tenants: Vec<_> = (0..20).map(|_| TenantQuota::default()).collect();
    let hanging = join_all(tenants.iter().flat_map(|quota| {
        let (prober, hanging) = (&prober, &hanging);
        (0..2).map(move |_| prober.probe(hanging, quota, Attempt::EXPECTED))
    }));
    let healthy = async {
        // Each has had its turn, and most of what is left is nobody's.
        while silent.connections() < 20 {
            sleep(Duration::from_millis(1)).await;
        }
        let check = get(&good.url("/"));
        let quota = TenantQuota::default();
        let seen = join_all((0..30).map(|_| prober.probe(&check, &quota, Attempt::EXPECTED))).await;
        // All of it before the first of the others has given its socket back.
        (seen, silent.connections())
    };
    let (hung, (seen, connections)) = tokio::join!(hanging, healthy);
    assert!(seen.iter().all(domain::check::Observation::is_alive), "{seen:?}");
    assert!(connections < 40, "{connections}");
    assert!(hung.iter().all(|seen| seen.failure == Some(ProbeFailure::Timeout)));
}

#[tokio::test]
async fn a_look_up_needs_a_permit_as_well() {
    let names = NameServer::replying(|_, _| testing::names::Reply::Silence).await;
    let connections = ConnectionLimits { total: 1, ..ConnectionLimits::default() };
    let limits = Limits { connections, ..Limits::default() };
    let clock = aws::system::SystemClock;
    let prober = HttpProbe::within(&names_from(&names), loopback(), limits, clock).unwrap();
    let (first, second) = (get("http://a.example.com/"), get("http://b.example.com/"));
    let quota = TenantQuota::default();
    let mut asked = Box::pin(prober.probe(&first, &quota, Attempt::EXPECTED));
    while names.questions().is_empty() {
        assert!(futures::poll!(&mut asked).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(prober.probe(&second, &quota, Attempt::EXPECTED).now_or_never().is_none());
    assert!(names.questions().iter().all(|(name, _)| name == "a.example.com."));
}

/// A name with two addresses, of which the first hangs: the permit for the first is given back, and the second is bounded by
/// its own.
#[tokio::test]
async fn a_permit_is_for_one_address_and_not_for_all_of_a_name() {
    let names = NameServer::answering(&["127.0.0.3", "127.0.0.1"]).await;
    let good = Server::answering(answer("200 OK", "", "")).await;
    let silent = Server::running_at(([127, 0, 0, 3], good.at.port()).into(), async |mut stream| {
        drained(&mut stream).await;
    })
    .await;
    let connections =
        ConnectionLimits { per_address_at_once: 1, per_address: 1, ..ConnectionLimits::default() };
    let limits = Limits { connections, ..Limits::default() };
    let prober =
        HttpProbe::within(&names_from(&names), loopback(), limits, aws::system::SystemClock).unwrap();
    let hanging = Check { timeout_ms: 3_000, ..get(&silent.url("/")) };
    let both = get(&good.url_at("both.example.com", "/"));
    let other = TenantQuota::default();
    let held = prober.probe(&hanging, &other, Attempt::EXPECTED);
    let asked = async {
        while silent.connections() == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        // The name's first address has no place; its second would have one, and is asked after the first.
        let quota = TenantQuota::default();
        let direct = prober.probe(&get(&good.url("/")), &quota, Attempt::EXPECTED).await;
        (direct, prober.probe(&both, &quota, Attempt::EXPECTED).await)
    };
    let (hung, (direct, by_name)) = tokio::join!(held, asked);
    assert_eq!(hung.failure, Some(ProbeFailure::Timeout));
    assert!(direct.is_alive(), "{direct:?}");
    // TCP stands at the first address, which then says nothing: that is what a check of the name finds.
    assert_eq!(by_name.failure, Some(ProbeFailure::Timeout));
    assert_eq!((silent.connections(), good.connections()), (2, 1));
}
