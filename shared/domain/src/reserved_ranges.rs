//! The blocks that no probe reaches: the IANA special-purpose address registries, plus multicast.
//!
//! Rows are those of the registries as of 2026-07-18 (`iana-ipv4-special-registry`, `iana-ipv6-special-registry`); the
//! files in `shared/domain/tests/fixtures/` are the registries themselves, and a test keeps both equal. **Every row is
//! refused**, also the few that the registries call globally reachable (anycast relays, AS112): no service lives there.
//!
//! Not here: unwrapping an IPv4 address that is embedded in an IPv6 one (mapped, NAT64, 6to4, Teredo). All
//! these forms lie in refused blocks, so there is nothing to unwrap and nothing to get wrong.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// A range that IANA has reserved, by the registry's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReservedRange<N> {
    pub net: N,
    pub name: &'static str,
}

const fn v4(first: [u8; 4], prefix: u8, name: &'static str) -> ReservedRange<Ipv4Net> {
    let [a, b, c, d] = first;
    ReservedRange { net: Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix), name }
}

/// `head` is the first four groups of the address, as they are written; the rest follows in `tail`.
const fn v6(head: [u16; 4], tail: [u16; 4], prefix: u8, name: &'static str) -> ReservedRange<Ipv6Net> {
    let first = Ipv6Addr::new(head[0], head[1], head[2], head[3], tail[0], tail[1], tail[2], tail[3]);
    ReservedRange { net: Ipv6Net::new_assert(first, prefix), name }
}

const ZERO: [u16; 4] = [0; 4];

/// The IPv4 registry, row by row.
pub const IPV4_REGISTRY: &[ReservedRange<Ipv4Net>] = &[
    v4([0, 0, 0, 0], 8, "\"This network\""),
    v4([0, 0, 0, 0], 32, "\"This host on this network\""),
    v4([10, 0, 0, 0], 8, "Private-Use"),
    v4([100, 64, 0, 0], 10, "Shared Address Space"),
    v4([127, 0, 0, 0], 8, "Loopback"),
    v4([169, 254, 0, 0], 16, "Link Local"),
    v4([172, 16, 0, 0], 12, "Private-Use"),
    v4([192, 0, 0, 0], 24, "IETF Protocol Assignments"),
    v4([192, 0, 0, 0], 29, "IPv4 Service Continuity Prefix"),
    v4([192, 0, 0, 8], 32, "IPv4 dummy address"),
    v4([192, 0, 0, 9], 32, "Port Control Protocol Anycast"),
    v4([192, 0, 0, 10], 32, "Traversal Using Relays around NAT Anycast"),
    v4([192, 0, 0, 170], 32, "NAT64/DNS64 Discovery"),
    v4([192, 0, 0, 171], 32, "NAT64/DNS64 Discovery"),
    v4([192, 0, 2, 0], 24, "Documentation (TEST-NET-1)"),
    v4([192, 31, 196, 0], 24, "AS112-v4"),
    v4([192, 52, 193, 0], 24, "AMT"),
    v4([192, 88, 99, 0], 24, "Deprecated (6to4 Relay Anycast)"),
    v4([192, 88, 99, 2], 32, "6a44-relay anycast address"),
    v4([192, 168, 0, 0], 16, "Private-Use"),
    v4([192, 175, 48, 0], 24, "Direct Delegation AS112 Service"),
    v4([198, 18, 0, 0], 15, "Benchmarking"),
    v4([198, 51, 100, 0], 24, "Documentation (TEST-NET-2)"),
    v4([203, 0, 113, 0], 24, "Documentation (TEST-NET-3)"),
    v4([240, 0, 0, 0], 4, "Reserved"),
    v4([255, 255, 255, 255], 32, "Limited Broadcast"),
];

/// RFC 5771. Multicast has a registry of its own.
pub const IPV4_MULTICAST: ReservedRange<Ipv4Net> = v4([224, 0, 0, 0], 4, "Multicast");

