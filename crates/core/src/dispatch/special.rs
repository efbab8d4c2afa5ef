//! The table of addresses with a special purpose: the IANA registries for IPv4 and IPv6, and what they leave to other documents.
//!
//! Every entry is refused, whether or not the registry calls it globally reachable: no receiver lives in any of them. What is not here is
//! public for IPv4; for IPv6 it must also lie where unicast addresses are allocated. Forms that carry an IPv4 address are in [`CARRIERS`].

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network and why nothing in it is dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Special {
    /// Its first address.
    pub network: IpAddr,
    /// Bits that all of its addresses share.
    pub length: u32,
    /// What it is.
    pub reason: &'static str,
}

/// Every network with a special purpose. The first entry that holds an address names it, so that the narrow ones come before the wide.
pub const SPECIAL: [Special; 62] = [
    // What a cloud answers its own machines at, credentials among it.
    v4([169, 254, 169, 254], 32, METADATA),
    v4([169, 254, 170, 2], 32, METADATA),
    v4([169, 254, 170, 23], 32, METADATA),
    v4([100, 100, 100, 200], 32, METADATA),
    v4([168, 63, 129, 16], 32, METADATA),
    v4([192, 0, 0, 192], 32, METADATA),
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128, METADATA),
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128, METADATA),
    // The IANA IPv4 Special-Purpose Address Registry.
    v4([0, 0, 0, 0], 32, "this host (RFC 1122)"),
    v4([0, 0, 0, 0], 8, "this network (RFC 791)"),
    v4([10, 0, 0, 0], 8, "a private network (RFC 1918)"),
    v4([100, 64, 0, 0], 10, "a carrier's shared network (RFC 6598)"),
    v4([127, 0, 0, 0], 8, "loopback (RFC 1122)"),
    v4([169, 254, 0, 0], 16, "link-local (RFC 3927)"),
    v4([172, 16, 0, 0], 12, "a private network (RFC 1918)"),
    v4([192, 0, 0, 0], 29, "service continuity (RFC 7335)"),
    v4([192, 0, 0, 8], 32, "the dummy address (RFC 7600)"),
    v4([192, 0, 0, 9], 32, "port control anycast (RFC 7723)"),
    v4([192, 0, 0, 10], 32, "relay anycast (RFC 8155)"),
    v4([192, 0, 0, 170], 31, "translation discovery (RFC 8880)"),
    v4([192, 0, 0, 0], 24, "reserved for protocols (RFC 6890)"),
    v4([192, 0, 2, 0], 24, "reserved for documentation (RFC 5737)"),
    v4([192, 31, 196, 0], 24, "a sink for reverse names (RFC 7535)"),
    v4([192, 52, 193, 0], 24, "a multicast relay (RFC 7450)"),
    v4([192, 88, 99, 2], 32, "a 6a44 relay (RFC 6751)"),
    v4([192, 88, 99, 0], 24, "a 6to4 relay (RFC 7526)"),
    v4([192, 168, 0, 0], 16, "a private network (RFC 1918)"),
    v4([192, 175, 48, 0], 24, "a sink for reverse names (RFC 7534)"),
    v4([198, 18, 0, 0], 15, "reserved for benchmarks (RFC 2544)"),
    v4([198, 51, 100, 0], 24, "reserved for documentation (RFC 5737)"),
    v4([203, 0, 113, 0], 24, "reserved for documentation (RFC 5737)"),
    v4([255, 255, 255, 255], 32, "broadcast (RFC 919)"),
    v4([240, 0, 0, 0], 4, "reserved (RFC 1112)"),
    // Not in that registry.
    v4([224, 0, 0, 0], 4, "multicast (RFC 5771)"),
    // The IANA IPv6 Special-Purpose Address Registry.
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback (RFC 4291)"),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, "unspecified (RFC 4291)"),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "a local translation prefix (RFC 8215)"),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discarded (RFC 6666)"),
    v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64, "the dummy prefix (RFC 9780)"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "Teredo (RFC 4380)"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128, "port control anycast (RFC 7723)"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128, "relay anycast (RFC 8155)"),
    v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128, "service registration anycast (RFC 9665)"),
    v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "reserved for benchmarks (RFC 5180)"),
    v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32, "a multicast relay (RFC 7450)"),
    v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48, "a sink for reverse names (RFC 7535)"),
    v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, "a hash, not an address (RFC 4843)"),
    v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, "a hash, not an address (RFC 7343)"),
    v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28, "a device identifier (RFC 9374)"),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "reserved for protocols (RFC 2928)"),
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "reserved for documentation (RFC 3849)"),
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4 (RFC 7526)"),
    v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, "a sink for reverse names (RFC 7534)"),
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "reserved for documentation (RFC 9637)"),
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "a segment identifier (RFC 9602)"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "a private network (RFC 4193)"),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local (RFC 4291)"),
    // Not in that registry, or no longer.
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96, "IPv4-compatible (RFC 4291)"),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, "IPv4-translated (RFC 2765)"),
    v6([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16, "the former 6bone (RFC 3701)"),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site-local (RFC 3879)"),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast (RFC 4291)"),
];

