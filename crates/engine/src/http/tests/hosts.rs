//! Hosts in every spelling, answers of resolvers of every kind: what is dialed was vetted, and nothing else is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use orbit_core::dispatch::{check_url, guard};
use orbit_core::limits::ADDRESSES_DIALED_MAX;
use proptest::prelude::*;

use super::{Net, answering, request, send};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// What a request to this host comes to while every name resolves so: the addresses that were dialed, or the failure.
async fn to(host: &str, names: &[&str]) -> Result<Vec<String>, String> {
    let url = format!("http://{host}/");
    if let Err(error) = check_url(&url) {
        return Err(format!("check: {error}"));
    }
    let net = Net::with_names(&[names], &[], answering(OK));
    let exchange = send(&net.client(), request(&url)).await;
    let dialed = net.dialed();
    match exchange.result {
        Ok(_) => Ok(dialed),
        Err(failure) => {
            assert!(dialed.is_empty(), "{host}: {failure} after {dialed:?}");
            Err(failure.to_string())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_private_address_is_refused_in_every_spelling() {
    let check = async |host: &str, expected: &str| {
        let failure = to(host, &["127.0.0.1"]).await.unwrap_err();
        assert!(failure.contains(expected), "{host}: {failure}");
    };
    let loopback = "`127.0.0.1` is loopback";
    for host in [
        "127.0.0.1",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0X7F000001",
        "0177.0.0.1",
        "0x7f.0x0.0x0.0x1",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "2130706433.",
        "１２７.０.０.１",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "%31%32%37.0.0.1",
        "127%2e0%2e0%2e1",
        "%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1",
        // Names, of which the resolver says so.
        "localhost",
        "localhost.",
        "LOCALHOST",
        "ｌｏｃａｌｈｏｓｔ",
        "l%6fcalhost",
        "a.localhost",
        "bücher.example",
        "xn--bcher-kva.example",
        "127.0.0.1.example",
        "127.0.0.1..",
    ] {
        check(host, loopback).await;
    }
    check("0", "`0.0.0.0` is this host").await;
    check("169.254.169.254.", "a cloud's metadata address").await;
    check("0xa9fea9fe", "a cloud's metadata address").await;
    check("2852039166", "a cloud's metadata address").await;
    check("3232235777", "`192.168.1.1` is a private network").await;
    check("0300.0250.01.01", "`192.168.1.1` is a private network").await;
    check("[::]", "`::` is unspecified").await;
    check("[0:0:0:0:0:0:0:1]", "`::1` is loopback").await;
    check("[::ffff:7f00:1]", "the IPv4-mapped form of `127.0.0.1`").await;
    check("[::FFFF:10.0.0.1]", "the IPv4-mapped form of `10.0.0.1`").await;
    check("[64:ff9b::a9fe:a9fe]", "the NAT64 form of `169.254.169.254`").await;
    check("[2002:7f00:1::]", "the 6to4 form of `127.0.0.1`").await;
    check("[fe80::1]", "link-local").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_host_is_refused_before_anything_is_asked() {
    let check = async |host: &str| {
        let failure = to(host, &["93.184.216.34"]).await.unwrap_err();
        assert!(failure.starts_with("check: "), "{host}: {failure}");
    };
    for host in [
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[::1%251]",
        "[::ffff:127.0.0.1.]",
        "[127.0.0.1]",
        "256.0.0.1",
        "4294967296",
        "127.0.0.0.1",
        "0x100000000",
        "1.2.3.08",
        "::1",
        "",
        ".%00",
        "a%00b",
        "a%2fb",
        "a%40b",
        "127.0.0.1%09",
        "93.184.216.34@127.0.0.1",
        "93.184.216.34\\@127.0.0.1",
        "a b",
        "xn--a",
    ] {
        check(host).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_public_address_is_dialed_in_every_spelling() {
    for host in
        ["93.184.216.34", "1572395042", "0x5db8d822", "93.184.55330", "93.184.216.34.", "９３.184.216.34"]
    {
        assert_eq!(to(host, &["10.0.0.1"]).await, Ok(vec!["93.184.216.34:80".to_owned()]), "{host}");
    }
    for host in ["receiver.test", "RECEIVER.test", "receiver.test.", "bücher.example"] {
        assert_eq!(to(host, &["93.184.216.34"]).await, Ok(vec!["93.184.216.34:80".to_owned()]), "{host}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_attempt_vets_what_it_was_told_itself() {
    let lookups: [&[&str]; 5] = [
        &["93.184.216.34"],
        &["169.254.169.254"],
        &["10.0.0.1", "93.184.216.34", "fd00::1"],
        &["::ffff:127.0.0.1"],
        &["8.8.8.8", "8.8.8.8"],
    ];
    let net = Net::with_names(&lookups, &[], answering(OK));
    let client = net.client();
    let mut went = Vec::new();
    for _ in lookups {
        went.push(send(&client, request("http://rebinding.test/")).await.result.is_ok());
    }
    assert_eq!(went, [true, false, true, false, true]);
    assert_eq!(net.dialed(), ["93.184.216.34:80", "93.184.216.34:80", "8.8.8.8:80"]);
}

/// Addresses of every kind: special networks are met as often as the rest.
fn address() -> impl Strategy<Value = IpAddr> {
    let special = (0..orbit_core::dispatch::special::SPECIAL.len())
        .prop_map(|index| orbit_core::dispatch::special::SPECIAL[index].network);
    prop_oneof![
        special,
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u32>().prop_map(|bits| IpAddr::V6(Ipv4Addr::from_bits(bits).to_ipv6_mapped())),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits >> 3 | 1 << 125))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing answers, so that every address that may be dialed is, one after the other.
    #[test]
    fn what_is_dialed_is_what_was_vetted(
        lookups in prop::collection::vec(prop::collection::vec(address(), 0..8), 1..4),
        allowed in prop::option::of((any::<u32>(), 0..=32_u8)),
    ) {
        let allow: Vec<IpNet> = allowed
            .map(|(bits, length)| IpNet::new(IpAddr::V4(Ipv4Addr::from_bits(bits)), length).unwrap())
            .into_iter()
            .collect();
        let texts: Vec<Vec<String>> =
            lookups.iter().map(|one| one.iter().map(ToString::to_string).collect()).collect();
        let texts: Vec<Vec<&str>> = texts.iter().map(|one| one.iter().map(String::as_str).collect()).collect();
        let names: Vec<&[&str]> = texts.iter().map(Vec::as_slice).collect();
        let unreachable = names.concat();
        let net = Net::with_names(&names, &unreachable, answering(OK));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let mut expected = Vec::new();
        for found in &lookups {
            let mut request = request("http://receiver.test:81/");
            request.allow.clone_from(&allow);
            let exchange = runtime.block_on(send(&net.client(), request));
            prop_assert!(exchange.result.is_err());
            let mut vetted: Vec<IpAddr> = Vec::new();
            for address in found.iter().filter(|address| guard::allowed(**address, &allow).is_ok()) {
                if !vetted.contains(address) {
                    vetted.push(*address);
                }
            }
            vetted.truncate(ADDRESSES_DIALED_MAX);
            expected.extend(vetted.into_iter().map(|address| std::net::SocketAddr::new(address, 81).to_string()));
            prop_assert_eq!(net.dialed(), expected.clone());
        }
    }
}
