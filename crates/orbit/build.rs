//! How the binary is linked: addresses that the loader puts in are packed, where it can unpack them. It reads them at every start, which is one for each
//! attempt of a program too, and they stay in memory: a megabyte, and packed twelve KiB.

use std::env;
use std::process::Command;

/// The first GNU C library that unpacks them (its release notes, "`DT_RELR`").
const UNPACKS_SINCE: (u32, u32) = (2, 36);

#[expect(clippy::disallowed_methods, reason = "what Cargo tells a build script stands in the environment")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let var = |name| env::var(name).unwrap_or_default();
    // What another machine has is not known; nor is that of another library.
    let is_of_here = var("HOST") == var("TARGET") && var("CARGO_CFG_TARGET_ENV") == "gnu";
    if is_of_here
        && var("CARGO_CFG_TARGET_OS") == "linux"
        && library().is_some_and(|found| found >= UNPACKS_SINCE)
    {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's GNU C library.
#[expect(clippy::disallowed_methods, reason = "a build has no supervisor")]
fn library() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let told = String::from_utf8(told.stdout).ok()?;
    let (major, minor) = told.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