/// Why an IPv6 address is refused that is in no entry and outside of `2000::/3`.
pub const NOT_ALLOCATED: &str = "not allocated (RFC 4291)";

const METADATA: &str = "a cloud's metadata address";

/// Where IPv6 unicast addresses are allocated from (RFC 4291).
const GLOBAL_UNICAST: Special = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3, "");

/// How an IPv6 address carries an IPv4 one, which is judged too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// What the form is called.
    pub form: &'static str,
    /// The addresses of this form.
    pub network: Special,
    /// Bits to the right of the address inside.
    pub shift: u32,
    /// Whether its bits are inverted.
    pub inverted: bool,
    /// Whether an address of this form is public when the one inside is.
    pub transparent: bool,
}

/// Every form with a prefix of its own. ISATAP (RFC 5214) has none: it is told by the interface identifier, in any network. What a site maps
/// under a prefix of its own (RFC 6052) cannot be told from outside.
pub const CARRIERS: [Carrier; 7] = [
    carrier("IPv4-mapped", v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, "RFC 4291"), 0, true),
    carrier("IPv4-compatible", v6([0, 0, 0, 0, 0, 0, 0, 0], 96, "RFC 4291"), 0, false),
    carrier("IPv4-translated", v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, "RFC 2765"), 0, false),
    carrier("NAT64", v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, "RFC 6052"), 0, true),
    carrier("local NAT64", v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "RFC 8215"), 0, false),
    Carrier {
        inverted: true,
        ..carrier("Teredo", v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "RFC 4380"), 0, false)
    },
    carrier("6to4", v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "RFC 3056"), 80, false),
];

impl Special {
    /// Whether the address is in the network. An IPv4 network holds no IPv6 address.
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                same_bits(u128::from(network.to_bits()), u128::from(address.to_bits()), 32 - self.length)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                same_bits(network.to_bits(), address.to_bits(), 128 - self.length)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl Carrier {
    /// The IPv4 address inside.
    pub fn inside(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        if !self.network.holds(IpAddr::V6(address)) {
            return None;
        }
        let [.., a, b, c, d] = (address.to_bits() >> self.shift).to_be_bytes();
        let bits = u32::from_be_bytes([a, b, c, d]);
        Some(Ipv4Addr::from_bits(if self.inverted { !bits } else { bits }))
    }
}

/// Why the address itself is refused; none if it is public, whatever it carries.
pub fn reason(address: IpAddr) -> Option<&'static str> {
    if let Some(found) = SPECIAL.iter().find(|one| one.holds(address)) {
        return Some(found.reason);
    }
    (address.is_ipv6() && !GLOBAL_UNICAST.holds(address)).then_some(NOT_ALLOCATED)
}

fn same_bits(a: u128, b: u128, ignored: u32) -> bool {
    a.checked_shr(ignored) == b.checked_shr(ignored)
}

const fn v4([a, b, c, d]: [u8; 4], length: u32, reason: &'static str) -> Special {
    Special { network: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), length, reason }
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], length: u32, reason: &'static str) -> Special {
    Special { network: IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), length, reason }
}

