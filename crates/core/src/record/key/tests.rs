//! Keys against what others published, and every part of a verifier key changed.

use super::*;

/// The key of the documentation of Go's `golang.org/x/mod/sumdb/note`, which wrote the form first.
pub(crate) const GO_SECRET: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
pub(crate) const GO_VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

/// A key as Go writes its secret half: type and secret in base64.
pub(crate) fn go_signer() -> Signer {
    let secret = lines::bytes(GO_SECRET).unwrap();
    Signer::new("PeterNeumann", secret[1..].try_into().unwrap())
}

/// A key derived from 32 equal bytes, as the tests of other modules use it.
pub(crate) fn signer(seed: u8, origin: &str) -> Signer {
    Seed::new([seed; 32]).signer("studio", origin).unwrap()
}

#[test]
fn signatures_of_rfc_8032() {
    // Section 7.1, tests 1 to 3.
    let check = |secret: &str, public: &str, message: &[u8], signature: &str| {
        let signer = Signer::new("rfc8032", unhex(secret).unwrap()[..].try_into().unwrap());
        assert_eq!(hex(signer.verifier().key.as_bytes()), public);
        assert_eq!(hex(&signer.sign(message)), signature);
        assert!(signer.verifier().verify(message, &unhex(signature).unwrap()));
        assert!(!signer.verifier().verify(b"another", &unhex(signature).unwrap()));
    };
    check(
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    );
    check(
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        &[0x72],
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    );
    check(
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        &[0xaf, 0x82],
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    );
}

#[test]
fn verifier_keys_of_others_are_read_and_written() {
    assert_eq!(go_signer().verifier().to_string(), GO_VKEY);
    for vkey in [
        GO_VKEY,
        // The example of the C2SP.
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        // The Go checksum database.
        "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
    ] {
        assert_eq!(vkey.parse::<Verifier>().unwrap().to_string(), vkey);
    }
}

#[test]
fn every_character_of_a_verifier_key_counts() {
    for at in 0..GO_VKEY.len() {
        let mut changed = GO_VKEY.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(changed.parse::<Verifier>().is_err(), "{changed}");
    }
}

#[test]
fn each_part_of_a_verifier_key_has_its_error() {
    let check = |vkey: &str, expected: &str| {
        assert_eq!(vkey.parse::<Verifier>().unwrap_err().to_string(), expected);
    };
    check("", "`` is not a verifier key: expected `name+id+key`");
    check("name+c74f20a3", "`name+c74f20a3` is not a verifier key: expected `name+id+key`");
    check(
        &GO_VKEY.replace("PeterNeumann", "Peter Neumann"),
        "`Peter Neumann` is not the name of a key: expected text without spaces, `+` and control characters",
    );
    check(
        &GO_VKEY.replace("PeterNeumann", "PeterNeuman"),
        "the verifier key of `PeterNeuman` has id `c74f20a3`, but name and key make `94245f47`",
    );
    check(
        &GO_VKEY.replace("c74f20a3", "C74F20A3"),
        "the verifier key of `PeterNeumann` has id `C74F20A3`, but name and key make `c74f20a3`",
    );
    let not_ed25519 = "the verifier key of `PeterNeumann` is not an Ed25519 key: expected 33 bytes in base64, the first of them 1";
    check(
        &GO_VKEY.replace("+ARpc", "+AQpc"),
        "the verifier key of `PeterNeumann` has id `c74f20a3`, but name and key make `79286f8d`",
    );
    check(&GO_VKEY.replace("+ARpc", "+BRpc"), not_ed25519);
    check(&GO_VKEY.replace("10TW", "10T"), not_ed25519);
    check(&GO_VKEY.replace("10TW", ""), not_ed25519);
}

#[test]
fn a_seed_is_64_digits_and_stays_secret() {
    let text = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
    let seed: Seed = text.parse().unwrap();
    assert_eq!(format!("{seed:?}"), "Seed(..)");
    let printed = format!("{:?}", seed.signer("studio", "orbit/studio/1").unwrap());
    assert!(printed.starts_with("Signer(orbit/studio/1+"), "{printed}");
    for wrong in [
        "",
        &text[1..],
        &text[2..],
        &format!("{text}00"),
        &text.replace('0', "g"),
        &format!(" {}", &text[1..]),
    ] {
        let error = wrong.parse::<Seed>().unwrap_err();
        assert_eq!(error.to_string(), "not a seed: expected 64 hex digits");
    }
}

#[test]
fn keys_differ_by_seed_and_namespace_and_keep_through_origins() {
    let key = |seed: u8, namespace: &str, origin: &str| {
        Seed::new([seed; 32]).signer(namespace, origin).unwrap().verifier().clone()
    };
    let first = key(1, "studio", "orbit/studio/1");
    assert_eq!(first, key(1, "studio", "orbit/studio/1"));
    assert_ne!(first.key, key(2, "studio", "orbit/studio/1").key);
    assert_ne!(first.key, key(1, "other", "orbit/studio/1").key);
    let again = key(1, "studio", "orbit/studio/2");
    assert_eq!(first.key, again.key);
    assert_ne!(first.id, again.id);
    let error = Seed::new([1; 32]).signer("studio", "orbit/my studio/1").unwrap_err();
    assert_eq!(error, KeyError::Name { name: "orbit/my studio/1".to_owned() });
}

/// HKDF and Ed25519 keep their results for ever: a changed derivation would make every old log look forged.
#[test]
fn the_derivation_stays() {
    let signer = signer(7, "orbit/studio/0123456789abcdef");
    assert_eq!(
        signer.verifier().to_string(),
        "orbit/studio/0123456789abcdef+8cb5e42c+AaukUCiOMXVMgbgvsaQFhjIqKTiNyD1x16Repch7IV36"
    );
}
