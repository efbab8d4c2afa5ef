//! The address guard: which network addresses may be dialed.
//!
//! A public address may; one of a special range may only if the document lists it. The ranges are those of the IANA special-purpose
//! registries (RFC 6890 and what they list since), multicast, what is not allocated, and the addresses under which clouds serve metadata.
//! An address that carries an IPv4 address inside is judged by that one too. It looks at addresses, never at names: a name is resolved
//! first, and the address that was judged is the one that is dialed.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Reachable by anybody.
    Public,
    /// In a range with a special purpose.
    Special {
        /// The range.
        range: &'static str,
    },
    /// Carries an IPv4 address that is in a range with a special purpose.
    Embedded {
        /// How it is carried.
        form: &'static str,
        /// The address inside.
        inner: Ipv4Addr,
        /// The range of the address inside.
        range: &'static str,
    },
}

/// An address that may not be dialed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("`{address}` is {reason}")]
pub struct Refused {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub reason: String,
}

type Range<A> = (A, u32, &'static str);

/// The first entry that holds an address names it.
const V4: [Range<Ipv4Addr>; 22] = [
    (Ipv4Addr::new(169, 254, 169, 254), 32, "a cloud's metadata address"),
    (Ipv4Addr::new(169, 254, 170, 2), 32, "a cloud's metadata address"),
    (Ipv4Addr::new(169, 254, 170, 23), 32, "a cloud's metadata address"),
    (Ipv4Addr::new(100, 100, 100, 200), 32, "a cloud's metadata address"),
    (Ipv4Addr::new(168, 63, 129, 16), 32, "a cloud's metadata address"),
    (Ipv4Addr::new(192, 0, 0, 192), 32, "a cloud's metadata address"),
    (Ipv4Addr::UNSPECIFIED, 8, "this network (RFC 791)"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "a private network (RFC 1918)"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "a carrier's shared network (RFC 6598)"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback (RFC 1122)"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local (RFC 3927)"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "a private network (RFC 1918)"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved for protocols (RFC 6890)"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "reserved for documentation (RFC 5737)"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a 6to4 relay (RFC 7526)"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "a private network (RFC 1918)"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "reserved for benchmarks (RFC 2544)"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "reserved for documentation (RFC 5737)"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "reserved for documentation (RFC 5737)"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast (RFC 5771)"),
    (Ipv4Addr::BROADCAST, 32, "broadcast (RFC 919)"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved (RFC 1112)"),
];

const V6: [Range<Ipv6Addr>; 17] = [
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]), 128, "a cloud's metadata address"),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]), 128, "a cloud's metadata address"),
    (v6([0; 8]), 128, "unspecified (RFC 4291)"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1]), 128, "loopback (RFC 4291)"),
    (v6([0; 8]), 96, "IPv4-compatible (RFC 4291)"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0]), 48, "a local translation prefix (RFC 8215)"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0]), 64, "discarded (RFC 6666)"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0]), 32, "Teredo (RFC 4380)"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0]), 23, "reserved for protocols (RFC 2928)"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0]), 32, "reserved for documentation (RFC 3849)"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0]), 16, "6to4 (RFC 7526)"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0]), 20, "reserved for documentation (RFC 9637)"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0]), 16, "a segment identifier (RFC 9602)"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0]), 7, "a private network (RFC 4193)"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0]), 10, "link-local (RFC 4291)"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0]), 10, "site-local (RFC 3879)"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0]), 8, "multicast (RFC 4291)"),
];

/// Where global unicast addresses are allocated from (RFC 4291, IANA).
const GLOBAL_UNICAST: Range<Ipv6Addr> = (v6([0x2000, 0, 0, 0, 0, 0, 0, 0]), 3, "");
/// The well-known translation prefix (RFC 6052): what an IPv6-only host sees of a public IPv4 address.
const NAT64: Range<Ipv6Addr> = (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0]), 96, "");

/// What the address is.
pub fn classify(address: IpAddr) -> Class {
    let address = match address {
        IpAddr::V4(address) => return classify_v4(address),
        IpAddr::V6(address) => address,
    };
    if let Some((form, inner)) = embedded(address)
        && let Class::Special { range } = classify_v4(inner)
    {
        return Class::Embedded { form, inner, range };
    }
    if address.to_ipv4_mapped().is_some() || holds_v6(NAT64, address) {
        return Class::Public;
    }
    match V6.into_iter().find(|range| holds_v6(*range, address)) {
        Some((_, _, range)) => Class::Special { range },
        None if holds_v6(GLOBAL_UNICAST, address) => Class::Public,
        None => Class::Special { range: "not allocated (IANA)" },
    }
}