/// The IPv6 registry, row by row.
pub const IPV6_REGISTRY: &[ReservedRange<Ipv6Net>] = &[
    v6(ZERO, [0, 0, 0, 1], 128, "Loopback Address"),
    v6(ZERO, ZERO, 128, "Unspecified Address"),
    v6(ZERO, [0, 0xffff, 0, 0], 96, "IPv4-mapped Address"),
    v6([0x64, 0xff9b, 0, 0], ZERO, 96, "IPv4-IPv6 Translat."),
    v6([0x64, 0xff9b, 1, 0], ZERO, 48, "IPv4-IPv6 Translat."),
    v6([0x100, 0, 0, 0], ZERO, 64, "Discard-Only Address Block"),
    v6([0x100, 0, 0, 1], ZERO, 64, "Dummy IPv6 Prefix"),
    v6([0x2001, 0, 0, 0], ZERO, 23, "IETF Protocol Assignments"),
    v6([0x2001, 0, 0, 0], ZERO, 32, "TEREDO"),
    v6([0x2001, 1, 0, 0], [0, 0, 0, 1], 128, "Port Control Protocol Anycast"),
    v6([0x2001, 1, 0, 0], [0, 0, 0, 2], 128, "Traversal Using Relays around NAT Anycast"),
    v6([0x2001, 1, 0, 0], [0, 0, 0, 3], 128, "DNS-SD Service Registration Protocol Anycast"),
    v6([0x2001, 2, 0, 0], ZERO, 48, "Benchmarking"),
    v6([0x2001, 3, 0, 0], ZERO, 32, "AMT"),
    v6([0x2001, 4, 0x112, 0], ZERO, 48, "AS112-v6"),
    v6([0x2001, 0x10, 0, 0], ZERO, 28, "Deprecated (previously ORCHID)"),
    v6([0x2001, 0x20, 0, 0], ZERO, 28, "ORCHIDv2"),
    v6([0x2001, 0x30, 0, 0], ZERO, 28, "Drone Remote ID Protocol Entity Tags (DETs) Prefix"),
    v6([0x2001, 0xdb8, 0, 0], ZERO, 32, "Documentation"),
    v6([0x2002, 0, 0, 0], ZERO, 16, "6to4"),
    v6([0x2620, 0x4f, 0x8000, 0], ZERO, 48, "Direct Delegation AS112 Service"),
    v6([0x3fff, 0, 0, 0], ZERO, 20, "Documentation"),
    v6([0x5f00, 0, 0, 0], ZERO, 16, "Segment Routing (SRv6) SIDs"),
    v6([0xfc00, 0, 0, 0], ZERO, 7, "Unique-Local"),
    v6([0xfe80, 0, 0, 0], ZERO, 10, "Link-Local Unicast"),
];

/// RFC 4291: the only part of IPv6 from which global unicast addresses are given out.
pub const IPV6_GLOBAL_UNICAST: ReservedRange<Ipv6Net> = v6([0x2000, 0, 0, 0], ZERO, 3, "Global unicast");

/// RFC 6052: where a DNS64 name server puts IPv4 addresses.
pub const NAT64: ReservedRange<Ipv6Net> = v6([0x64, 0xff9b, 0, 0], ZERO, 96, "IPv4-IPv6 Translat.");

