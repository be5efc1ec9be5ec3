//! Redirects: followed by hand, each judged like a registered URL.

use domain::check::{Check, Method, ProbeFailure};
use domain::target_url::TargetPolicy;

use super::server::{Server, answer, redirect};
use super::{ProbeAlone as _, get, names_from, observe, prober, prober_in};
use testing::names::{NameServer, addresses};

/// A server that redirects `/` to `location` and is fine everywhere else.
async fn to(status: &'static str, location: impl Into<String>) -> Server {
    let location = location.into();
    Server::routing(
        move |path| {
            if path == "/" { redirect(status, &location) } else { answer("200 OK", "", "fine") }
        },
    )
    .await
}

#[tokio::test]
async fn every_kind_of_redirect_is_followed_with_the_same_method() {
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        for method in [Method::Get, Method::Head] {
            let server = to(status, "/next").await;
            let seen = prober().probe_alone(&Check { method, ..get(&server.url("/")) }).await;
            assert!(seen.is_alive(), "{status}: {seen:?}");
            assert_eq!(seen.http_status, Some(200));
            assert_eq!(server.request_lines(), [format!("{method} /"), format!("{method} /next")]);
        }
    }
}

#[tokio::test]
async fn every_form_of_location_is_understood() {
    for (location, path) in [
        ("/a/b?c=d#fragment", "/a/b?c=d"),
        ("next", "/next"),
        ("?q=1", "/?q=1"),
        ("../up", "/up"),
        ("./here", "/here"),
        ("//HOST/absolute", "/absolute"),
        ("http://HOST/absolute", "/absolute"),
        ("http:/relative", "/relative"),
        ("/with space", "/with%20space"),
        ("/grün", "/gr%C3%BCn"),
        ("\\\\HOST\\slashes", "/slashes"),
    ] {
        let target = Server::answering(answer("200 OK", "", "")).await;
        let server = to("302 Found", location.replace("HOST", &target.at.to_string())).await;
        let seen = observe(&server.url("/")).await;
        assert!(seen.is_alive(), "{location}: {seen:?}");
        let asked = [server.request_lines(), target.request_lines()].concat();
        assert_eq!(asked, ["GET /".to_owned(), format!("GET {path}")], "{location}");
    }
}

