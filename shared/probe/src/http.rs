//! One HTTP attempt, made so that a hostile tenant and a hostile target both lose.
//!
//! A fresh [`connection`](super::connection) every time, HTTP/1.1, no cookies, no proxy, no decompression. Redirects are
//! followed here, by hand, and each is judged as if it had been registered. Every look-up and every connection needs a permit
//! ([`limiter`](super::limiter)); one deadline covers everything but the waits for them. What is held in memory of one target
//! is bounded by [`BUFFER_BYTES`]; a body is not kept. After [`Limits::body_bytes`] the rest of a body is not read, and the check
//! has passed.
//!
//! Failure classes come from the types of errors, never from their texts.
//!
//! Not here: repeating an attempt (the tick's business), and any log of what a target sent.

use std::error::Error;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, HOST, HeaderMap, LOCATION, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::{Host, Position, Url};

use super::budget::Budget;
use super::connection::{ConnectError, Connector};
use super::drive::{drive, interrupted};
use super::limiter::{Attempt, ConnectionLimiter, ConnectionLimits, Permit, TenantQuota};
use super::resolver::VettingResolver;
use domain::check::{Check, Method, Observation, ProbeFailure};
use domain::target_url::{TargetError, TargetPolicy, TargetUrl};

use super::Probe;
use crate::tls;
use domain::clock::{Clock, whole_seconds};

/// How a probe names itself.
const NAME: &str = "forge-health/0.1";

/// The longest redirect target that is followed, in bytes. Longer than what can be registered: sign-in pages are.
const MAX_LOCATION_BYTES: usize = 8_192;

/// The longest headers that are accepted, and how much of an answer hyper holds before it stops reading; one read may come on
/// top, so a connection takes twice as much at most. Node gives up on headers at 16 KiB, nginx as a proxy at 4 or 8.
const BUFFER_BYTES: usize = 64 * 1024;

/// What an [`HttpProbe`] may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Look-ups and connections at once. Further ones wait, and their deadline with them.
    pub connections: ConnectionLimits,
    /// How much of a body is read before the check has passed.
    pub body_bytes: usize,
    /// How many redirects one attempt follows.
    pub redirects: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: ConnectionLimits::default(), body_bytes: 64 * 1024, redirects: 5 }
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
    /// TLS.
    #[error(transparent)]
    Tls(#[from] tls::SetupError),
}

/// Probes over HTTP and HTTPS. Make one and share it: it holds the certificate authorities.
pub struct HttpProbe {
    connector: Connector,
    resolver: VettingResolver,
    policy: TargetPolicy,
    limiter: ConnectionLimiter,
    limits: Limits,
    clock: Arc<dyn Clock>,
}

impl HttpProbe {
    /// A probe for the machine's network.
    pub fn new(
        policy: TargetPolicy,
        limits: Limits,
        clock: impl Clock + 'static,
    ) -> Result<Self, SetupError> {
        Self::within(&Network::default(), policy, limits, clock)
    }

    /// A probe for another network.
    pub fn within(
        network: &Network,
        policy: TargetPolicy,
        limits: Limits,
        clock: impl Clock + 'static,
    ) -> Result<Self, SetupError> {
        let resolver = VettingResolver::new(policy.clone(), &network.name_servers)
            .map_err(|error| SetupError::NameServers(error.into()))?;
        let connector = Connector::new(&network.extra_authorities)?;
        let limiter = ConnectionLimiter::new(limits.connections);
        Ok(Self { connector, resolver, policy, limiter, limits, clock: Arc::new(clock) })
    }

    /// One attempt, with the reason when the target policy forbids the target, or there is no way to its addresses.
    pub async fn attempt(
        &self,
        check: &Check,
        quota: &TenantQuota,
        attempt: Attempt,
    ) -> (Observation, Option<TargetError>) {
        let timeout_ms = check.timeout_ms.clamp(*Check::TIMEOUT_MS.start(), *Check::TIMEOUT_MS.end());
        let mut budget = Budget { left: Duration::from_millis(timeout_ms.into()), ..Budget::default() };
        let mut seen = Seen::default();
        let failure = self.follow(check, Asker { quota, attempt }, &mut budget, &mut seen).await.err();
        let observation = Observation {
            checked_at: budget.began_at.unwrap_or_else(|| whole_seconds(self.clock.now())),
            response_time_ms: u32::try_from(budget.spent.as_millis()).unwrap_or(u32::MAX),
            attempts: 1,
            http_status: seen.http_status,
            failure,
            certificate_expires_at: seen.certificate_expires_at,
        };
        (observation, seen.refused)
    }

