//! What a probe may reach: the target policy.
//!
//! Default-deny. IPv4: everything outside the IANA special-purpose registry and multicast. IPv6: inside `2000::/3` minus
//! its special blocks ([`crate::reserved_ranges`]). A URL is judged once, when it is registered, and again at every
//! redirect; the literal address in a URL here, every address a name resolves to in `resolver`.
//!
//! Not here: look-ups and connections. Everything in this module is a pure function of its arguments.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::{Host, Url};

use crate::reserved_ranges::{IPV4_MULTICAST, IPV4_REGISTRY, IPV6_GLOBAL_UNICAST, IPV6_REGISTRY};

/// A URL that passed the target policy once, in its canonical form: no fragment, no trailing dot, no default port, the host
/// in lower case and punycode, an address in its usual notation.
///
/// Reading one back (serde) parses it and no more: a policy may have changed since, so the probe asks it again.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetUrl(Url);

impl TargetUrl {
    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The host as it stands in the URL, an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Whether the scheme is https.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    pub fn url(&self) -> &Url {
        &self.0
    }
}

impl Hash for TargetUrl {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TargetUrl({:?})", self.as_str())
    }
}

impl Serialize for TargetUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for TargetUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Url::parse(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Why a URL or an address may not be probed. The text is a sentence for the person who typed the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TargetError {
    /// Empty, or longer than [`TargetPolicy::MAX_URL_LENGTH`].
    #[error("Enter a URL of 1 to 2048 characters.")]
    Length,
    /// A space, control character or backslash, which clients read differently.
    #[error("The URL contains a space, a control character or a backslash.")]
    Characters,
    /// Not a URL.
    #[error("This is not a complete URL. Write it like https://status.example.com/health")]
    Syntax,
    /// Neither http nor https.
    #[error("The URL must begin with https:// or http://")]
    Scheme,
    /// User name or password.
    #[error("The URL must not contain a user name or password.")]
    UserInfo,
    /// A name without a dot, or one that only a local network knows.
    #[error("The host must be a public name such as status.example.com, not a local one.")]
    LocalName,
    /// An empty label, one of more than 63 characters, a name of more than 253, or characters that names don't have.
    #[error("The host is not a valid name.")]
    HostSyntax,
    /// A port of the fetch standard's list.
    #[error("This port belongs to another protocol and cannot be checked.")]
    Port,
    /// An address that is not public, in a range of this name in IANA's registries.
    #[error("The host is, or resolves to, an address that is not on the public internet.")]
    Address(&'static str),
    /// A redirect to what could not be registered.
    #[error("It redirects to an address that cannot be checked.")]
    Redirect,
    /// This backend.
    #[error("This is the monitoring service itself.")]
    OwnHost,
    /// A Forge web trigger.
    #[error("Web trigger addresses cannot be monitored.")]
    TriggerHost,
    /// Only IPv6 addresses, and no way to reach them.
    #[error("The host has only IPv6 addresses, which cannot be reached from here. It needs an IPv4 address.")]
    Ipv6Only,
}

impl TargetError {
    /// A stable name, for JSON and logs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Length => "url-length",
            Self::Characters => "url-characters",
            Self::Syntax => "url-syntax",
            Self::Scheme => "url-scheme",
            Self::UserInfo => "url-userinfo",
            Self::LocalName => "host-local",
            Self::HostSyntax => "host-syntax",
            Self::Port => "port-forbidden",
            Self::Address(_) => "address-forbidden",
            Self::Redirect => "redirect-forbidden",
            Self::OwnHost => "host-own",
            Self::TriggerHost => "host-web-trigger",
            Self::Ipv6Only => "host-ipv6-only",
        }
    }

    /// The range that a forbidden address is in. For logs: it says nothing about whose address it is.
    #[must_use]
    pub fn range(self) -> Option<&'static str> {
        if let Self::Address(range) = self { Some(range) } else { None }
    }

    /// Whether the text was wrong (400) rather than the target forbidden (403).
    #[must_use]
    pub fn is_malformed(self) -> bool {
        matches!(
            self,
            Self::Length | Self::Characters | Self::Syntax | Self::Scheme | Self::UserInfo | Self::HostSyntax
        )
    }
}

/// What may be reached. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TargetPolicy {
    names: Arc<ForbiddenNames>,
    loopback: bool,
    ipv6: bool,
}

#[derive(Debug)]
struct ForbiddenNames {
    own_hosts: Vec<String>,
    trigger_suffixes: Vec<String>,
}

