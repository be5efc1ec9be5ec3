//! One test per failure class, and what an alive service looks like.

use domain::check::{Check, Method, ProbeFailure};
use domain::clock::Clock;
use jiff::Timestamp;
use probe::{ConnectionLimits, HttpProbe, Limits, Network};
use tokio::net::TcpListener;

use super::server::{Server, answer, drained};
use super::{ProbeAlone as _, get, hasty, loopback, observe, prober};

struct At(Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
}

#[tokio::test]
async fn an_expected_answer_is_alive() {
    let server = Server::answering(answer("200 OK", "", "fine")).await;
    let clock = At("2026-11-22T10:05:00.987Z".parse().unwrap());
    let prober = HttpProbe::within(&Network::default(), loopback(), Limits::default(), clock).unwrap();

    let seen = prober.probe_alone(&get(&server.url("/health?full=1"))).await;

    assert!(seen.is_alive(), "{seen:?}");
    assert_eq!(seen.http_status, Some(200));
    assert_eq!(seen.attempts, 1);
    assert_eq!(seen.checked_at, "2026-11-22T10:05:00Z".parse().unwrap());
    assert_eq!(seen.certificate_expires_at, None);
    assert_eq!(server.request_lines(), ["GET /health?full=1"]);
}

#[tokio::test]
async fn a_request_says_who_asks_and_nothing_more() {
    let server = Server::answering(answer("200 OK", "", "")).await;
    observe(&server.url("/")).await;
    let request = server.requests().remove(0).to_ascii_lowercase();
    let mut lines: Vec<&str> = request.trim_end().split("\r\n").collect();
    lines.sort_unstable();
    let host = format!("host: {}", server.at);
    assert_eq!(lines, ["accept: */*", "get / http/1.1", &host, "user-agent: forge-health/0.1"]);
}

#[tokio::test]
async fn every_attempt_has_a_connection_of_its_own() {
    let keep_alive = answer("200 OK", "Connection: keep-alive\r\n", "fine");
    let server = Server::answering(keep_alive).await;
    let prober = prober();
    for _ in 0..3 {
        assert!(prober.probe_alone(&get(&server.url("/"))).await.is_alive());
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn head_is_asked_as_head_and_needs_no_body() {
    let server = Server::answering("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
    let seen = prober().probe_alone(&Check { method: Method::Head, ..get(&server.url("/")) }).await;
    assert!(seen.is_alive(), "{seen:?}");
    assert_eq!(server.request_lines(), ["HEAD /"]);
}

#[tokio::test]
async fn http_1_0_chunks_and_a_body_until_the_end_are_alive() {
    for bytes in [
        "HTTP/1.0 200 OK\r\n\r\nuntil the end",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nfine\r\n0\r\nTrailer: x\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    ] {
        let server = Server::answering(bytes).await;
        let seen = observe(&server.url("/")).await;
        assert!(seen.is_alive(), "{bytes:?}: {seen:?}");
    }
}

#[tokio::test]
async fn an_unexpected_status_is_status() {
    for (status, expected, failure) in [
        ("500 Internal Server Error", "200-299", Some(ProbeFailure::Status)),
        ("404 Not Found", "200-299", Some(ProbeFailure::Status)),
        ("304 Not Modified", "200-299", Some(ProbeFailure::Status)),
        ("300 Multiple Choices", "200-299", Some(ProbeFailure::Status)),
        ("401 Unauthorized", "200,401", None),
        ("503 Service Unavailable", "500-599", None),
        ("200 OK", "500-599", Some(ProbeFailure::Status)),
        ("999 Odd", "200-299", Some(ProbeFailure::Status)),
    ] {
        let server = Server::answering(answer(status, "", "")).await;
        let check = Check { expected_status: expected.parse().unwrap(), ..get(&server.url("/")) };
        let seen = prober().probe_alone(&check).await;
        assert_eq!(seen.failure, failure, "{status}, expected {expected}");
        assert_eq!(seen.http_status, status[..3].parse().ok());
    }
}

#[tokio::test]
async fn a_refused_connection_is_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let seen = observe(&url).await;
    assert_eq!((seen.failure, seen.http_status), (Some(ProbeFailure::Connect), None));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_timeout() {
    let server = Server::running(async |mut stream| drained(&mut stream).await).await;
    let seen = prober().probe_alone(&hasty(&server.url("/"))).await;
    assert_eq!((seen.failure, seen.http_status), (Some(ProbeFailure::Timeout), None));
    assert!(seen.response_time_ms >= 500);
}

#[tokio::test]
async fn a_literal_address_that_is_forbidden_is_blocked_without_a_connection() {
    let server = Server::answering(answer("200 OK", "", "")).await;
    let closed = super::prober_in(
        &Network::default(),
        domain::target_url::TargetPolicy::public(Vec::new(), Vec::new()),
    );
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost"] {
        let seen = closed.probe_alone(&get(&server.url_at(host, "/"))).await;
        assert_eq!((seen.failure, seen.http_status), (Some(ProbeFailure::Blocked), None), "{host}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_deadline_outside_its_bounds_is_taken_as_the_bound() {
    let server = Server::running(async |mut stream| drained(&mut stream).await).await;
    let seen = prober().probe_alone(&Check { timeout_ms: 0, ..get(&server.url("/")) }).await;
    assert_eq!(seen.failure, Some(ProbeFailure::Timeout));
    assert!(seen.response_time_ms >= 500);
}

/// With one socket, the second attempt waits longer for the first to time out than its own deadline allows.
#[tokio::test]
async fn waiting_for_a_socket_does_not_use_up_the_deadline() {
    let silent = Server::running(async |mut stream| drained(&mut stream).await).await;
    let good = Server::answering(answer("200 OK", "", "")).await;
    let connections = ConnectionLimits { total: 1, ..ConnectionLimits::default() };
    let limits = Limits { connections, ..Limits::default() };
    let prober = HttpProbe::new(loopback(), limits, aws::system::SystemClock).unwrap();
    let first = Check { timeout_ms: 1_500, ..get(&silent.url("/")) };
    let second = Check { timeout_ms: 1_000, ..get(&good.url("/")) };

    let (first, second) = tokio::join!(prober.probe_alone(&first), prober.probe_alone(&second));

    assert_eq!(first.failure, Some(ProbeFailure::Timeout));
    assert!(second.is_alive(), "{second:?}");
}