    /// Requests one URL after the other, as redirects lead.
    async fn follow(
        &self,
        check: &Check,
        asker: Asker<'_>,
        budget: &mut Budget,
        seen: &mut Seen,
    ) -> Result<(), ProbeFailure> {
        // A stored URL was judged under the policy of its time.
        let stored = self.policy.canonical(check.url.url().clone());
        let mut target = stored.map_err(|error| seen.refuse(error, ProbeFailure::Blocked))?;
        let mut visited = Vec::new();
        loop {
            let addresses = self.addresses(&target, asker, budget, seen).await?;
            let (tcp, mut permit) = self.connect(&target, &addresses, asker, budget).await?;
            // Boxed, since it is large, and a tick moves many probes about.
            let ask = Box::pin(self.ask(check, &target, tcp, seen));
            let next = budget.spend(ask).await;
            if next != Err(ProbeFailure::Timeout) {
                permit.answered();
            }
            drop(permit);
            let Some(next) = next? else { return Ok(()) };
            visited.push(target);
            if visited.len() > self.limits.redirects || visited.contains(&next) {
                return Err(ProbeFailure::Redirect);
            }
            target = next;
        }
    }

    /// Where a target is: all that a connection to it may reach.
    async fn addresses(
        &self,
        target: &TargetUrl,
        asker: Asker<'_>,
        budget: &mut Budget,
        seen: &mut Seen,
    ) -> Result<Vec<IpAddr>, ProbeFailure> {
        match target.url().host() {
            Some(Host::Domain(name)) => {
                let mut permit = self.limiter.look_up(asker.quota, asker.attempt).await;
                budget.begins(self.clock.as_ref());
                let look_up = async {
                    let found = self.resolver.addresses(name).await;
                    if !matches!(&found, Err(error) if error.is_silence()) {
                        permit.answered();
                    }
                    found.map_err(|error| {
                        let failure = error.failure();
                        error.refused().map_or(failure, |refused| seen.refuse(refused, failure))
                    })
                };
                budget.spend(look_up).await
            }
            Some(Host::Ipv4(ip)) => Ok(vec![ip.into()]),
            Some(Host::Ipv6(ip)) => Ok(vec![ip.into()]),
            None => Err(seen.refuse(TargetError::HostSyntax, ProbeFailure::Blocked)),
        }
    }

    /// Tries one address after the other, each with a permit of its own. A silent one gets its share of the time; the last
    /// gets all that is left.
    async fn connect(
        &self,
        target: &TargetUrl,
        addresses: &[IpAddr],
        asker: Asker<'_>,
        budget: &mut Budget,
    ) -> Result<(TcpStream, Permit), ProbeFailure> {
        let port = target.url().port_or_known_default().ok_or(ProbeFailure::Connect)?;
        let mut failure = ProbeFailure::Connect;
        for (tried, ip) in (0..).zip(addresses) {
            let mut permit = self.limiter.connection(asker.quota, asker.attempt, *ip).await;
            budget.begins(self.clock.as_ref());
            let share = budget.left / (u32::try_from(addresses.len()).unwrap_or(u32::MAX) - tried);
            let open = async {
                let opened = timeout(share, TcpStream::connect(SocketAddr::new(*ip, port))).await;
                opened.unwrap_or(Err(ErrorKind::TimedOut.into())).map_err(|error| match error.kind() {
                    ErrorKind::TimedOut => ProbeFailure::Timeout,
                    _ => ProbeFailure::Connect,
                })
            };
            match budget.spend(open).await {
                Ok(tcp) => return Ok((tcp, permit)),
                Err(error) => {
                    if error != ProbeFailure::Timeout {
                        permit.answered();
                    }
                    failure = error;
                }
            }
        }
        Err(failure)
    }

