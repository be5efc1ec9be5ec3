//! Nobody is attacked through us, and nobody starves anybody: the bounds, seen from the targets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use shared::probe::{Check, Failure, HttpProbe, Limits, Probe as _, Share};
use tokio::time::sleep;

use super::dns::NameServer;
use super::server::{Server, answer, drained, read_head, redirect, write_and_close};
use super::{get, loopback, names_from, prober_in};

#[tokio::test]
async fn a_host_sees_sixteen_connections_at_once_whoever_asks_and_by_whatever_name() {
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
    let tenants: Vec<_> = (0..30).map(|_| Share::default()).collect();
    let asked = checks.iter().enumerate().map(|(i, check)| prober.probe(check, &tenants[i % 30]));
    let seen = join_all(asked).await;
    assert!(seen.iter().all(shared::probe::Observation::is_alive));
    assert_eq!((server.connections(), most.load(Ordering::SeqCst)), (90 + 30, 16));
}

#[tokio::test]
async fn tenants_whose_every_endpoint_hangs_leave_sockets_to_the_others() {
    let silent = Server::running(async |mut stream| drained(&mut stream).await).await;
    let good = Server::answering(answer("200 OK", "", "")).await;
    let limits = Limits { sockets: 40, per_address: 1_000, ..Limits::default() };
    let prober = HttpProbe::new(loopback(), limits, shared::clock::SystemClock).unwrap();
    let hanging = Check { timeout_ms: 2_000, ..get(&silent.url("/")) };
    let tenants: Vec<_> = (0..20).map(|_| Share::default()).collect();
    let hanging = join_all(tenants.iter().flat_map(|share| {
        let (prober, hanging) = (&prober, &hanging);
        (0..2).map(move |_| prober.probe(hanging, share))
    }));
    let healthy = async {
        // Each has had its turn, and most of what is left is nobody's.
        while silent.connections() < 20 {
            sleep(Duration::from_millis(1)).await;
        }
        let check = get(&good.url("/"));
        let share = Share::default();
        let seen = join_all((0..30).map(|_| prober.probe(&check, &share))).await;
        // All of it before the first of the others has given its socket back.
        (seen, silent.connections())
    };
    let (hung, (seen, connections)) = tokio::join!(hanging, healthy);
    assert!(seen.iter().all(shared::probe::Observation::is_alive), "{seen:?}");
    assert!(connections < 40, "{connections}");
    assert!(hung.iter().all(|seen| seen.failure == Some(Failure::Timeout)));
}

#[tokio::test]
async fn a_look_up_takes_a_turn_as_well() {
    let names = NameServer::replying(|_, _| super::dns::Reply::Silence).await;
    let limits = Limits { sockets: 1, ..Limits::default() };
    let clock = shared::clock::SystemClock;
    let prober = HttpProbe::within(&names_from(&names), loopback(), limits, clock).unwrap();
    let (first, second) = (get("http://a.example.com/"), get("http://b.example.com/"));
    let share = Share::default();
    let mut asked = Box::pin(prober.probe(&first, &share));
    while names.questions().is_empty() {
        assert!(futures::poll!(&mut asked).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(prober.probe(&second, &share).now_or_never().is_none());
    assert!(names.questions().iter().all(|(name, _)| name == "a.example.com."));
}