/// Names below these never leave a local network (RFC 6761, RFC 6762, ICANN's reservation of `.internal`).
const LOCAL_SUFFIXES: [&str; 4] = ["local", "internal", "localhost", "localdomain"];

/// The fetch standard's "bad ports": protocols that can be talked into something by an HTTP request.
const BAD_PORTS: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

impl TargetPolicy {
    /// How long a registered URL may be, in characters as typed and in its canonical form.
    pub const MAX_URL_LENGTH: usize = 2048;

    /// The public internet over IPv4.
    ///
    /// `own_hosts` are this backend's hosts, each `host` or `host:port`; `trigger_suffixes` the hosts of Forge web
    /// triggers, each forbidden together with everything below it.
    #[must_use]
    pub fn public(own_hosts: Vec<String>, trigger_suffixes: Vec<String>) -> Self {
        let lower = |names: Vec<String>| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let names = ForbiddenNames { own_hosts: lower(own_hosts), trigger_suffixes: lower(trigger_suffixes) };
        Self { names: Arc::new(names), loopback: false, ipv6: false }
    }

    /// Opens 127.0.0.0/8, `::1` and the name `localhost`, for the local stack and for tests.
    #[must_use]
    pub fn allow_loopback(self) -> Self {
        Self { loopback: true, ..self }
    }

    /// Opens public IPv6 addresses, for a network that has a way to them. Lambda outside a dual-stack VPC has none.
    #[must_use]
    pub fn allow_ipv6(self) -> Self {
        Self { ipv6: true, ..self }
    }

    /// The policy for a text, a literal address included.
    pub fn target(&self, text: &str) -> Result<TargetUrl, TargetError> {
        if text.is_empty() || text.chars().take(Self::MAX_URL_LENGTH + 1).count() > Self::MAX_URL_LENGTH {
            return Err(TargetError::Length);
        }
        // The URL standard drops tabs and newlines and reads `\` as `/`. A person who types those means something else.
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(TargetError::Characters);
        }
        let target = self.canonical(Url::parse(text).map_err(syntax)?)?;
        if target.as_str().len() > Self::MAX_URL_LENGTH {
            return Err(TargetError::Length);
        }
        Ok(target)
    }

    /// The policy for a URL that is parsed already: one read from the store, or a redirect's.
    pub fn canonical(&self, mut url: Url) -> Result<TargetUrl, TargetError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::UserInfo);
        }
        url.set_fragment(None);
        match url.host() {
            None => return Err(TargetError::Syntax),
            Some(Host::Ipv4(ip)) => self.literal(IpAddr::V4(ip))?,
            Some(Host::Ipv6(ip)) => self.literal(IpAddr::V6(ip))?,
            Some(Host::Domain(name)) => {
                let bare = name.strip_suffix('.').unwrap_or(name);
                self.name(bare)?;
                if bare.len() != name.len() {
                    let bare = bare.to_owned();
                    url.set_host(Some(&bare)).map_err(syntax)?;
                }
            }
        }
        let port = url.port_or_known_default().unwrap_or(0);
        if BAD_PORTS.contains(&port) {
            return Err(TargetError::Port);
        }
        let host = url.host_str().unwrap_or_default();
        if self.names.own_hosts.iter().any(|own| is_host_and_port(own, host, port)) {
            return Err(TargetError::OwnHost);
        }
        if self.names.trigger_suffixes.iter().any(|suffix| is_or_below(host, suffix)) {
            return Err(TargetError::TriggerHost);
        }
        Ok(TargetUrl(url))
    }

    fn literal(&self, ip: IpAddr) -> Result<(), TargetError> {
        self.address(ip)?;
        if self.reaches_family(ip) { Ok(()) } else { Err(TargetError::Ipv6Only) }
    }

    fn name(&self, name: &str) -> Result<(), TargetError> {
        // The URL standard lets more pass (`a'b`, "a`b") than names have, and than an HTTP client can ask for.
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_name_byte);
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(TargetError::HostSyntax);
        }
        if self.loopback && name == "localhost" {
            return Ok(());
        }
        if !name.contains('.') || LOCAL_SUFFIXES.iter().any(|suffix| is_or_below(name, suffix)) {
            return Err(TargetError::LocalName);
        }
        Ok(())
    }

    /// The policy for an address. Says nothing about whether there is a way to the address: see [`TargetPolicy::allow_ipv6`].
    pub fn address(&self, ip: IpAddr) -> Result<(), TargetError> {
        match forbidden_range(ip) {
            Some(range) if !(self.loopback && ip.is_loopback()) => Err(TargetError::Address(range)),
            _ => Ok(()),
        }
    }

    /// Whether there is a way to addresses of this family.
    pub fn reaches_family(&self, ip: IpAddr) -> bool {
        ip.is_ipv4() || self.ipv6 || (self.loopback && ip.is_loopback())
    }
}