    /// One request. Returns where its answer leads, or nothing when the check has passed.
    async fn ask(
        &self,
        check: &Check,
        target: &TargetUrl,
        tcp: TcpStream,
        seen: &mut Seen,
    ) -> Result<Option<TargetUrl>, ProbeFailure> {
        let request = request(check.method, target)
            .map_err(|_| seen.refuse(TargetError::Syntax, ProbeFailure::Blocked))?;
        let connection = self.connector.secure(target, tcp).await.map_err(|error| match error {
            ConnectError::Tcp => ProbeFailure::Connect,
            ConnectError::Tls(certificate_end) => {
                seen.certificate_ends(certificate_end);
                ProbeFailure::Tls
            }
        })?;
        seen.certificate_ends(connection.certificate_end);
        let io = TokioIo::new(connection.transport);
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES)
            .max_header_size(BUFFER_BYTES)
            .handshake(io)
            .await
            .map_err(|error| interrupted(&error))?;
        drive(driver, self.exchange(sender, request, check, target, seen)).await
    }

    async fn exchange(
        &self,
        mut sender: SendRequest<Empty<Bytes>>,
        request: Request<Empty<Bytes>>,
        check: &Check,
        target: &TargetUrl,
        seen: &mut Seen,
    ) -> Result<Option<TargetUrl>, ProbeFailure> {
        let response = sender.send_request(request).await.map_err(|error| interrupted(&error))?;
        let status = response.status();
        seen.http_status = Some(status.as_u16());
        if check.expected_status.contains(status.as_u16()) {
            return self.read_body(response.into_body()).await.map(|()| None);
        }
        if !is_redirect(status) {
            return Err(ProbeFailure::Status);
        }
        self.next_hop(target, response.headers(), seen).map(Some)
    }

    fn next_hop(
        &self,
        from: &TargetUrl,
        headers: &HeaderMap,
        seen: &mut Seen,
    ) -> Result<TargetUrl, ProbeFailure> {
        let location = headers.get(LOCATION).ok_or(ProbeFailure::Redirect)?;
        if location.len() > MAX_LOCATION_BYTES {
            return Err(ProbeFailure::Redirect);
        }
        // Bytes over 127 are read as UTF-8, as browsers do; what is neither is no URL.
        let location = std::str::from_utf8(location.as_bytes()).map_err(|_| ProbeFailure::Redirect)?;
        let next: Url = from.url().join(location).map_err(|_| ProbeFailure::Redirect)?;
        if from.is_https() && next.scheme() == "http" {
            return Err(ProbeFailure::Redirect);
        }
        self.policy.canonical(next).map_err(|error| seen.refuse(error, ProbeFailure::Blocked))
    }

    async fn read_body(&self, mut body: Incoming) -> Result<(), ProbeFailure> {
        let mut read_bytes = 0;
        while read_bytes < self.limits.body_bytes {
            let Some(frame) = body.frame().await else { break };
            read_bytes += frame.map_err(|error| interrupted(&error))?.data_ref().map_or(0, Bytes::len);
        }
        Ok(())
    }
}

impl Probe for HttpProbe {
    async fn probe(&self, check: &Check, quota: &TenantQuota, attempt: Attempt) -> Observation {
        self.attempt(check, quota, attempt).await.0
    }
}

/// Who wants a connection, and what for.
#[derive(Clone, Copy)]
struct Asker<'a> {
    quota: &'a TenantQuota,
    attempt: Attempt,
}

/// What an attempt learned before it ended, however it ended.
#[derive(Default)]
struct Seen {
    http_status: Option<u16>,
    certificate_expires_at: Option<Timestamp>,
    refused: Option<TargetError>,
}

impl Seen {
    /// Notes why a target is refused. After a response it is a redirect's.
    fn refuse(&mut self, error: TargetError, failure: ProbeFailure) -> ProbeFailure {
        let is_redirected = self.http_status.is_some() && failure == ProbeFailure::Blocked;
        self.refused = Some(if is_redirected { TargetError::Redirect } else { error });
        failure
    }

    fn certificate_ends(&mut self, end: Option<Timestamp>) {
        self.certificate_expires_at = match (self.certificate_expires_at, end) {
            (Some(earlier), Some(end)) => Some(earlier.min(end)),
            (known, end) => known.or(end),
        };
    }
}

/// The redirects that carry a request on. 300 offers a choice, 304 answers a condition that was not asked.
fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// A request that says who asks, and nothing more.
fn request(method: Method, target: &TargetUrl) -> Result<Request<Empty<Bytes>>, ProbeFailure> {
    let url = target.url();
    Request::builder()
        .method(method.as_str())
        .uri(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .header(USER_AGENT, NAME)
        .header(ACCEPT, "*/*")
        .body(Empty::new())
        // Nothing of the kind passes the rules for URLs.
        .map_err(|_| ProbeFailure::Blocked)
}
