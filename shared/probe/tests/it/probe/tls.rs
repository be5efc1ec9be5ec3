//! HTTPS: good certificates, bad ones, and servers that speak something else.

use std::sync::{Arc, Mutex};

use domain::check::{Observation, ProbeFailure};
use probe::Network;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::certificates::{Authority, Identity, https, tls_server, valid_for};
use super::server::{Server, answer, drained, read_head, redirect, write_and_close};
use super::{ProbeAlone as _, get, hasty, loopback, prober_in};
use testing::names::NameServer;

/// What a prober that trusts `authority` makes of an HTTPS server at `service.example.com`.
async fn observe(authority: &Authority, server: &Server) -> Observation {
    let names = NameServer::answering(&["127.0.0.1"]).await;
    let network = Network { name_servers: vec![names.at], ..authority.trusted() };
    let url = format!("https://service.example.com:{}/", server.at.port());
    prober_in(&network, loopback()).probe_alone(&get(&url)).await
}

async fn observe_config(authority: &Authority, config: ServerConfig) -> Observation {
    observe(authority, &https(config, answer("200 OK", "", "")).await).await
}

fn end_of(params: &CertificateParams) -> i64 {
    params.not_after.unix_timestamp()
}

#[tokio::test]
async fn a_good_certificate_is_alive_and_its_end_is_told() {
    let authority = Authority::new("root");
    let params = valid_for("service.example.com");
    let seen = observe_config(&authority, authority.issue(&params).server_config()).await;
    assert!(seen.is_alive(), "{seen:?}");
    assert_eq!(seen.http_status, Some(200));
    assert_eq!(seen.certificate_expires_at.unwrap().as_second(), end_of(&params));
}

#[tokio::test]
async fn a_whole_chain_is_alive_and_one_without_its_intermediate_is_tls() {
    let root = Authority::new("root");
    let intermediate = root.intermediate("intermediate");
    let mut identity = intermediate.issue(&valid_for("service.example.com"));
    assert_eq!(observe_config(&root, identity.server_config()).await.failure, Some(ProbeFailure::Tls));
    identity.chain.push(intermediate.der());
    assert_eq!(observe_config(&root, identity.server_config()).await.failure, None);
}

#[tokio::test]
async fn a_certificate_that_is_known_proves_nothing_without_its_key() {
    let authority = Authority::new("root");
    let identity = authority.issue(&valid_for("service.example.com"));
    let names = NameServer::answering(&["127.0.0.1"]).await;
    let network = Network { name_servers: vec![names.at], ..authority.trusted() };
    let prober = prober_in(&network, loopback());
    for (config, failure) in [
        (identity.server_config(), None),
        (identity.server_config_of_a_thief(), Some(ProbeFailure::Tls)),
        (identity.server_config(), None),
    ] {
        let server = https(config, answer("200 OK", "", "")).await;
        let url = format!("https://service.example.com:{}/", server.at.port());
        assert_eq!(prober.probe_alone(&get(&url)).await.failure, failure);
    }
}

#[tokio::test]
async fn an_ended_certificate_is_tls_and_its_end_is_told() {
    let authority = Authority::new("root");
    let mut params = valid_for("service.example.com");
    params.not_after = date_time_ymd(2021, 2, 3);
    let seen = observe_config(&authority, authority.issue(&params).server_config()).await;
    assert_eq!(seen.failure, Some(ProbeFailure::Tls));
    assert_eq!(seen.certificate_expires_at.unwrap().as_second(), end_of(&params));
}

