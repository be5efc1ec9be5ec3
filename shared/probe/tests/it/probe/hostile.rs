//! Servers that mean harm: each ends within the deadline, in its class, within bounds, and lets nobody else wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::check::{Check, ProbeFailure};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::server::{Server, answer, read_head};
use super::{ProbeAlone as _, get, observe, prober};

/// Far more than any deadline here: what is not over by then never will be.
const FOREVER: Duration = Duration::from_mins(1);

/// Writes `head`, then `bit` again and again with a pause after each, until the client hangs up; then says so.
async fn dripping(head: &'static str, bit: &'static str, pause: Duration) -> (Server, Arc<Notify>) {
    let hung_up = Arc::new(Notify::new());
    let done = Arc::clone(&hung_up);
    let server = Server::running(move |mut stream| {
        let done = Arc::clone(&done);
        async move {
            read_head(&mut stream).await;
            let mut alive = stream.write_all(head.as_bytes()).await.is_ok();
            while alive {
                alive = stream.write_all(bit.as_bytes()).await.is_ok();
                sleep(pause).await;
            }
            done.notify_one();
        }
    })
    .await;
    (server, hung_up)
}

#[tokio::test]
async fn drip_feeding_is_timeout_and_the_connection_is_given_up() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\n";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases = [
        ("HTTP/1.1 200 ", "x", None, "reason"),
        (HEAD, "X", None, "one header"),
        (HEAD, "A: b\r\n", None, "headers"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n", None, "interim answers"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", "x", Some(200), "body"),
        ("HTTP/1.1 200 OK\r\n\r\n", "x", Some(200), "body without end"),
        (CHUNKED, "1\r\nx\r\n", Some(200), "chunks"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "x", Some(200), "chunk extension"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n", Some(200), "trailers"),
    ];
    let prober = prober();
    let attempts = cases.map(async |(head, bit, status, what)| {
        let (server, hung_up) = dripping(head, bit, Duration::from_millis(50)).await;
        // Long enough for the head to arrive on a busy machine, too short for 100 headers.
        let check = Check { timeout_ms: 2_000, ..get(&server.url("/")) };
        let seen = timeout(FOREVER, prober.probe_alone(&check))
            .await
            .unwrap_or_else(|_| panic!("{what} has no end"));
        assert_eq!((seen.failure, seen.http_status), (Some(ProbeFailure::Timeout), status), "{what}");
        timeout(FOREVER, hung_up.notified()).await.unwrap_or_else(|_| panic!("{what}: connection left open"));
    });
    futures::future::join_all(attempts).await;
}

/// Writes `head` and then `bit` as fast as the client takes it; counts what it took.
async fn flooding(head: &'static str, bit: Vec<u8>) -> (Server, Arc<AtomicUsize>, Arc<Notify>) {
    let (taken, hung_up) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, done) = (Arc::clone(&taken), Arc::clone(&hung_up));
    let server = Server::running(move |mut stream| {
        let (count, done, bit) = (Arc::clone(&count), Arc::clone(&done), bit.clone());
        async move {
            read_head(&mut stream).await;
            let mut alive = stream.write_all(head.as_bytes()).await.is_ok();
            while alive {
                alive = stream.write_all(&bit).await.is_ok();
                count.fetch_add(bit.len(), Ordering::SeqCst);
            }
            done.notify_one();
        }
    })
    .await;
    (server, taken, hung_up)
}

/// What lies in the kernel's socket buffers of both sides at most, and a margin: Linux gives 6 and 4 MiB.
const SOCKET_BUFFERS: usize = 32 * 1024 * 1024;

#[tokio::test]
async fn a_body_without_end_is_alive_after_its_first_64_kib() {
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000000\r\n\r\n"]
    {
        let (server, taken, hung_up) = flooding(head, vec![b'x'; 16 * 1024]).await;
        let seen = timeout(FOREVER, observe(&server.url("/"))).await.unwrap();
        assert!(seen.is_alive(), "{seen:?}");
        timeout(FOREVER, hung_up.notified()).await.unwrap();
        assert!(taken.load(Ordering::SeqCst) < SOCKET_BUFFERS);
    }
}

