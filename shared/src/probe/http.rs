//! One HTTP attempt, made so that a hostile tenant and a hostile target both lose.
//!
//! A fresh connection every time, HTTP/1.1, no cookies, no proxy, no decompression, no TLS session resumption (a resumed
//! session would not look at the certificate again). Redirects are followed here, by hand, and each is judged as if
//! somebody had registered it. Every look-up and every connection takes a turn ([`turns`](super::turns)); one deadline covers
//! everything but the waits for them. What is held in memory of one target is bounded by
//! hyper's limits for headers (100 fields, 408 KiB) and one read of the body; a body is not kept. 400 targets that all
//! fill that limit and then hang cost 170 MB together (measured). After
//! [`Limits::body_bytes`] the rest of a body is not read, and the check has passed.
//!
//! Failure classes come from the types of errors, never from their texts.
//!
//! Deliberately absent: repeating an attempt (the tick's business), and any log of what a target sent.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, Response, StatusCode, redirect};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
use rustls::{CertificateError, CipherSuite, ClientConfig};
use tokio::time::{Instant, timeout};
use url::{Host, Url};

use super::address::{Policy, Refusal, TargetUrl};
use super::certificates::{Remembering, certificate_end};
use super::resolver::{Vetted, VettingResolver};
use super::turns::{Share, Turns};
use super::{Check, Failure, Method, Observation, Probe};
use crate::clock::{Clock, whole_seconds};
use crate::tls;

/// How a probe names itself.
const USER_AGENT: &str = "forge-health/0.1";

/// The longest redirect target that is followed, in bytes. Longer than what can be registered: sign-in pages are.
const MAX_LOCATION_BYTES: usize = 8_192;

/// What an [`HttpProbe`] may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Look-ups and connections at once (Lambda allows 1,024 descriptors). Further ones wait for their turn, and their
    /// deadline with them.
    pub sockets: usize,
    /// Connections at once to one address, whoever asks: about as many as two browsers would open.
    pub per_address: usize,
    /// How much of a body is read before the check has passed.
    pub body_bytes: usize,
    /// How many redirects one attempt follows.
    pub redirects: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { sockets: 400, per_address: 16, body_bytes: 64 * 1024, redirects: 5 }
    }
}

/// The surroundings of an [`HttpProbe`] that tests replace. The default is the machine's: `/etc/resolv.conf`, and the
/// platform's certificate authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` change them, as with most tools).
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Name servers instead of the machine's.
    pub name_servers: Vec<SocketAddr>,
    /// Certificate authorities beside the platform's, DER.
    pub extra_authorities: Vec<Vec<u8>>,
}