#[tokio::test]
async fn an_expected_redirect_is_not_followed() {
    let server = to("301 Moved Permanently", "http://10.0.0.1/").await;
    let seen = prober()
        .probe_alone(&Check { expected_status: "301".parse().unwrap(), ..get(&server.url("/")) })
        .await;
    assert!(seen.is_alive(), "{seen:?}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn five_redirects_are_followed_and_the_sixth_is_not() {
    for (last, failure) in [(5, None), (6, Some(ProbeFailure::Redirect))] {
        let server = Server::routing(move |path| {
            let hop: usize = path.trim_start_matches('/').parse().unwrap_or(0);
            if hop < last {
                redirect("302 Found", &format!("/{}", hop + 1))
            } else {
                answer("200 OK", "", "")
            }
        })
        .await;
        assert_eq!(observe(&server.url("/0")).await.failure, failure, "{last} redirects");
        assert_eq!(server.connections(), 6);
    }
}

#[tokio::test]
async fn loops_are_redirect() {
    let to_itself = to("302 Found", "/#again").await;
    let seen = observe(&to_itself.url("/")).await;
    assert_eq!((seen.failure, seen.http_status), (Some(ProbeFailure::Redirect), Some(302)));
    assert_eq!(to_itself.connections(), 1);

    let of_two =
        Server::routing(|path| redirect("307 Temporary Redirect", if path == "/" { "/b" } else { "/" }))
            .await;
    assert_eq!(observe(&of_two.url("/")).await.failure, Some(ProbeFailure::Redirect));
    assert_eq!(of_two.connections(), 2);
}

#[tokio::test]
async fn a_redirect_that_leads_nowhere_is_redirect() {
    let long = format!("Location: /{}\r\n", "a".repeat(9000));
    for headers in [
        b"".as_slice(),
        b"Location: http://\r\n",
        b"Location: http://[::1\r\n",
        b"Location: http://a:99999/\r\n",
        b"Location: /\xff\xfe\r\n",
        long.as_bytes(),
    ] {
        let bytes = [b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n", headers, b"\r\n"].concat();
        let server = Server::answering(bytes).await;
        let seen = observe(&server.url("/")).await;
        assert_eq!(seen.failure, Some(ProbeFailure::Redirect), "{:?}", String::from_utf8_lossy(headers));
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn a_redirect_to_what_nobody_could_register_is_blocked() {
    let policy = TargetPolicy::public(
        vec!["api.health.example".to_owned()],
        vec!["webtrigger.atlassian.app".to_owned()],
    )
    .allow_loopback();
    for location in [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0xa9.0xfe.0xa9.0xfe/",
        "http://0251.0376.0251.0376/",
        "http://169.254.43518/",
        "http://%31%36%39.254.169.254/",
        "http://①⑥⑨.254.169.254/",
        "//169.254.169.254./",
        "\\\\169.254.169.254\\",
        "http://[fd00:ec2::254]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2606:4700::1111]/",
        "http://0.0.0.0:9001/",
        "http://intranet/",
        "http://db.internal/",
        "http://a..b/",
        "http://user@example.com/",
        "http://user:pass@127.0.0.1/",
        "http://127.0.0.1:22/",
        "http://127.0.0.1:6667/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/_x",
        "javascript:alert(1)",
        "data:text/plain,x",
        "unix:/run/x.sock",
        "https://api.health.example/register",
        "https://0a1b.webtrigger.atlassian.app/public/x",
    ] {
        let server = to("302 Found", location).await;
        let seen =
            prober_in(&probe::Network::default(), policy.clone()).probe_alone(&get(&server.url("/"))).await;
        assert_eq!((seen.failure, seen.http_status), (Some(ProbeFailure::Blocked), Some(302)), "{location}");
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn a_redirect_to_a_name_with_a_forbidden_address_is_blocked() {
    let names = NameServer::replying(|name, _| match name {
        "inside.example.com" => addresses(&["10.0.0.1"]),
        _ => addresses(&["127.0.0.1"]),
    })
    .await;
    let server = to("302 Found", "http://inside.example.com/").await;
    let prober = prober_in(&names_from(&names), super::loopback());
    let seen = prober.probe_alone(&get(&server.url_at("outside.example.com", "/"))).await;
    assert_eq!((seen.failure, seen.http_status), (Some(ProbeFailure::Blocked), Some(302)));
    assert_eq!(server.connections(), 1);
}

/// The second look-up of the same name gives another address: each hop stands on its own look-up, and on no further one.
#[tokio::test]
async fn a_name_that_is_rebound_between_two_hops_is_blocked() {
    let names = NameServer::replying(|_, count| {
        if count == 0 { addresses(&["127.0.0.1"]) } else { addresses(&["169.254.169.254"]) }
    })
    .await;
    let server = to("302 Found", "/next").await;
    let prober = prober_in(&names_from(&names), super::loopback());
    let seen = prober.probe_alone(&get(&server.url_at("rebind.example.com", "/"))).await;
    assert_eq!(seen.failure, Some(ProbeFailure::Blocked));
    assert_eq!(names.questions().len(), 2);
    assert_eq!(server.request_lines(), ["GET /"]);
}

#[tokio::test]
async fn a_redirect_takes_along_neither_cookies_nor_the_referer() {
    let server = Server::routing(|path| {
        if path == "/" {
            answer("302 Found", "Location: /next\r\nSet-Cookie: a=b; Path=/\r\n", "")
        } else {
            answer("200 OK", "", "")
        }
    })
    .await;
    assert!(observe(&server.url("/")).await.is_alive());
    let second = server.requests()[1].to_ascii_lowercase();
    assert!(!second.contains("cookie") && !second.contains("referer"), "{second}");
}