const fn carrier(form: &'static str, network: Special, shift: u32, transparent: bool) -> Carrier {
    Carrier { form, network, shift, inverted: false, transparent }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::IpNet;

    /// Both registries as IANA prints them, without the networks that carry an IPv4 address and are judged by it.
    const REGISTRIES: [&str; 46] = [
        "0.0.0.0/8",
        "0.0.0.0/32",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.0.0/29",
        "192.0.0.8/32",
        "192.0.0.9/32",
        "192.0.0.10/32",
        "192.0.0.170/32",
        "192.0.0.171/32",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.88.99.2/32",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "240.0.0.0/4",
        "255.255.255.255/32",
        "::1/128",
        "::/128",
        "64:ff9b:1::/48",
        "100::/64",
        "100:0:0:1::/64",
        "2001::/23",
        "2001::/32",
        "2001:1::1/128",
        "2001:1::2/128",
        "2001:1::3/128",
        "2001:2::/48",
        "2001:3::/32",
        "2001:4:112::/48",
        "2001:10::/28",
        "2001:20::/28",
        "2001:30::/28",
        "2001:db8::/32",
        "2002::/16",
        "2620:4f:8000::/48",
        "3fff::/20",
    ];

    fn net(special: &Special) -> IpNet {
        IpNet::new(special.network, u8::try_from(special.length).unwrap()).unwrap()
    }

    #[test]
    fn the_registries_are_refused_whole() {
        for text in REGISTRIES.into_iter().chain(["5f00::/16", "fc00::/7", "fe80::/10"]) {
            let network: IpNet = text.parse().unwrap();
            assert!(reason(network.network()).is_some(), "{text}");
            assert!(reason(network.broadcast()).is_some(), "{text}");
            let covered = SPECIAL.iter().any(|one| net(one).contains(&network));
            // Two of them are one entry.
            assert!(covered, "{text} is not within one entry");
        }
    }

    #[test]
    fn every_entry_is_a_network_and_names_what_it_holds() {
        for (index, one) in SPECIAL.iter().enumerate() {
            let network = net(one);
            assert_eq!(network.trunc(), network, "{network} has bits beyond its length");
            assert!(one.reason == METADATA || one.reason.contains("(RFC "), "{}", one.reason);
            for address in [network.network(), network.broadcast()] {
                // An implementation that is not ours agrees about every border.
                let named = SPECIAL.iter().find(|other| net(other).contains(&address)).unwrap();
                assert_eq!(reason(address), Some(named.reason), "{address}");
            }
            let hidden = SPECIAL[..index].iter().any(|other| net(other).contains(&network));
            assert!(!hidden, "{network} is never reached: an entry before it holds all of it");
        }
    }

    #[test]
    fn next_to_a_network_another_rule_decides() {
        let beside = |address: IpAddr, step: i128| match address {
            IpAddr::V4(v4) => {
                u32::try_from(i128::from(v4.to_bits()) + step).ok().map(|b| IpAddr::V4(b.into()))
            }
            IpAddr::V6(v6) => v6.to_bits().checked_add_signed(step).map(|bits| IpAddr::V6(bits.into())),
        };
        for one in &SPECIAL {
            let network = net(one);
            let outside = [beside(network.network(), -1), beside(network.broadcast(), 1)];
            for address in outside.into_iter().flatten() {
                assert!(!one.holds(address), "{network} holds {address}");
                let expected = SPECIAL.iter().any(|other| net(other).contains(&address));
                let allocated = "2000::/3".parse::<IpNet>().unwrap().contains(&address) || address.is_ipv4();
                assert_eq!(reason(address).is_some(), expected || !allocated, "{address}");
            }
        }
    }

    #[test]
    fn the_page_lists_every_network() {
        let page = include_str!("../../../../docs/flow/07-dispatch.md");
        let carriers = CARRIERS.iter().map(|one| &one.network);
        for one in SPECIAL.iter().chain(carriers) {
            let short = match net(one) {
                network if network.prefix_len() == network.max_prefix_len() => one.network.to_string(),
                network => network.to_string(),
            };
            assert!(page.contains(&format!("`{short}`")), "`{short}` is not in docs/flow/07-dispatch.md");
        }
    }
}
