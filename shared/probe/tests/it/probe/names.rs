//! Names: what they resolve to decides, and only what was judged is connected to.

use std::time::Duration;

use domain::check::{Check, ProbeFailure};
use domain::target_url::{TargetError, TargetPolicy};
use hickory_resolver::proto::rr::RecordType;
use probe::Network;
use probe::{Attempt, TenantQuota};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::server::{Server, answer};
use super::{ProbeAlone as _, get, hasty, loopback, names_from, prober_in};
use testing::names::{NameServer, Reply, addresses};

#[tokio::test]
async fn a_name_is_looked_up_once_and_asked_under_its_name() {
    let names = NameServer::answering(&["127.0.0.1"]).await;
    let server = Server::answering(answer("200 OK", "", "")).await;
    let url = server.url_at("Service.Example.com.", "/");

    let seen = prober_in(&names_from(&names), loopback()).probe_alone(&get(&url)).await;

    assert!(seen.is_alive(), "{seen:?}");
    assert_eq!(names.questions(), [("service.example.com.".to_owned(), RecordType::A)]);
    let host = format!("host: service.example.com:{}\r\n", server.at.port());
    assert!(server.requests()[0].to_ascii_lowercase().contains(&host));
}

#[tokio::test]
async fn a_name_with_any_forbidden_address_is_blocked() {
    for (answers, range) in [
        (&["127.0.0.1"][..], "Loopback"),
        (&["10.0.0.1"], "Private-Use"),
        (&["169.254.169.254"], "Link Local"),
        (&["8.8.8.8", "127.0.0.1"], "Loopback"),
        (&["127.0.0.1", "8.8.8.8"], "Loopback"),
        (
            &[
                "8.8.8.8", "1.1.1.1", "9.9.9.9", "8.8.4.4", "1.0.0.1", "8.8.8.9", "8.8.8.10", "8.8.8.11",
                "10.0.0.1",
            ],
            "Private-Use",
        ),
        (&["::1"], "Loopback Address"),
        (&["::ffff:127.0.0.1"], "IPv4-mapped Address"),
        (&["fd00:ec2::254"], "Unique-Local"),
        (&["2606:4700::1111", "fe80::1"], "Link-Local Unicast"),
        (&["64:ff9b::7f00:1", "::1"], "Loopback Address"),
        (&["2002:7f00:1::"], "6to4"),
    ] {
        let names = NameServer::answering(answers).await;
        let server = Server::answering(answer("200 OK", "", "")).await;
        let url = server.url_at("service.example.com", "/");
        let prober = prober_in(&names_from(&names), TargetPolicy::public(Vec::new(), Vec::new()));

        let (seen, refused) = prober.attempt(&get(&url), &TenantQuota::default(), Attempt::EXPECTED).await;

        assert_eq!((seen.failure, seen.http_status), (Some(ProbeFailure::Blocked), None), "{answers:?}");
        assert_eq!(server.connections(), 0);
        assert_eq!(refused.unwrap().range(), Some(range), "{answers:?}");
    }
}

/// Every attempt looks up anew, and is bound to what that look-up said.
#[tokio::test]
async fn a_name_that_is_rebound_between_attempts_is_blocked() {
    let names =
        NameServer::replying(
            |_, count| {
                if count == 0 { addresses(&["127.0.0.1"]) } else { addresses(&["10.0.0.1"]) }
            },
        )
        .await;
    let server = Server::answering(answer("200 OK", "", "")).await;
    let prober = prober_in(&names_from(&names), loopback());
    let check = get(&server.url_at("rebind.example.com", "/"));
    assert!(prober.probe_alone(&check).await.is_alive());
    assert_eq!(prober.probe_alone(&check).await.failure, Some(ProbeFailure::Blocked));
    assert_eq!((names.questions().len(), server.connections()), (2, 1));
}

#[tokio::test]
async fn a_name_with_ipv6_addresses_only_is_connect_and_explained() {
    let names = NameServer::answering(&["2606:4700::1111"]).await;
    let prober = prober_in(&names_from(&names), loopback());
    let check = get("http://v6.example.com/");
    let (seen, refused) = prober.attempt(&check, &TenantQuota::default(), Attempt::EXPECTED).await;
    assert_eq!((seen.failure, refused), (Some(ProbeFailure::Connect), Some(TargetError::Ipv6Only)));
}

#[tokio::test]
async fn a_name_with_an_ipv4_address_is_not_asked_for_ipv6() {
    let names = NameServer::answering(&["127.0.0.1", "2606:4700::1111"]).await;
    let server = Server::answering(answer("200 OK", "", "")).await;
    let url = server.url_at("both.example.com", "/");
    let prober = prober_in(&names_from(&names), loopback());
    assert!(prober.probe_alone(&get(&url)).await.is_alive());
    assert!(names.questions().iter().all(|(_, kind)| *kind == RecordType::A));
}

#[tokio::test]
async fn addresses_that_a_name_server_synthesised_are_dropped() {
    let names = NameServer::answering(&["64:ff9b::a00:1"]).await;
    let prober = prober_in(&names_from(&names), loopback());
    let check = get("http://nat64.example.com/");
    let (seen, refused) = prober.attempt(&check, &TenantQuota::default(), Attempt::EXPECTED).await;
    assert_eq!((seen.failure, refused), (Some(ProbeFailure::Dns), None));
}