/// Whether the address may be dialed: it is public, or one of the networks holds it. A network of IPv4 addresses also holds their
/// IPv4-mapped form, which is the same destination, and no other form.
pub fn allowed(address: IpAddr, allow: &[IpNet]) -> Result<(), Refused> {
    let canonical = address.to_canonical();
    let class = classify(address);
    if class == Class::Public || allow.iter().any(|net| net.contains(&address) || net.contains(&canonical)) {
        return Ok(());
    }
    let reason = match class {
        Class::Public => return Ok(()),
        Class::Special { range } => range.to_owned(),
        Class::Embedded { form, inner, range } => format!("the {form} form of `{inner}`, which is {range}"),
    };
    Err(Refused { address, reason })
}

fn classify_v4(address: Ipv4Addr) -> Class {
    let holds = |(network, length, _): Range<Ipv4Addr>| {
        network.to_bits() >> (32 - length) == address.to_bits() >> (32 - length)
    };
    match V4.into_iter().find(|range| holds(*range)) {
        Some((_, _, range)) => Class::Special { range },
        None => Class::Public,
    }
}

/// The IPv4 address inside and how it is carried.
fn embedded(address: Ipv6Addr) -> Option<(&'static str, Ipv4Addr)> {
    let bits = address.to_bits();
    let segments = address.segments();
    let last = Ipv4Addr::from(address.octets().last_chunk().copied().unwrap_or_default());
    match (segments[0], segments[1], segments[2]) {
        (0, 0, 0) if bits >> 32 == 0xffff => Some(("IPv4-mapped", last)),
        (0, 0, 0) if bits >> 32 == 0 && bits > 1 => Some(("IPv4-compatible", last)),
        (0x64, 0xff9b, 0) if holds_v6(NAT64, address) => Some(("NAT64", last)),
        (0x64, 0xff9b, 1) => Some(("local NAT64", last)),
        (0x2001, 0, _) => Some(("Teredo", Ipv4Addr::from_bits(!last.to_bits()))),
        (0x2002, high, low) => Some(("6to4", Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))),
        // An interface identifier of ISATAP (RFC 5214), whose universal bit may be set.
        _ if segments[4] & !0x0200 == 0 && segments[5] == 0x5efe => Some(("ISATAP", last)),
        _ => None,
    }
}

fn holds_v6((network, length, _): Range<Ipv6Addr>, address: Ipv6Addr) -> bool {
    network.to_bits() >> (128 - length) == address.to_bits() >> (128 - length)
}