#[tokio::test]
async fn certificates_that_prove_nothing_are_tls() {
    let authority = Authority::new("root");
    let good = valid_for("service.example.com");
    let mut early = good.clone();
    early.not_before = date_time_ymd(2048, 1, 1);
    let mut not_for_servers = good.clone();
    not_for_servers.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let impostor = Authority::new("root");
    let below_a_leaf = Identity::self_signed(&good);
    for (identity, what) in [
        (authority.issue(&early), "not yet valid"),
        (authority.issue(&valid_for("other.example.com")), "another name"),
        (authority.issue(&valid_for("*.service.example.com")), "names below"),
        (authority.issue(&valid_for("127.0.0.1")), "its address"),
        (authority.issue(&CertificateParams::new(Vec::new()).unwrap()), "no name"),
        (authority.issue(&not_for_servers), "for clients"),
        (Identity::self_signed(&good), "self-signed"),
        (impostor.issue(&good), "an authority of the same name"),
        (below_a_leaf, "signed by itself"),
    ] {
        let seen = observe_config(&authority, identity.server_config()).await;
        assert_eq!((seen.failure, seen.http_status), (Some(ProbeFailure::Tls), None), "{what}");
        assert_eq!(seen.certificate_expires_at, None, "{what}");
    }
}

#[tokio::test]
async fn an_address_is_proven_by_a_certificate_for_the_address() {
    let authority = Authority::new("root");
    for (name, failure) in [("127.0.0.1", None), ("service.example.com", Some(ProbeFailure::Tls))] {
        let server = https(authority.issue(&valid_for(name)).server_config(), answer("200 OK", "", "")).await;
        let prober = prober_in(&authority.trusted(), loopback());
        let seen = prober.probe_alone(&get(&format!("https://{}/", server.at))).await;
        assert_eq!(seen.failure, failure, "{name}");
    }
}

#[tokio::test]
async fn a_server_that_wants_a_client_certificate_is_tls() {
    let authority = Authority::new("root");
    let identity = authority.issue(&valid_for("service.example.com"));
    let seen = observe_config(&authority, identity.server_config_for_clients_of(&authority)).await;
    assert_eq!(seen.failure, Some(ProbeFailure::Tls));
}

/// A resumed session would not look at the certificate again, and a monitor has to.
#[tokio::test]
async fn no_session_is_resumed() {
    let authority = Authority::new("root");
    let identity = authority.issue(&valid_for("127.0.0.1"));
    let kinds: Arc<Mutex<Vec<HandshakeKind>>> = Arc::default();
    let log = Arc::clone(&kinds);
    let server = tls_server(identity.server_config(), move |mut stream| {
        log.lock().unwrap().extend(stream.get_ref().1.handshake_kind());
        async move {
            read_head(&mut stream).await;
            write_and_close(&mut stream, &answer("200 OK", "", "")).await;
        }
    })
    .await;
    let prober = prober_in(&authority.trusted(), loopback());
    for _ in 0..3 {
        assert!(prober.probe_alone(&get(&format!("https://{}/", server.at))).await.is_alive());
    }
    let kinds = kinds.lock().unwrap();
    assert_eq!(kinds.len(), 3);
    assert!(!kinds.contains(&HandshakeKind::Resumed), "{kinds:?}");
}

/// A server that is told nothing takes the end of the bytes for an attack, and logs it.
#[tokio::test]
async fn a_connection_ends_with_a_goodbye_in_tls() {
    let authority = Authority::new("root");
    let (told, mut ends) = mpsc::unbounded_channel();
    let server = tls_server(authority.issue(&valid_for("127.0.0.1")).server_config(), move |mut stream| {
        let told = told.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(&answer("200 OK", "Connection: keep-alive\r\n", "fine")).await.unwrap();
            told.send(stream.read_to_end(&mut Vec::new()).await.map_err(|error| error.kind())).unwrap();
        }
    })
    .await;
    let prober = prober_in(&authority.trusted(), loopback());
    assert!(prober.probe_alone(&get(&format!("https://{}/", server.at))).await.is_alive());
    assert_eq!(ends.recv().await, Some(Ok(0)));
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_redirect() {
    let authority = Authority::new("root");
    let plain = Server::answering(answer("200 OK", "", "")).await;
    let identity = authority.issue(&valid_for("service.example.com"));
    let server = https(identity.server_config(), redirect("301 Moved Permanently", &plain.url("/"))).await;
    let seen = observe(&authority, &server).await;
    assert_eq!((seen.failure, seen.http_status), (Some(ProbeFailure::Redirect), Some(301)));
    assert!(seen.certificate_expires_at.is_some());
    assert_eq!(plain.connections(), 0);
}

