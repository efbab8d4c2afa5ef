//! The address guard: which network addresses may be dialed.
//!
//! A public address may; one of a special network ([`super::special`]) may only if the document lists it. An address that carries an IPv4
//! address inside is judged by that one too. It looks at addresses, never at names: a name is resolved first, and the address that was judged
//! is the one that is dialed.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::special::{self, CARRIERS};

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

/// What the address is.
pub fn classify(address: IpAddr) -> Class {
    let IpAddr::V6(v6) = address else { return plain(address) };
    let mut transparent = false;
    for carrier in &CARRIERS {
        let Some(inner) = carrier.inside(v6) else { continue };
        // `::` and `::1` carry nothing: they are what they are.
        if v6.is_unspecified() || v6.is_loopback() {
            break;
        }
        if let Some(range) = special::reason(IpAddr::V4(inner)) {
            return Class::Embedded { form: carrier.form, inner, range };
        }
        transparent = carrier.transparent;
    }
    if let Some(inner) = isatap(v6)
        && let Some(range) = special::reason(IpAddr::V4(inner))
    {
        return Class::Embedded { form: "ISATAP", inner, range };
    }
    if transparent { Class::Public } else { plain(address) }
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

fn plain(address: IpAddr) -> Class {
    special::reason(address).map_or(Class::Public, |range| Class::Special { range })
}

/// The IPv4 address in an interface identifier of ISATAP (RFC 5214), whose universal bit may be set. It may stand in any network.
fn isatap(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let [.., a, b, c, d] = address.octets();
    (segments[4] & !0x0200 == 0 && segments[5] == 0x5efe).then(|| Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::special::SPECIAL;
    use proptest::prelude::*;

    const REFUSED: [(&str, &str); 71] = [
        ("0.0.0.0", "this host"),
        ("0.0.0.1", "this network"),
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
        ("192.0.0.1", "RFC 7335"),
        ("192.0.0.9", "RFC 7723"),
        ("192.0.0.171", "RFC 8880"),
        ("192.0.0.255", "RFC 6890"),
        ("192.31.196.1", "RFC 7535"),
        ("192.52.193.1", "RFC 7450"),
        ("192.88.99.2", "6a44"),
        ("192.175.48.1", "RFC 7534"),
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
        ("::ffff:0:10.0.0.1", "IPv4-translated form of `10.0.0.1`"),
        ("::ffff:0:8.8.8.8", "RFC 2765"),
        ("64:ff9b::192.168.0.1", "NAT64 form of `192.168.0.1`"),
        ("64:ff9b:1::8.8.8.8", "RFC 8215"),
        ("64:ff9b:1::10.0.0.1", "local NAT64 form of `10.0.0.1`"),
        ("64:ff9b:2::8.8.8.8", "not allocated"),
        ("100::1", "discarded"),
        ("2001::1", "Teredo"),
        ("2001:0:4136:e378:8000:63bf:3f57:fffe", "Teredo form of `192.168.0.1`"),
        ("100:0:0:1::1", "dummy"),
        ("2001:2::1", "benchmarks"),
        ("2001:20::1", "RFC 7343"),
        ("2620:4f:8000::1", "RFC 7534"),
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
    const PUBLIC: [&str; 26] = [
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
        for (address, range) in REFUSED {
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
        fn an_address_in_a_special_network_is_refused_however_it_is_carried(entry in 0..SPECIAL.len(), host: u128, prefix: u128, form in 0..=CARRIERS.len()) {
            let (network, length) = (SPECIAL[entry].network, SPECIAL[entry].length);
            let within = |bits: u32| host & u128::MAX.checked_shr(128 - bits + length).unwrap_or(0);
            let inner = match network {
                IpAddr::V6(network) => {
                    let address = IpAddr::V6(Ipv6Addr::from_bits(network.to_bits() | within(128)));
                    prop_assert!(allowed(address, &[]).is_err(), "{address}");
                    return Ok(());
                }
                IpAddr::V4(network) => u128::from(network.to_bits()) | within(32),
            };
            let plain = Ipv4Addr::from_bits(u32::try_from(inner).unwrap());
            prop_assert!(allowed(IpAddr::V4(plain), &[]).is_err(), "{plain}");
            let bits = match CARRIERS.get(form) {
                Some(carrier) => {
                    let IpAddr::V6(network) = carrier.network.network else { unreachable!("carriers are IPv6") };
                    let inner = if carrier.inverted { inner ^ u128::from(u32::MAX) } else { inner };
                    let free = u128::MAX >> carrier.network.length & !(u128::from(u32::MAX) << carrier.shift);
                    network.to_bits() | prefix & free | inner << carrier.shift
                }
                // ISATAP under a global prefix, with and without the universal bit.
                None => (1 << 125 | prefix >> 3 & !u128::from(u64::MAX)) | (prefix & 1) << 57 | 0x5efe << 32 | inner,
            };
            let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
            prop_assert!(allowed(address, &[]).is_err(), "{} carries {}", address, plain);
        }

        #[test]
        fn only_the_whole_network_of_an_exception_is_let_through(bits: u32, length in 0..=32_u8) {
            let address = Ipv4Addr::from_bits(bits);
            let allow = IpNet::new(IpAddr::V4(address), length).unwrap().trunc();
            prop_assert!(allowed(IpAddr::V4(address), &[allow]).is_ok());
            let flipped = Ipv4Addr::from_bits(bits ^ 1_u32.checked_shl(32 - u32::from(length)).unwrap_or(0));
            let expected = flipped == address || classify(IpAddr::V4(flipped)) == Class::Public;
            prop_assert_eq!(allowed(IpAddr::V4(flipped), &[allow]).is_ok(), expected);
        }

        #[test]
        fn a_mapped_address_is_judged_as_the_address_itself(bits: u32) {
            let inner = Ipv4Addr::from_bits(bits);
            let mapped = allowed(IpAddr::V6(inner.to_ipv6_mapped()), &[]).is_ok();
            prop_assert_eq!(mapped, allowed(IpAddr::V4(inner), &[]).is_ok());
        }
    }
}