fn syntax(error: url::ParseError) -> TargetError {
    use url::ParseError::{
        EmptyHost, IdnaError, InvalidDomainCharacter, InvalidIpv4Address, InvalidIpv6Address,
    };
    match error {
        EmptyHost | IdnaError | InvalidDomainCharacter | InvalidIpv4Address | InvalidIpv6Address => {
            TargetError::HostSyntax
        }
        _ => TargetError::Syntax,
    }
}

fn is_or_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// `own` is `host` (any port) or `host:port`.
fn is_host_and_port(own: &str, host: &str, port: u16) -> bool {
    own.strip_prefix(host).is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix(':').is_some_and(|text| text.parse() == Ok(port))
    })
}

/// Whether an address is one that a public service can have.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    forbidden_range(ip).is_none()
}

/// The range that keeps an address from being public.
fn forbidden_range(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => {
            let mut ranges = [IPV4_MULTICAST].iter().chain(IPV4_REGISTRY);
            ranges.find(|range| range.net.contains(&ip)).map(|range| range.name)
        }
        IpAddr::V6(ip) => {
            let listed = IPV6_REGISTRY.iter().find(|range| range.net.contains(&ip)).map(|range| range.name);
            listed.or((!IPV6_GLOBAL_UNICAST.net.contains(&ip)).then_some("not global unicast"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::TargetError::{
        Address, Characters, HostSyntax, Ipv6Only, Length, LocalName, OwnHost, Port, Redirect, Scheme,
        Syntax, TriggerHost, UserInfo,
    };
    use super::*;
    use crate::reserved_ranges::tests::is_public_by_the_registry;

    fn policy() -> TargetPolicy {
        TargetPolicy::public(
            vec!["api.health.example".to_owned(), "Tunnel.Example:8443".to_owned()],
            vec!["hello.atlassian-dev.net".to_owned(), "webtrigger.atlassian.app".to_owned()],
        )
    }

    #[test]
    fn public_urls_get_one_canonical_form() {
        for (text, canonical) in [
            ("https://example.com", "https://example.com/"),
            ("HTTPS://EXAMPLE.COM:443/Health?a=B#top", "https://example.com/Health?a=B"),
            ("http://example.com:80/", "http://example.com/"),
            ("http://example.com:8080/", "http://example.com:8080/"),
            ("https://example.com./", "https://example.com/"),
            ("https://example.com.:8443/", "https://example.com:8443/"),
            ("https://example.com/a/../b/./c", "https://example.com/b/c"),
            ("https://example.com/%7Euser?q=%20", "https://example.com/%7Euser?q=%20"),
            ("https://bücher.example/", "https://xn--bcher-kva.example/"),
            ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
            ("https://ｅｘａｍｐｌｅ。ｃｏｍ/", "https://example.com/"),
            ("https://ex%61mple.com/", "https://example.com/"),
            ("https://a_b.example.com/", "https://a_b.example.com/"),
            ("https:example.com/", "https://example.com/"),
            ("https:///example.com/", "https://example.com/"),
            ("http://8.8.8.8/", "http://8.8.8.8/"),
            ("http://8.8.8.8./", "http://8.8.8.8/"),
            ("http://134744072/", "http://8.8.8.8/"),
            ("http://0x08080808/", "http://8.8.8.8/"),
            ("http://010.0x8.2056/", "http://8.8.8.8/"),
            ("http://８.８.８.８/", "http://8.8.8.8/"),
        ] {
            let target = policy().target(text).unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"));
            assert_eq!(target.as_str(), canonical, "{text}");
        }
    }

    const FORBIDDEN: &[(&str, TargetError)] = &[
        // 127.0.0.1
        ("http://127.0.0.1/", Address("Loopback")),
        ("http://127.0.0.1:9001/2018-06-01/runtime/invocation/next", Address("Loopback")),
        ("http://127.1/", Address("Loopback")),
        ("http://127.0.1/", Address("Loopback")),
        ("http://2130706433/", Address("Loopback")),
        ("http://0x7f000001/", Address("Loopback")),
        ("http://0x7f.0.0.1/", Address("Loopback")),
        ("http://0X7F.0X1/", Address("Loopback")),
        ("http://017700000001/", Address("Loopback")),
        ("http://0177.0.0.1/", Address("Loopback")),
        ("http://0177.0x0.1/", Address("Loopback")),
        ("http://00000000177.0.0.1/", Address("Loopback")),
        ("http://127.0.0.1./", Address("Loopback")),
        ("http://１２７.０.０.１/", Address("Loopback")),
        ("http://①②⑦.⓪.⓪.①/", Address("Loopback")),
        ("http://127。0。0。1/", Address("Loopback")),
        ("http://%31%32%37.0.0.1/", Address("Loopback")),
        ("http://127%2e0%2e0%2e1/", Address("Loopback")),
        ("http://0/", Address("\"This network\"")),
        ("http://0x/", Address("\"This network\"")),
        ("http://4294967295/", Address("Reserved")),
        // link local, private, and what Lambda offers there
        ("http://169.254.169.254/latest/meta-data/", Address("Link Local")),
        ("http://2852039166/", Address("Link Local")),
        ("http://0xa9fea9fe/", Address("Link Local")),
        ("http://0xA9.0xFE.0xA9.0xFE/", Address("Link Local")),
        ("http://0251.0376.0251.0376/", Address("Link Local")),
        ("http://169.254.43518/", Address("Link Local")),
        ("http://169.16689662/", Address("Link Local")),
        ("http://169.254.79.129/", Address("Link Local")),
        ("http://169.254.100.1:9001/", Address("Link Local")),
        ("http://10.0.0.1/", Address("Private-Use")),
        ("http://192.168.1.1/", Address("Private-Use")),
        ("http://224.0.0.1/", Address("Multicast")),
        // IPv6, with an IPv4 address inside or not
        ("http://[::1]/", Address("Loopback Address")),
        ("http://[0:0:0:0:0:0:0:1]/", Address("Loopback Address")),
        ("http://[::]/", Address("Unspecified Address")),
        ("http://[::ffff:127.0.0.1]/", Address("IPv4-mapped Address")),
        ("http://[::ffff:7f00:1]/", Address("IPv4-mapped Address")),
        ("http://[::ffff:8.8.8.8]/", Address("IPv4-mapped Address")),
        ("http://[::127.0.0.1]/", Address("not global unicast")),
        ("http://[::ffff:0:127.0.0.1]/", Address("not global unicast")),
        ("http://[64:ff9b::169.254.169.254]/", Address("IPv4-IPv6 Translat.")),
        ("http://[64:ff9b:1::a9fe:a9fe]/", Address("IPv4-IPv6 Translat.")),
        ("http://[2002:7f00:1::]/", Address("6to4")),
        ("http://[2001:0:7f00:1::]/", Address("IETF Protocol Assignments")),
        ("http://[fd00:ec2::254]/", Address("Unique-Local")),
        ("http://[FD00:0EC2::0254]/", Address("Unique-Local")),
        ("http://[fe80::1]/", Address("Link-Local Unicast")),
        ("http://[fc00::1]/", Address("Unique-Local")),
        ("http://[fec0::1]/", Address("not global unicast")),
        ("http://[ff02::1]/", Address("not global unicast")),
        ("http://[2001:db8::1]/", Address("Documentation")),
        ("http://[2606:4700::1111]/", Ipv6Only),
        // not an address at all
        ("http://256.0.0.1/", HostSyntax),
        ("http://1.2.3.4.5/", HostSyntax),
        ("http://4294967296/", HostSyntax),
        ("http://example.0x/", HostSyntax),
        ("http://[fe80::1%25eth0]/", HostSyntax),
        ("http://[fe80::1%eth0]/", HostSyntax),
        ("http://[::1/", HostSyntax),
        ("http://[127.0.0.1]/", HostSyntax),
        ("http://[v1.a]/", HostSyntax),
        // names
        ("http://localhost/", LocalName),
        ("http://LOCALHOST./", LocalName),
        ("http://a.localhost/", LocalName),
        ("http://intranet/", LocalName),
        ("http://printer.local/", LocalName),
        ("http://db.internal/", LocalName),
        ("http://instance-data.ec2.internal/", LocalName),
        ("http://db.INTERNAL./", LocalName),
        ("http://localhost.localdomain/", LocalName),
        ("http://metadata.google.internal/", LocalName),
        ("https://example..com/", HostSyntax),
        ("https://.example.com/", HostSyntax),
        ("https://example.com../", HostSyntax),
        ("https://./", HostSyntax),
        ("https://example%00.com/", HostSyntax),
        ("https://exa<mple.com/", HostSyntax),
        ("https://exa`mple.com/", HostSyntax),
        ("https://exa'mple.com/", HostSyntax),
        ("https://exa\"mple.com/", HostSyntax),
        ("https://exa{mple}.com/", HostSyntax),
        ("https://exa$mple.com/", HostSyntax),
        ("https://exa;mple,com/", HostSyntax),
        ("https://exa*.com/", HostSyntax),
        ("https://xn--a/", HostSyntax),
        // everything around the host
        ("https://user@example.com/", UserInfo),
        ("https://user:pass@example.com/", UserInfo),
        ("https://:pass@example.com/", UserInfo),
        ("https://example.com@127.0.0.1/", UserInfo),
        ("https://127.0.0.1%2f@example.com/", UserInfo),
        ("https://example.com\\@127.0.0.1/", Characters),
        ("https:\\\\example.com/", Characters),
        ("https://example.com\t/", Characters),
        ("https://exam\nple.com/", Characters),
        (" https://example.com/", Characters),
        ("https://example.com/ ", Characters),
        ("https://example.com/a b", Characters),
        ("https://example.com/\0", Characters),
        ("https://example.com/\u{a0}", Characters),
        ("https://example.com/\u{85}", Characters),
        ("", Length),
        ("example.com", Syntax),
        ("//example.com/", Syntax),
        ("/health", Syntax),
        ("https://", HostSyntax),
        ("https://?q", HostSyntax),
        ("ftp://example.com/", Scheme),
        ("file:///etc/passwd", Scheme),
        ("gopher://example.com/", Scheme),
        ("javascript:alert(1)", Scheme),
        ("data:text/plain,hello", Scheme),
        ("ws://example.com/", Scheme),
        ("view-source:https://example.com/", Scheme),
        ("example.com:443", Scheme),
        ("https://example.com:0/", Port),
        ("https://example.com:22/", Port),
        ("http://example.com:25/", Port),
        ("http://example.com:6379a/", Syntax),
        ("http://example.com:6667/", Port),
        ("http://example.com:10080/", Port),
        ("http://example.com:65536/", Syntax),
        ("http://example.com:-1/", Syntax),
        // ourselves and Forge
        ("https://api.health.example/register", OwnHost),
        ("https://API.health.example.:8080/", OwnHost),
        ("https://tunnel.example:8443/", OwnHost),
        ("https://webtrigger.atlassian.app/", TriggerHost),
        ("https://0a1b.webtrigger.atlassian.app/public/x", TriggerHost),
        ("https://0a1b.hello.atlassian-dev.net/x1/y", TriggerHost),
        ("https://0a1b.HELLO.atlassian-dev.net./x1/y", TriggerHost),
    ];

    #[test]
    fn forbidden_urls_are_refused_whatever_the_notation() {
        for &(text, refusal) in FORBIDDEN {
            assert_eq!(policy().target(text), Err(refusal), "{text:?}");
        }
    }

    #[test]
    fn labels_and_names_have_the_lengths_of_dns() {
        let host = |label: usize, labels: usize| {
            format!("https://{}example/", format!("{}.", "a".repeat(label)).repeat(labels))
        };
        assert!(policy().target(&host(63, 3)).is_ok());
        assert_eq!(policy().target(&host(64, 1)), Err(HostSyntax));
        assert_eq!(policy().target(&host(63, 4)), Err(HostSyntax));
    }

    #[test]
    fn neighbours_of_forbidden_names_are_allowed() {
        for text in [
            "https://my.notlocal/",
            "https://internal.example/",
            "https://localhost.example.com/",
            "https://other.health.example/",
            "https://xapi.health.example/",
            "https://api.health.example.org/",
            "https://tunnel.example/",
            "https://tunnel.example:84/",
            "https://notwebtrigger.atlassian.app/",
            "https://team.atlassian.net/",
        ] {
            assert!(policy().target(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn length_is_counted_in_characters_and_once_more_in_the_canonical_form() {
        let of_length = |length: usize| format!("https://example.com/{}", "a".repeat(length - 20));
        assert!(policy().target(&of_length(2048)).is_ok());
        assert_eq!(policy().target(&of_length(2049)), Err(Length));
        let grows = format!("https://example.com/{}", "ü".repeat(400));
        assert_eq!(policy().target(&grows), Err(Length));
    }

    #[test]
    fn loopback_opens_loopback_and_nothing_else() {
        let open = policy().allow_loopback();
        for text in
            ["http://127.0.0.1:8080/", "http://127.1.2.3/", "http://[::1]:8080/", "http://localhost:8080/"]
        {
            assert!(open.target(text).is_ok(), "{text}");
        }
        for (text, refusal) in [
            ("http://10.0.0.1/", Address("Private-Use")),
            ("http://169.254.169.254/", Address("Link Local")),
            ("http://[::ffff:127.0.0.1]/", Address("IPv4-mapped Address")),
            ("http://0.0.0.0/", Address("\"This network\"")),
            ("http://a.localhost/", LocalName),
            ("http://intranet/", LocalName),
            ("http://127.0.0.1:22/", Port),
            ("http://[2606:4700::1111]/", Ipv6Only),
        ] {
            assert_eq!(open.target(text), Err(refusal), "{text}");
        }
    }

    #[test]
    fn ipv6_opens_public_ipv6_and_nothing_else() {
        let open = policy().allow_ipv6();
        assert_eq!(open.target("http://[2606:4700::1111]/").unwrap().host(), "[2606:4700::1111]");
        for text in ["http://[fd00:ec2::254]/", "http://[::1]/", "http://[2002:808:808::1]/"] {
            assert!(matches!(open.target(text), Err(Address(_))), "{text}");
        }
    }

    #[test]
    fn reading_a_stored_url_applies_no_policy() {
        let target: TargetUrl = serde_json::from_str("\"http://127.0.0.1/\"").unwrap();
        assert_eq!(policy().canonical(target.url().clone()), Err(Address("Loopback")));
        assert!(serde_json::from_str::<TargetUrl>("\"no url\"").is_err());
    }

    #[test]
    fn refusals_have_distinct_codes_and_full_sentences() {
        let all = [
            Length,
            Characters,
            Syntax,
            Scheme,
            UserInfo,
            LocalName,
            HostSyntax,
            Port,
            Address(""),
            Redirect,
            OwnHost,
            TriggerHost,
            Ipv6Only,
        ];
        let codes: std::collections::HashSet<_> = all.iter().map(|refusal| refusal.code()).collect();
        assert_eq!(codes.len(), all.len());
        assert!(all.iter().all(|refusal| refusal.to_string().len() > 20));
    }

    /// An IPv4 address as the URL standard lets it be written.
    fn notations(ip: Ipv4Addr) -> Vec<String> {
        let [a, b, c, d] = ip.octets();
        let bits = ip.to_bits();
        let wide = ip.to_string().replace(|c: char| c.is_ascii_digit(), "#");
        let mut digits = ip.to_string().chars().filter(char::is_ascii_digit).collect::<Vec<_>>().into_iter();
        let full_width: String = wide
            .chars()
            .map(|c| {
                if c == '#' {
                    digits.next().and_then(|digit| char::from_u32(digit as u32 - 0x30 + 0xff10)).unwrap()
                } else {
                    '。'
                }
            })
            .collect();
        let escaped = ip.to_string().bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02x}"));
        vec![
            format!("{ip}"),
            format!("{ip}."),
            format!("{bits}"),
            format!("{bits:#x}"),
            format!("0{bits:o}"),
            format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
            format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
            format!("{a}.{}", bits & 0x00ff_ffff),
            format!("{a}.{b}.{}", bits & 0xffff),
            format!("{a}.{b:#x}.0{:o}", bits & 0xffff),
            full_width,
            escaped,
        ]
    }

    /// Forms of IPv6 that carry an IPv4 address.
    fn embeddings(ip: Ipv4Addr) -> Vec<Ipv6Addr> {
        let v4 = u128::from(ip.to_bits());
        let prefixes: [(u128, u32); 8] = [
            (0, 0),                                 // compatible
            (0xffff << 32, 0),                      // mapped
            (0xffff << 48, 0),                      // translated (SIIT)
            (0x0064_ff9b << 96, 0),                 // NAT64
            (0x0064_ff9b_0001 << 80, 0),            // local NAT64
            (0x2002 << 112, 80),                    // 6to4
            (0x2001_0000 << 96, 64),                // Teredo server
            ((0x2001_0000 << 96) | 0xffff_ffff, 0), // Teredo client, which is written inverted
        ];
        prefixes.iter().map(|&(prefix, shift)| Ipv6Addr::from_bits(prefix ^ (v4 << shift))).collect()
    }

    fn any_ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
            any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
            // 2000::/3, where the rule has to decide.
            any::<u128>().prop_map(|bits| IpAddr::V6(((bits >> 3) | (1 << 125)).into())),
            (any::<u32>(), 0_usize..8).prop_map(|(bits, form)| IpAddr::V6(embeddings(bits.into())[form])),
            // Around the edges of every block.
            (0..IPV4_REGISTRY.len(), -2_i8..=2).prop_map(|(row, off)| {
                let bits = IPV4_REGISTRY[row].net.addr().to_bits();
                IpAddr::V4(bits.wrapping_add_signed(off.into()).into())
            }),
            (0..IPV6_REGISTRY.len(), -2_i8..=2).prop_map(|(row, off)| {
                let bits = IPV6_REGISTRY[row].net.addr().to_bits();
                IpAddr::V6(bits.wrapping_add_signed(off.into()).into())
            }),
        ]
    }

    /// Texts that look like URLs often enough to get past the first check.
    fn url_like() -> impl Strategy<Value = String> {
        let scheme = prop_oneof!["https?:/{0,3}", "[a-z]{1,6}:(//)?", Just(String::new())];
        let user = prop_oneof![4 => Just(String::new()), 1 => "[a-z%:]{0,6}@"];
        let host = prop_oneof![
            "[a-zA-Z0-9.-]{1,30}",
            "[0-9a-fxX.]{1,20}",
            "\\[[0-9a-f:.%]{2,40}\\]",
            "(([a-z]{1,8}\\.){0,3})(local|internal|localhost|localdomain|com)\\.{0,2}",
            "\\PC{1,12}",
        ];
        let rest = prop_oneof![2 => Just(String::new()), 1 => ":[0-9]{0,6}(/[!-~]{0,20})?", 1 => "[/?#\\\\]\\PC{0,20}"];
        (scheme, user, host, rest).prop_map(|(scheme, user, host, rest)| scheme + &user + &host + &rest)
    }

    fn check_verdict(text: &str) {
        let Ok(target) = policy().target(text) else { return };
        assert_eq!(policy().target(target.as_str()).as_ref(), Ok(&target), "not canonical: {text:?}");
        let url = target.url();
        assert!(matches!(url.scheme(), "http" | "https"));
        assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
        assert!(target.as_str().is_ascii());
        match url.host().unwrap() {
            Host::Ipv4(ip) => assert!(is_public_by_the_registry(ip.into()), "{text:?}"),
            Host::Ipv6(ip) => panic!("{text:?} reached {ip}"),
            Host::Domain(name) => {
                assert!(name.contains('.') && !name.ends_with('.') && !name.contains(".."), "{text:?}");
                assert!(name.parse::<IpAddr>().is_err(), "{text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_address_is_judged_as_the_registries_say(ip in any_ip()) {
            prop_assert_eq!(policy().address(ip).is_ok(), is_public_by_the_registry(ip));
        }

        #[test]
        fn any_notation_of_an_ipv4_address_is_that_address(bits in any::<u32>()) {
            let ip = Ipv4Addr::from_bits(bits);
            for host in notations(ip) {
                let verdict = policy().target(&format!("http://{host}/")).map(|target| target.host().to_owned());
                let expected = policy().address(ip.into()).map(|()| ip.to_string());
                prop_assert_eq!(verdict, expected, "{}", host);
            }
        }

        #[test]
        fn no_ipv6_address_carries_an_ipv4_address_past_the_rule(bits in any::<u32>()) {
            let everything = policy().allow_ipv6();
            for ip in embeddings(bits.into()) {
                let refusal = everything.target(&format!("http://[{ip}]/"));
                prop_assert!(matches!(refusal, Err(Address(_))), "{}", ip);
            }
        }

        #[test]
        fn url_like_texts_get_a_sound_verdict(text in url_like()) {
            check_verdict(&text);
        }

        #[test]
        fn any_text_gets_a_sound_verdict(text in "\\PC{0,60}") {
            check_verdict(&text);
            check_verdict(&format!("https://{text}/"));
        }
    }
}