#[tokio::test]
async fn names_that_do_not_resolve_are_dns() {
    for (reply, what) in [
        ((|_: &str, _| Reply::NoSuchName) as fn(&str, usize) -> Reply, "no such name"),
        (|_, _| Reply::ServerFailure, "server failure"),
        (|_, _| Reply::Addresses(Vec::new()), "no addresses"),
    ] {
        let names = NameServer::replying(reply).await;
        let prober = prober_in(&names_from(&names), loopback());
        let check = get("http://service.example.com/");
        let (seen, refused) = prober.attempt(&check, &TenantQuota::default(), Attempt::EXPECTED).await;
        assert_eq!(
            (seen.failure, seen.http_status, refused),
            (Some(ProbeFailure::Dns), None, None),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_silent_name_server_is_dns_when_the_deadline_leaves_room_and_timeout_otherwise() {
    let names = NameServer::replying(|_, _| Reply::Silence).await;
    let prober = prober_in(&names_from(&names), loopback());
    let patient = Check { timeout_ms: 10_000, ..get("http://service.example.com/") };
    let hasty = hasty("http://service.example.com/");
    let (patient, hasty) = tokio::join!(prober.probe_alone(&patient), prober.probe_alone(&hasty));
    assert_eq!(patient.failure, Some(ProbeFailure::Dns));
    assert_eq!(hasty.failure, Some(ProbeFailure::Timeout));
}

#[tokio::test]
async fn a_lost_question_is_asked_again() {
    let names =
        NameServer::replying(|_, count| if count == 0 { Reply::Silence } else { addresses(&["127.0.0.1"]) })
            .await;
    let server = Server::answering(answer("200 OK", "", "")).await;
    let prober = prober_in(&names_from(&names), loopback());
    let seen = prober.probe_alone(&get(&server.url_at("service.example.com", "/"))).await;
    assert!(seen.is_alive(), "{seen:?}");
}

#[tokio::test]
async fn a_slow_name_server_counts_towards_the_deadline() {
    let names = NameServer::replying(|_, _| {
        Reply::Late(Duration::from_millis(300), vec!["127.0.0.1".parse().unwrap()])
    })
    .await;
    let server = Server::answering(answer("200 OK", "", "")).await;
    let prober = prober_in(&names_from(&names), loopback());
    let url = server.url_at("service.example.com", "/");
    let seen = prober.probe_alone(&get(&url)).await;
    assert!(seen.is_alive() && seen.response_time_ms >= 300, "{seen:?}");

    let slow = Server::running(async |mut stream| super::server::drained(&mut stream).await).await;
    let seen = prober.probe_alone(&hasty(&slow.url_at("service.example.com", "/"))).await;
    assert_eq!(seen.failure, Some(ProbeFailure::Timeout));
    assert!(seen.response_time_ms < 5_000);
}

#[tokio::test]
async fn an_unreachable_name_server_is_dns() {
    let gone = NameServer::answering(&[]).await.at;
    let network = Network { name_servers: vec![gone], ..Network::default() };
    let seen = prober_in(&network, loopback()).probe_alone(&get("http://service.example.com/")).await;
    assert_eq!(seen.failure, Some(ProbeFailure::Dns));
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let names = NameServer::answering(&["127.0.0.9", "127.0.0.1"]).await;
    let server = Server::answering(answer("200 OK", "", "")).await;
    let prober = prober_in(&names_from(&names), loopback());
    let check = Check { timeout_ms: 10_000, ..get(&server.url_at("service.example.com", "/")) };
    let seen = prober.probe_alone(&check).await;
    assert!(seen.is_alive(), "{seen:?}");
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_is_silent() {
    let server = Server::answering(answer("200 OK", "", "")).await;
    // Whose queue of connections is full, and who accepts none of them, answers to no more.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind(([127, 0, 0, 9], server.at.port()).into()).unwrap();
    let silent = silent.listen(1).unwrap();
    let at = silent.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(connection) = timeout(Duration::from_millis(200), TcpStream::connect(at)).await {
        queue.push(connection.unwrap());
    }
    let names = NameServer::answering(&["127.0.0.9", "127.0.0.1"]).await;
    let prober = prober_in(&names_from(&names), loopback());
    let check = Check { timeout_ms: 2_000, ..get(&server.url_at("service.example.com", "/")) };

    let seen = prober.probe_alone(&check).await;

    assert!(seen.is_alive(), "{seen:?}");
    // Half of the time for either, less what the look-up took.
    assert!(seen.response_time_ms >= 900, "{seen:?}");
}

#[tokio::test]
async fn localhost_is_a_name_of_the_local_stack_only() {
    let server = Server::answering(answer("200 OK", "", "")).await;
    let url = server.url_at("localhost", "/");
    assert!(super::observe(&url).await.is_alive());
    assert_eq!(TargetPolicy::public(Vec::new(), Vec::new()).target(&url), Err(TargetError::LocalName));
}