const fn v6(s: [u16; 8]) -> Ipv6Addr {
    Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPECIAL: [(&str, &str); 60] = [
        ("0.0.0.0", "this network"),
        ("0.255.255.255", "this network"),
        ("10.0.0.0", "RFC 1918"),
        ("10.255.255.255", "RFC 1918"),
        ("100.64.0.0", "RFC 6598"),
        ("100.127.255.255", "RFC 6598"),
        ("100.100.100.200", "metadata"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.255", "loopback"),
        ("169.254.0.1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("169.254.170.2", "metadata"),
        ("168.63.129.16", "metadata"),
        ("172.16.0.0", "RFC 1918"),
        ("172.31.255.255", "RFC 1918"),
        ("192.0.0.192", "metadata"),
        ("192.0.0.9", "RFC 6890"),
        ("192.0.2.1", "documentation"),
        ("192.88.99.1", "6to4 relay"),
        ("192.168.0.1", "RFC 1918"),
        ("198.18.0.1", "benchmarks"),
        ("198.19.255.255", "benchmarks"),
        ("198.51.100.1", "documentation"),
        ("203.0.113.1", "documentation"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::8.8.8.8", "IPv4-compatible"),
        ("::127.0.0.1", "IPv4-compatible form of `127.0.0.1`, which is loopback"),
        ("::ffff:10.0.0.1", "IPv4-mapped form of `10.0.0.1`"),
        ("::ffff:169.254.169.254", "metadata"),
        ("::ffff:0:10.0.0.1", "not allocated"),
        ("64:ff9b::192.168.0.1", "NAT64 form of `192.168.0.1`"),
        ("64:ff9b:1::8.8.8.8", "RFC 8215"),
        ("64:ff9b:1::10.0.0.1", "local NAT64 form of `10.0.0.1`"),
        ("64:ff9b:2::8.8.8.8", "not allocated"),
        ("100::1", "discarded"),
        ("2001::1", "Teredo"),
        ("2001:0:4136:e378:8000:63bf:3f57:fffe", "Teredo form of `192.168.0.1`"),
        ("2001:2::1", "protocols"),
        ("2001:20::1", "protocols"),
        ("2001:1ff::1", "protocols"),
        ("2001:db8::1", "documentation"),
        ("2002:a00:1::1", "6to4 form of `10.0.0.1`"),
        ("2002:808:808::1", "6to4 (RFC 7526)"),
        ("3fff:fff::1", "documentation"),
        ("5f00::1", "segment"),
        ("4000::1", "not allocated"),
        ("fc00::1", "RFC 4193"),
        ("fd00:ec2::254", "metadata"),
        ("fdff::1", "RFC 4193"),
        ("fe80::1", "link-local"),
        ("fe80::5efe:8.8.8.8", "link-local"),
        ("fec0::1", "site-local"),
        ("ff02::1", "multicast"),
        ("2606:4700::5efe:10.0.0.1", "ISATAP form of `10.0.0.1`"),
        ("2606:4700::200:5efe:10.0.0.1", "ISATAP form of `10.0.0.1`"),
    ];
    const PUBLIC: [&str; 28] = [
        "1.0.0.0",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.31.196.1",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "2606:4700::5efe:8.8.8.8",
        "2620:4f:8000::1",
        "3fff:1000::1",
    ];

    #[test]
    fn classified() {
        let check = |address: &str, expected: Option<&str>| {
            let reason = allowed(address.parse().unwrap(), &[]).err().map(|refused| refused.reason);
            match expected {
                None => assert_eq!(reason, None, "{address}"),
                Some(part) => {
                    assert!(reason.as_deref().is_some_and(|r| r.contains(part)), "{address}: {reason:?}");
                }
            }
        };
        for (address, range) in SPECIAL {
            check(address, Some(range));
        }
        for address in PUBLIC {
            check(address, None);
        }
    }

    #[test]
    fn what_a_document_lists_may_be_dialed() {
        let check = |address: &str, allow: &[&str], expected: bool| {
            let allow: Vec<IpNet> = allow.iter().map(|net| net.parse().unwrap()).collect();
            assert_eq!(allowed(address.parse().unwrap(), &allow).is_ok(), expected, "{address} {allow:?}");
        };
        check("127.0.0.1", &["127.0.0.0/8"], true);
        check("::ffff:127.0.0.1", &["127.0.0.0/8"], true);
        check("::127.0.0.1", &["127.0.0.0/8"], false);
        check("64:ff9b::127.0.0.1", &["127.0.0.0/8"], false);
        check("64:ff9b::127.0.0.1", &["64:ff9b::/96"], true);
        check("::1", &["127.0.0.0/8"], false);
        check("::1", &["127.0.0.0/8", "::1/128"], true);
        check("10.0.0.1", &["10.0.0.2/32"], false);
        check("169.254.169.254", &["10.0.0.0/8"], false);
        check("8.8.8.8", &[], true);
    }

    proptest! {
        #[test]
        fn an_address_that_carries_a_private_one_is_refused(range in 0..V4.len(), host: u32, prefix: u64, form in 0..8_u8) {
            let (network, length, _) = V4[range];
            let inner = network.to_bits() | (host & u32::MAX.checked_shr(length).unwrap_or(0));
            let low = u128::from(inner);
            let global = (u128::from(prefix) >> 3 | 1 << 61) << 64;
            let bits = match form {
                0 => 0xffff << 32 | low,
                1 => low,
                2 => NAT64.0.to_bits() | low,
                3 => 0x0064_ff9b_0001 << 80 | u128::from(prefix & 0xffff_ffff) << 32 | low,
                4 => 0x2002 << 112 | low << 80 | u128::from(prefix),
                5 => 0x2001_0000 << 96 | u128::from(prefix) << 32 | u128::from(!inner),
                6 => global | 0x5efe << 32 | low,
                _ => global | 0x0200_5efe << 32 | low,
            };
            let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
            prop_assert!(allowed(address, &[]).is_err(), "{} carries {}", address, Ipv4Addr::from_bits(inner));
            prop_assert!(allowed(IpAddr::V4(Ipv4Addr::from_bits(inner)), &[]).is_err());
        }

        #[test]
        fn a_mapped_address_is_judged_as_the_address_itself(bits: u32) {
            let inner = Ipv4Addr::from_bits(bits);
            let mapped = allowed(IpAddr::V6(inner.to_ipv6_mapped()), &[]).is_ok();
            prop_assert_eq!(mapped, allowed(IpAddr::V4(inner), &[]).is_ok());
        }
    }
}
