//! `orbit gc --compact`: databases that nobody has open are written anew, without the space that they do not need.

use orbit_core::config::NamespaceName;
use orbit_engine::layout::Layout;
use orbit_store::sqlite::compact::{Compacted, compact as compact_database};
use serde_json::json;

use super::failure::Failure;
use super::output::{either, say};
use super::session::{has_files, is_home};
use crate::control::{HomeLock, LockError};
use crate::doctor::stores_of;
use crate::exit;
use crate::render::Terminal;
use crate::render::units::bytes;
use crate::stores::FileWork;

/// Compacts every database of the home, the node's own included, or that of one namespace. The home is held meanwhile.
pub async fn compact(
    layout: &Layout,
    named: Option<&str>,
    out: &Terminal,
    json: bool,
) -> Result<u8, Failure> {
    is_home(layout.home())?;
    has_files(layout, FileWork::Compact)?;
    let _lock = HomeLock::take(layout).map_err(|error| match error {
        held @ LockError::Held { .. } => Failure::failed(held.to_string())
            .hint("stop it first: a database is compacted only while nobody has it open"),
        error @ LockError::Io { .. } => error.into(),
    })?;
    let mut done = Vec::new();
    for name in chosen(layout, named)? {
        done.push((name.clone(), of_namespace(layout, name, out.progress).await?));
    }
    let items: Vec<_> = done
        .iter()
        .map(|(name, done)| {
            json!({ "namespace": name, "bytes_before": done.bytes_before, "bytes_after": done.bytes_after })
        })
        .collect();
    let told = |(name, done): &(NamespaceName, Compacted)| {
        format!("{name}: {}, before {}\n", bytes(done.bytes_after), bytes(done.bytes_before))
    };
    either(&json!({ "compacted": items }), json, |_| done.iter().map(told).collect())?;
    Ok(if done.is_empty() { exit::NOTHING } else { exit::SUCCEEDED })
}

fn chosen(layout: &Layout, named: Option<&str>) -> Result<Vec<NamespaceName>, Failure> {
    let mut all = stores_of(layout);
    let Some(named) = named else { return Ok(all) };
    all.retain(|name| name.as_str() == named);
    if all.is_empty() {
        return Err(Failure::usage(format!("namespace `{named}` has no database in this home")));
    }
    Ok(all)
}

async fn of_namespace(layout: &Layout, name: NamespaceName, progress: bool) -> Result<Compacted, Failure> {
    let (database, shown) = (layout.database(&name), name.to_string());
    let mut told = 0;
    let report = move |written: u64, of: u64| {
        // A line for each tenth, so that a log of them stays short.
        let tenth = written.saturating_mul(10) / of.max(1);
        if progress && tenth > told {
            told = tenth;
            say(&format!("  {shown}: {} of at most {} written", bytes(written), bytes(of)));
        }
    };
    let compacting = tokio::task::spawn_blocking(move || compact_database(&database, report));
    Ok(compacting.await.map_err(|error| Failure::failed(error.to_string()))??)
}
