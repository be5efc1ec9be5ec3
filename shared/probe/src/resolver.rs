//! The look-up of a probe: every address is judged before anybody can connect to it.
//!
//! A [`connection`](super::connection) is given these addresses and can look nothing up. So the addresses that were judged are
//! the addresses that are connected to, and there is no second look-up to rebind. Built on hickory, because its look-ups end
//! when they are dropped; the operating system's would keep a thread until they end by themselves.
//!
//! Not here: a cache. An attempt after a failure must not repeat an old answer; the name server of the network
//! has a cache. `/etc/hosts` and search domains, which are about the machine and not about the internet. AAAA records
//! where there are A records: nothing would connect to them, and every query counts (Lambda's name server drops what is
//! over 1,024 packets a second).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};

use domain::check::ProbeFailure;
use domain::reserved_ranges::NAT64;
use domain::target_url::{TargetError, TargetPolicy};

/// How many addresses of a name are tried. All are judged; this bounds whom one attempt can knock at.
const MAX_ADDRESSES: usize = 8;

/// How long one query may take before it is sent again.
const QUERY_TIMEOUT: Duration = Duration::from_millis(1_200);

/// How often a query is sent again. Silence is so over after 3.6 s, inside the default deadline of a check, and is
/// reported as `dns`; a check with a shorter deadline reports `timeout`.
const QUERY_RETRIES: usize = 2;

/// The usual size of a DNS message that is not fragmented (DNS flag day 2020); larger answers come over TCP.
const EDNS_PAYLOAD_BYTES: u16 = 1_232;

/// Why a name gave no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(super) enum LookupError {
    /// At least one address is forbidden.
    #[error("the name resolves to a forbidden address")]
    Forbidden(#[source] TargetError),
    /// There are IPv6 addresses only, and no way to them.
    #[error("the name has IPv6 addresses only")]
    Ipv6Only,
    /// The name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// The name server says no, or nothing.
    #[error("the look-up failed")]
    Dns(#[source] NetError),
}

impl LookupError {
    /// Whether no name server has answered.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Dns(error) if !matches!(error, NetError::Dns(_)))
    }

    pub(super) fn failure(&self) -> ProbeFailure {
        match self {
            Self::Forbidden(_) => ProbeFailure::Blocked,
            Self::Ipv6Only => ProbeFailure::Connect,
            Self::NoAddress | Self::Dns(_) => ProbeFailure::Dns,
        }
    }

    /// Why nothing may or can be connected to, as far as a person can mend it.
    pub(super) fn refused(self) -> Option<TargetError> {
        match self {
            Self::Forbidden(error) => Some(error),
            Self::Ipv6Only => Some(TargetError::Ipv6Only),
            Self::NoAddress | Self::Dns(_) => None,
        }
    }
}

pub(super) struct VettingResolver {
    dns: TokioResolver,
    policy: TargetPolicy,
}

impl VettingResolver {
    /// `name_servers` empty: those of `/etc/resolv.conf`.
    pub(super) fn new(policy: TargetPolicy, name_servers: &[SocketAddr]) -> Result<Self, NetError> {
        let config = if name_servers.is_empty() {
            let (_, _, servers) = hickory_resolver::system_conf::read_system_conf()?.0.into_parts();
            ResolverConfig::from_parts(None, Vec::new(), servers)
        } else {
            ResolverConfig::from_name_servers(name_servers.iter().map(name_server).collect())
        };
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = QUERY_TIMEOUT;
        options.attempts = QUERY_RETRIES;
        options.edns_payload_len = EDNS_PAYLOAD_BYTES;
        options.preserve_intermediates = false;
        // Per connection, and large answers share one TCP connection: never the narrow place.
        options.max_active_requests = 1_024;
        Ok(Self { dns: builder.build()?, policy })
    }

    /// The addresses that may be connected to: at least one, all judged.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let mut name = Name::from_ascii(name).map_err(|error| LookupError::Dns(error.into()))?;
        name.set_fqdn(true);
        let mut addresses = self.records(name.clone(), RecordType::A).await?;
        if addresses.is_empty() {
            addresses = self.records(name, RecordType::AAAA).await?;
        }
        // A name server that synthesises these (DNS64) does so for names it shouldn't, too; they are no sign of malice.
        addresses.retain(|ip| !matches!(ip, IpAddr::V6(ip) if NAT64.net.contains(ip)));
        if addresses.is_empty() {
            return Err(LookupError::NoAddress);
        }
        for ip in &addresses {
            self.policy.address(*ip).map_err(LookupError::Forbidden)?;
        }
        addresses.retain(|ip| self.policy.reaches_family(*ip));
        if addresses.is_empty() {
            return Err(LookupError::Ipv6Only);
        }
        addresses.truncate(MAX_ADDRESSES);
        Ok(addresses)
    }

    /// The addresses of one type; none when the name exists without such records.
    async fn records(&self, name: Name, kind: RecordType) -> Result<Vec<IpAddr>, LookupError> {
        match self.dns.lookup(name, kind).await {
            Ok(answer) => Ok(answer.answers().iter().filter_map(|record| record.data.ip_addr()).collect()),
            Err(NetError::Dns(DnsError::NoRecordsFound(no))) if no.response_code == ResponseCode::NoError => {
                Ok(Vec::new())
            }
            Err(error) => Err(LookupError::Dns(error)),
        }
    }
}

fn name_server(at: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = at.port();
        connection
    });
    NameServerConfig::new(at.ip(), true, connections.into())
}