#[tokio::test]
async fn a_redirect_from_http_to_https_is_followed_and_the_earlier_end_is_told() {
    let authority = Authority::new("root");
    let (mut soon, late) = (valid_for("127.0.0.1"), valid_for("127.0.0.1"));
    soon.not_after = date_time_ymd(2040, 1, 1);
    let last = https(authority.issue(&late).server_config(), answer("200 OK", "", "")).await;
    let to_last = redirect("302 Found", &format!("https://{}/", last.at));
    let middle = https(authority.issue(&soon).server_config(), to_last).await;
    let first = Server::answering(redirect("302 Found", &format!("https://{}/", middle.at))).await;
    let seen = prober_in(&authority.trusted(), loopback()).probe_alone(&get(&first.url("/"))).await;
    assert!(seen.is_alive(), "{seen:?}");
    assert_eq!(seen.certificate_expires_at.unwrap().as_second(), end_of(&soon));
}

/// Reads the client's first record, then writes these bytes and closes.
async fn after_client_hello(bytes: &'static [u8]) -> Server {
    Server::running(move |mut stream| async move {
        let mut record = [0; 5];
        stream.read_exact(&mut record).await.unwrap();
        let mut hello = vec![0; u16::from_be_bytes([record[3], record[4]]).into()];
        stream.read_exact(&mut hello).await.unwrap();
        write_and_close(&mut stream, bytes).await;
    })
    .await
}

#[tokio::test]
async fn servers_that_do_not_finish_the_handshake_are_tls() {
    // A ServerHello of TLS 1.1 or 1.0 (RFC 4346): version, random, no session id, TLS_RSA_WITH_AES_128_CBC_SHA.
    const TLS_1_1: &[u8] = b"\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02\
        0123456789abcdef0123456789abcdef\x00\x00\x2f\x00";
    const TLS_1_0: &[u8] = b"\x16\x03\x01\x00\x2a\x02\x00\x00\x26\x03\x01\
        0123456789abcdef0123456789abcdef\x00\x00\x2f\x00";
    let authority = Authority::new("root");
    for (bytes, what) in [
        (TLS_1_1, "TLS 1.1"),
        (TLS_1_0, "TLS 1.0"),
        (b"\x15\x03\x01\x00\x02\x02\x28".as_slice(), "alert: handshake failure"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "alert: protocol version"),
        (b"\x15\x03\x01\x00\x02\x02\x70", "alert: unrecognised name"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "plain HTTP"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "something else"),
        (b"", "closed"),
    ] {
        let server = after_client_hello(bytes).await;
        let seen = observe(&authority, &server).await;
        assert_eq!((seen.failure, seen.http_status), (Some(ProbeFailure::Tls), None), "{what}");
    }
}

#[tokio::test]
async fn a_reset_during_the_handshake_is_tls() {
    let server = Server::running(async |mut stream: TcpStream| {
        stream.read_u8().await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    assert_eq!(observe(&Authority::new("root"), &server).await.failure, Some(ProbeFailure::Tls));
}

#[tokio::test]
async fn a_handshake_that_hangs_is_timeout() {
    let server = Server::running(async |mut stream| drained(&mut stream).await).await;
    let prober = prober_in(&Authority::new("root").trusted(), loopback());
    let seen = prober.probe_alone(&hasty(&format!("https://{}/", server.at))).await;
    assert_eq!(seen.failure, Some(ProbeFailure::Timeout));
}

#[tokio::test]
async fn a_truncated_answer_over_tls_is_body() {
    let authority = Authority::new("root");
    let identity = authority.issue(&valid_for("service.example.com"));
    let server = tls_server(identity.server_config(), async |mut stream| {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await.unwrap();
        stream.flush().await.unwrap();
    })
    .await;
    let seen = observe(&authority, &server).await;
    assert_eq!((seen.failure, seen.http_status), (Some(ProbeFailure::Body), Some(200)));
}