/// Why an [`HttpProbe`] cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// `/etc/resolv.conf` cannot be read, or names no server.
    #[error("no name servers")]
    NameServers(#[source] Box<dyn Error + Send + Sync>),
    /// The HTTP client.
    #[error(transparent)]
    Client(#[from] tls::SetupError),
}

/// Probes over HTTP and HTTPS. Make one and share it: it holds the certificate authorities.
pub struct HttpProbe<C> {
    client: Client,
    resolver: VettingResolver,
    policy: Policy,
    turns: Turns,
    limits: Limits,
    clock: C,
}

impl<C: Clock> HttpProbe<C> {
    /// A probe for the machine's network.
    pub fn new(policy: Policy, limits: Limits, clock: C) -> Result<Self, SetupError> {
        Self::within(&Network::default(), policy, limits, clock)
    }

    /// A probe for another network.
    pub fn within(network: &Network, policy: Policy, limits: Limits, clock: C) -> Result<Self, SetupError> {
        let resolver = VettingResolver::new(policy.clone(), &network.name_servers)
            .map_err(|error| SetupError::NameServers(error.into()))?;
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("*/*"))]);
        let client = Client::builder()
            .tls_backend_preconfigured(tls_config(&network.extra_authorities)?)
            .tls_info(true)
            .dns_resolver(Vetted)
            .http1_only()
            .pool_max_idle_per_host(0)
            // A connection that lives for one answer needs no keep-alive, and arming it takes five of twenty system calls.
            .tcp_keepalive(None)
            .tcp_keepalive_interval(None)
            .tcp_keepalive_retries(None)
            .tcp_user_timeout(None)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .user_agent(USER_AGENT)
            .default_headers(headers)
            .build()
            .map_err(tls::SetupError::from)?;
        let turns = Turns::new(limits.sockets, limits.per_address);
        Ok(Self { client, resolver, policy, turns, limits, clock })
    }

    /// What the addresses behind a name say about a target that passed [`Policy::target`]: forbidden, or IPv6 only.
    ///
    /// For a registration that wants to tell why its first check was `blocked` or could not `connect`. Looks up the
    /// name, and connects to nothing. A name that does not resolve is no refusal.
    pub async fn explain(&self, target: &TargetUrl) -> Result<(), Refusal> {
        let Some(Host::Domain(name)) = target.url().host() else { return Ok(()) };
        match timeout(Duration::from_millis(Check::DEFAULT_TIMEOUT_MS.into()), self.resolver.addresses(name))
            .await
        {
            Ok(Err(error)) => Option::from(error).map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    async fn attempt(
        &self,
        check: &Check,
        share: &Share,
        budget: &mut Budget,
        seen: &mut Seen,
    ) -> Result<(), Failure> {
        // A stored URL was judged under the policy of its time.
        let mut target = self.policy.canonical(check.url.url().clone()).map_err(|_| Failure::Blocked)?;
        let mut visited = Vec::new();
        loop {
            let addresses = self.addresses(&target, share, budget).await?;
            let turn = self.turns.take(share, &addresses).await;
            budget.begins(&self.clock);
            let next = budget.spend(Vetted::only(addresses, self.ask(check, &target, seen))).await?;
            drop(turn);
            let Some(next) = next else { return Ok(()) };
            visited.push(target);
            if visited.len() > self.limits.redirects || visited.contains(&next) {
                return Err(Failure::Redirect);
            }
            target = next;
        }
    }

    /// Where a target is: all that a connection to it may reach.
    async fn addresses(
        &self,
        target: &TargetUrl,
        share: &Share,
        budget: &mut Budget,
    ) -> Result<Vec<IpAddr>, Failure> {
        match target.url().host() {
            Some(Host::Domain(name)) => {
                let _turn = self.turns.take(share, &[]).await;
                budget.begins(&self.clock);
                budget.spend(async { Ok(self.resolver.addresses(name).await?) }).await
            }
            Some(Host::Ipv4(ip)) => Ok(vec![ip.into()]),
            Some(Host::Ipv6(ip)) => Ok(vec![ip.into()]),
            None => Err(Failure::Blocked),
        }
    }

    /// One request. Returns where its answer leads, or nothing when the check has passed.
    async fn ask(
        &self,
        check: &Check,
        target: &TargetUrl,
        seen: &mut Seen,
    ) -> Result<Option<TargetUrl>, Failure> {
        let response = self.send(check.method, target, seen).await?;
        let status = response.status();
        seen.http_status = Some(status.as_u16());
        if check.expected_status.contains(status.as_u16()) {
            return self.read_body(response).await.map(|()| None);
        }
        if !is_redirect(status) {
            return Err(Failure::Status);
        }
        self.next_hop(target, &response).map(Some)
    }

    async fn send(&self, method: Method, target: &TargetUrl, seen: &mut Seen) -> Result<Response, Failure> {
        let method = match method {
            Method::Get => reqwest::Method::GET,
            Method::Head => reqwest::Method::HEAD,
        };
        let response = match self.client.request(method, target.url().clone()).send().await {
            Ok(response) => response,
            Err(error) => {
                let (failure, certificate_end) = classify(&error, target.is_https());
                seen.certificate_ends(certificate_end);
                return Err(failure);
            }
        };
        // Detection only: the resolver and the URL rule leave no way to get here.
        if response.remote_addr().is_none_or(|peer| self.policy.address(peer.ip()).is_err()) {
            tracing::error!("a probe was connected to a forbidden address");
            return Err(Failure::Blocked);
        }
        let tls = response.extensions().get::<reqwest::tls::TlsInfo>();
        seen.certificate_ends(tls.and_then(|tls| certificate_end(tls.peer_certificate()?)));
        Ok(response)
    }

    fn next_hop(&self, from: &TargetUrl, response: &Response) -> Result<TargetUrl, Failure> {
        let location = response.headers().get(LOCATION).ok_or(Failure::Redirect)?;
        if location.len() > MAX_LOCATION_BYTES {
            return Err(Failure::Redirect);
        }
        // Bytes over 127 are read as UTF-8, as browsers do; what is neither is no URL.
        let location = std::str::from_utf8(location.as_bytes()).map_err(|_| Failure::Redirect)?;
        let next: Url = from.url().join(location).map_err(|_| Failure::Redirect)?;
        if from.is_https() && next.scheme() == "http" {
            return Err(Failure::Redirect);
        }
        self.policy.canonical(next).map_err(|_| Failure::Blocked)
    }

    async fn read_body(&self, mut response: Response) -> Result<(), Failure> {
        let mut read_bytes = 0;
        while read_bytes < self.limits.body_bytes {
            match response.chunk().await {
                Ok(Some(chunk)) => read_bytes += chunk.len(),
                Ok(None) => break,
                Err(error) => return Err(classify(&error, false).0),
            }
        }
        Ok(())
    }
}

impl<C: Clock> Probe for HttpProbe<C> {
    async fn probe(&self, check: &Check, share: &Share) -> Observation {
        let timeout_ms = check.timeout_ms.clamp(*Check::TIMEOUT_MS.start(), *Check::TIMEOUT_MS.end());
        let mut budget = Budget { left: Duration::from_millis(timeout_ms.into()), ..Budget::default() };
        let mut seen = Seen::default();
        let failure = self.attempt(check, share, &mut budget, &mut seen).await.err();
        Observation {
            checked_at: budget.began_at.unwrap_or_else(|| whole_seconds(self.clock.now())),
            response_time_ms: u32::try_from(budget.spent.as_millis()).unwrap_or(u32::MAX),
            attempts: 1,
            http_status: seen.http_status,
            failure,
            certificate_expires_at: seen.certificate_expires_at,
        }
    }
}

/// The time of an attempt, in which waiting for a turn does not count.
#[derive(Default)]
struct Budget {
    /// When it first had a turn.
    began_at: Option<Timestamp>,
    spent: Duration,
    left: Duration,
}

impl Budget {
    fn begins(&mut self, clock: &impl Clock) {
        self.began_at.get_or_insert_with(|| whole_seconds(clock.now()));
    }

    async fn spend<T>(&mut self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let begin = Instant::now();
        let done = timeout(self.left, work).await;
        self.spent += begin.elapsed();
        self.left = self.left.saturating_sub(begin.elapsed());
        done.unwrap_or(Err(Failure::Timeout))
    }
}

/// What an attempt learned before it ended, however it ended.
#[derive(Default)]
struct Seen {
    http_status: Option<u16>,
    certificate_expires_at: Option<Timestamp>,
}

impl Seen {
    fn certificate_ends(&mut self, end: Option<Timestamp>) {
        self.certificate_expires_at = match (self.certificate_expires_at, end) {
            (Some(earlier), Some(end)) => Some(earlier.min(end)),
            (known, end) => known.or(end),
        };
    }
}

fn tls_config(extra_authorities: &[Vec<u8>]) -> Result<ClientConfig, tls::SetupError> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // First the one that every server knows, in a hello that fits one packet: a probe has no secrets for an attacker with
    // a quantum computer to come, and pays for the key exchange that would keep them.
    provider.kx_groups = vec![X25519, SECP256R1, SECP384R1, X25519MLKEM768];
    // As browsers have it, too. It brings SHA-256, for which processors have instructions; the key schedule of TLS 1.3 is
    // twice the work with the SHA-384 of AES-256.
    provider.cipher_suites.sort_by_key(|offered| offered.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let provider = Arc::new(provider);
    let verifier = Remembering::new(tls::authorities(extra_authorities)?, &provider)?;
    let mut config = tls::client(&provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The redirects that carry a request on. 300 offers a choice, 304 answers a condition that was not asked.
fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The failure class of a request that got no complete answer, and the end of the certificate if that was the reason.
fn classify(error: &reqwest::Error, is_https: bool) -> (Failure, Option<Timestamp>) {
    let mut io_kind = None;
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return (Failure::Tls, expired_at(tls));
        }
        next = match current.downcast_ref::<io::Error>() {
            Some(io) => {
                io_kind = Some(io.kind());
                // An io::Error's source() leaves out what it wraps.
                io.get_ref().map(|inner| inner as &(dyn Error + 'static)).or_else(|| current.source())
            }
            None => current.source(),
        };
    }
    if !error.is_connect() {
        return (Failure::Body, None);
    }
    // Once TCP stands, only the handshake can end like this before there is a connection.
    let broken_off = matches!(
        io_kind,
        Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
    );
    (if is_https && broken_off { Failure::Tls } else { Failure::Connect }, None)
}

fn expired_at(error: &rustls::Error) -> Option<Timestamp> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. }) => {
            Timestamp::from_second(i64::try_from(not_after.as_secs()).ok()?).ok()
        }
        _ => None,
    }
}