#[tokio::test]
async fn headers_without_end_are_body() {
    for (head, bit, what) in [
        ("HTTP/1.1 200 OK\r\nA: ", "b".repeat(16 * 1024), "one header"),
        ("HTTP/1.1 200 OK\r\n", format!("A: {}\r\n", "b".repeat(8 * 1024)), "large headers"),
        ("HTTP/1.1 200 OK\r\n", "A: b\r\n".repeat(1000), "many headers"),
        ("HTTP/1.1 200 ", "b".repeat(16 * 1024), "reason"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n".repeat(1000), "trailers"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "x".repeat(16 * 1024), "chunk extension"),
    ] {
        let (server, taken, hung_up) = flooding(head, bit.into_bytes()).await;
        let seen = timeout(FOREVER, observe(&server.url("/"))).await.unwrap();
        assert_eq!(seen.failure, Some(ProbeFailure::Body), "{what}");
        timeout(FOREVER, hung_up.notified()).await.unwrap();
        assert!(taken.load(Ordering::SeqCst) < SOCKET_BUFFERS, "{what}");
    }
}

/// These keep the parser going without anything to hold on to: the deadline is what ends them.
#[tokio::test]
async fn floods_that_fill_nothing_are_timeout() {
    for (head, bit, status) in [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0".repeat(16 * 1024), Some(200)),
        ("", "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000), None),
    ] {
        let (server, _, hung_up) = flooding(head, bit.into_bytes()).await;
        let check = Check { timeout_ms: 2_000, ..get(&server.url("/")) };
        let seen = timeout(FOREVER, prober().probe_alone(&check)).await.unwrap();
        assert_eq!((seen.failure, seen.http_status), (Some(ProbeFailure::Timeout), status));
        timeout(FOREVER, hung_up.notified()).await.unwrap();
    }
}

#[tokio::test]
async fn ten_mebibytes_of_headers_are_body() {
    let headers = format!("A: {}\r\n", "b".repeat(1022)).repeat(10 * 1024);
    let server = Server::answering(format!("HTTP/1.1 200 OK\r\n{headers}\r\n")).await;
    assert_eq!(observe(&server.url("/")).await.failure, Some(ProbeFailure::Body));
}

#[tokio::test]
async fn long_headers_are_alive_until_they_fill_the_buffer() {
    for (kibibytes, failure) in [(32, None), (96, Some(ProbeFailure::Body))] {
        let headers = format!("A: {}\r\n", "b".repeat(1019)).repeat(kibibytes);
        let server = Server::answering(format!("HTTP/1.1 204 No Content\r\n{headers}\r\n")).await;
        assert_eq!(observe(&server.url("/")).await.failure, failure, "{kibibytes}");
    }
}

#[tokio::test]
async fn a_hundred_headers_are_alive_and_more_are_body() {
    for (count, failure) in [(100, None), (101, Some(ProbeFailure::Body))] {
        let server =
            Server::answering(format!("HTTP/1.1 204 No Content\r\n{}\r\n", "A: b\r\n".repeat(count))).await;
        assert_eq!(observe(&server.url("/")).await.failure, failure, "{count}");
    }
}

/// Nothing is unpacked, so a bomb is just a small body.
#[tokio::test]
async fn a_gzip_bomb_is_not_unpacked() {
    for encoding in ["gzip", "br", "zstd", "deflate", "gzip, gzip, gzip"] {
        // No valid stream of any of these: unpacking would fail.
        let headers = format!("Content-Encoding: {encoding}\r\n");
        let server = Server::answering(answer("200 OK", &headers, "\u{1f}not packed")).await;
        let seen = observe(&server.url("/")).await;
        assert!(seen.is_alive(), "{encoding}: {seen:?}");
        assert!(!server.requests()[0].to_ascii_lowercase().contains("accept-encoding"));
    }
}

#[tokio::test]
async fn answers_that_break_off_are_body() {
    for (bytes, status) in [
        ("", None),
        ("HTTP/1.1", None),
        ("HTTP/1.1 200 OK\r\n", None),
        ("HTTP/1.1 200 OK\r\nContent-Le", None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", Some(200)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", Some(200)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Some(200)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal", Some(200)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", Some(200)),
    ] {
        // `answering` closes its half and goes on reading: half-closed, not reset.
        let server = Server::answering(bytes).await;
        let seen = observe(&server.url("/")).await;
        assert_eq!((seen.failure, seen.http_status), (Some(ProbeFailure::Body), status), "{bytes:?}");
    }
}

#[tokio::test]
async fn resets_after_the_connection_stands_are_body() {
    for bytes in ["", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"] {
        let server = Server::running(move |mut stream: TcpStream| async move {
            read_head(&mut stream).await;
            stream.write_all(bytes.as_bytes()).await.unwrap();
            stream.set_zero_linger().unwrap();
        })
        .await;
        // Whether the status was read before the reset threw it away is not for the server to say.
        assert_eq!(observe(&server.url("/")).await.failure, Some(ProbeFailure::Body), "{bytes:?}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_body() {
    for bytes in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "<html>HTTP 0.9</html>",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 -20 OK\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA\0: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ] {
        let server = Server::answering(bytes).await;
        let seen = observe(&server.url("/")).await;
        assert_eq!(seen.failure, Some(ProbeFailure::Body), "{bytes:?}");
    }
}

#[tokio::test]
async fn a_switch_of_protocols_nobody_asked_for_is_no_success() {
    let server =
        Server::answering("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            .await;
    let seen = observe(&server.url("/")).await;
    assert!(matches!(seen.failure, Some(ProbeFailure::Status | ProbeFailure::Body)), "{seen:?}");
}