#[cfg(test)]
pub(crate) mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::target_url::is_public;

    const IPV4_CSV: &str = include_str!("../tests/fixtures/iana-ipv4-special-registry.csv");
    const IPV6_CSV: &str = include_str!("../tests/fixtures/iana-ipv6-special-registry.csv");

    /// (`192.0.2.0/24`, `Documentation (TEST-NET-1)`) of every row; a row may list two blocks.
    fn rows(csv: &str) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        for line in csv.lines().skip(1) {
            let (blocks, rest) = field(line);
            let (name, _) = field(rest);
            for block in blocks.split(", ") {
                // Some carry a footnote: "192.0.0.0/24 [2]".
                rows.push((block.split(' ').next().unwrap().to_owned(), name.clone()));
            }
        }
        rows
    }

    /// The first field of a CSV line, and what follows its comma.
    fn field(line: &str) -> (String, &str) {
        let Some(quoted) = line.strip_prefix('"') else {
            let (text, rest) = line.split_once(',').unwrap();
            return (text.to_owned(), rest);
        };
        let end = quoted.find("\",").unwrap();
        (quoted[..end].replace("\"\"", "\""), &quoted[end + 2..])
    }

    /// The first and last address of a block, by arithmetic of its own.
    fn bounds(block: &str) -> (IpAddr, IpAddr) {
        let (first, prefix) = block.split_once('/').unwrap();
        let prefix: u32 = prefix.parse().unwrap();
        match first.parse().unwrap() {
            IpAddr::V4(first) => {
                let host_bits = u32::MAX.checked_shr(prefix).unwrap_or(0);
                (first.into(), Ipv4Addr::from_bits(first.to_bits() | host_bits).into())
            }
            IpAddr::V6(first) => {
                let host_bits = u128::MAX.checked_shr(prefix).unwrap_or(0);
                (first.into(), Ipv6Addr::from_bits(first.to_bits() | host_bits).into())
            }
        }
    }

    fn in_block(ip: IpAddr, block: &str) -> bool {
        let (first, last) = bounds(block);
        ip.is_ipv4() == first.is_ipv4() && (first..=last).contains(&ip)
    }

    /// The rule again, read from the registries' own files and slow.
    pub(crate) fn is_public_by_the_registry(ip: IpAddr) -> bool {
        let unicast = if ip.is_ipv4() { !in_block(ip, "224.0.0.0/4") } else { in_block(ip, "2000::/3") };
        unicast && rows(IPV4_CSV).iter().chain(&rows(IPV6_CSV)).all(|(block, _)| !in_block(ip, block))
    }

    fn neighbours(first: IpAddr, last: IpAddr) -> Vec<IpAddr> {
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                let around = [first.to_bits().checked_sub(1), last.to_bits().checked_add(1)];
                around.into_iter().flatten().map(|bits| Ipv4Addr::from_bits(bits).into()).collect()
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                let around = [first.to_bits().checked_sub(1), last.to_bits().checked_add(1)];
                around.into_iter().flatten().map(|bits| Ipv6Addr::from_bits(bits).into()).collect()
            }
            _ => Vec::new(),
        }
    }

    fn is_refused_and_no_more(block: &str) {
        let (first, last) = bounds(block);
        assert!(!is_public(first), "{first}");
        assert!(!is_public(last), "{last}");
        for ip in neighbours(first, last) {
            assert_eq!(is_public(ip), is_public_by_the_registry(ip), "{ip}, beside {block}");
        }
    }

    macro_rules! one_test_per_row {
        ($($name:ident: $block:literal;)*) => {
            $(#[test] fn $name() { is_refused_and_no_more($block); })*

            #[test]
            fn every_row_of_the_registries_has_a_test() {
                let mut tested = vec![$($block),*];
                let rows: Vec<_> = rows(IPV4_CSV).into_iter().chain(rows(IPV6_CSV)).collect();
                let mut listed: Vec<&str> = rows.iter().map(|(block, _)| block.as_str()).collect();
                tested.sort_unstable();
                listed.sort_unstable();
                assert_eq!(tested, listed);
            }
        };
    }

    one_test_per_row! {
        v4_this_network: "0.0.0.0/8";
        v4_this_host: "0.0.0.0/32";
        v4_private_10: "10.0.0.0/8";
        v4_shared_address_space: "100.64.0.0/10";
        v4_loopback: "127.0.0.0/8";
        v4_link_local: "169.254.0.0/16";
        v4_private_172: "172.16.0.0/12";
        v4_protocol_assignments: "192.0.0.0/24";
        v4_service_continuity: "192.0.0.0/29";
        v4_dummy: "192.0.0.8/32";
        v4_port_control: "192.0.0.9/32";
        v4_turn: "192.0.0.10/32";
        v4_nat64_discovery_170: "192.0.0.170/32";
        v4_nat64_discovery_171: "192.0.0.171/32";
        v4_documentation_1: "192.0.2.0/24";
        v4_as112: "192.31.196.0/24";
        v4_amt: "192.52.193.0/24";
        v4_6to4_relay: "192.88.99.0/24";
        v4_6a44_relay: "192.88.99.2/32";
        v4_private_192: "192.168.0.0/16";
        v4_as112_direct: "192.175.48.0/24";
        v4_benchmarking: "198.18.0.0/15";
        v4_documentation_2: "198.51.100.0/24";
        v4_documentation_3: "203.0.113.0/24";
        v4_reserved: "240.0.0.0/4";
        v4_broadcast: "255.255.255.255/32";
        v6_loopback: "::1/128";
        v6_unspecified: "::/128";
        v6_mapped: "::ffff:0:0/96";
        v6_nat64: "64:ff9b::/96";
        v6_nat64_local: "64:ff9b:1::/48";
        v6_discard: "100::/64";
        v6_dummy: "100:0:0:1::/64";
        v6_protocol_assignments: "2001::/23";
        v6_teredo: "2001::/32";
        v6_port_control: "2001:1::1/128";
        v6_turn: "2001:1::2/128";
        v6_dns_sd: "2001:1::3/128";
        v6_benchmarking: "2001:2::/48";
        v6_amt: "2001:3::/32";
        v6_as112: "2001:4:112::/48";
        v6_orchid: "2001:10::/28";
        v6_orchid_2: "2001:20::/28";
        v6_drones: "2001:30::/28";
        v6_documentation: "2001:db8::/32";
        v6_6to4: "2002::/16";
        v6_as112_direct: "2620:4f:8000::/48";
        v6_documentation_2: "3fff::/20";
        v6_segment_routing: "5f00::/16";
        v6_unique_local: "fc00::/7";
        v6_link_local: "fe80::/10";
    }

    #[test]
    fn multicast_is_refused_and_no_more() {
        is_refused_and_no_more("224.0.0.0/4");
        is_refused_and_no_more("ff00::/8");
    }

    #[test]
    fn nothing_outside_global_unicast_is_public() {
        let (first, last) = bounds("2000::/3");
        for ip in neighbours(first, last) {
            assert!(!is_public(ip), "{ip}");
        }
        assert!(is_public(first), "{first}");
        // Documentation (3fff::/20) ends at 3fff:fff:..., this is 3fff:ffff:...
        assert!(is_public(last), "{last}");
    }

    #[test]
    fn table_equals_the_registries() {
        let v4 = IPV4_REGISTRY.iter().map(|row| (IpAddr::V4(row.net.addr()), row.net.prefix_len(), row.name));
        let v6 = IPV6_REGISTRY.iter().map(|row| (IpAddr::V6(row.net.addr()), row.net.prefix_len(), row.name));
        let table: Vec<_> = v4.chain(v6).collect();
        let rows: Vec<_> = rows(IPV4_CSV).into_iter().chain(rows(IPV6_CSV)).collect();
        let registry: Vec<(IpAddr, u8, &str)> = rows
            .iter()
            .map(|(block, name)| {
                let (first, prefix) = block.split_once('/').unwrap();
                (first.parse().unwrap(), prefix.parse().unwrap(), name.as_str())
            })
            .collect();
        assert_eq!(table, registry);
    }

    /// What a process on Lambda can reach and nobody else's probe may.
    #[test]
    fn endpoints_of_lambda_are_refused() {
        for ip in [
            "127.0.0.1",
            "169.254.100.1",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.79.129",
            "169.254.78.1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd00:ec2::",
            "fd00:ec2:ffff:ffff:ffff:ffff:ffff:ffff",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn public_services_are_public() {
        for ip in [
            "8.8.8.8",
            "1.1.1.1",
            "52.94.236.248",
            "104.192.142.1",
            "2606:4700::1111",
            "2a05:d018::1",
            "2600:1f00::",
        ] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
