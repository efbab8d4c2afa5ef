//! Where a payload is cheaper: in the store, or as a file. Several are kept at once, as in an engine at work; the answer is the time of the file
//! against that of the store, for sizes around [`orbit_store::payloads::INLINE_BYTES_MAX`].

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use orbit_core::config::NamespaceName;
use orbit_core::digest::Digest;
use orbit_engine::clock::{Clock as _, SystemClock};
use orbit_store::blobs::FolderBlobs;
use orbit_store::contract::payload::{NewPayload, PayloadStore as _};
use orbit_store::sqlite::SqliteStore;

use crate::Effort;
use crate::payload::fill;
use crate::report::{Better, Measured, Report, bar, median, milliseconds};

/// Sizes that are tried, in KiB.
const SIZES_KIB: [usize; 7] = [4, 16, 64, 128, 256, 1024, 4096];
/// Payloads that are kept at once.
const AT_ONCE: usize = 16;

pub(crate) async fn measure(folder: &Path, effort: &Effort, report: &mut Report) -> anyhow::Result<()> {
    let rounds = effort.repeats * 5;
    let bar = bar("threshold", SIZES_KIB.len() * rounds);
    for kib in SIZES_KIB {
        let place = tempfile::tempdir_in(folder)?;
        let name = NamespaceName::parse("bench")?;
        let store = Arc::new(SqliteStore::open(&place.path().join("orbit.db"), &name)?);
        let blobs = Arc::new(FolderBlobs::open(&place.path().join("blobs"))?);
        let (mut inline, mut file) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            for (times, in_store) in [(&mut inline, true), (&mut file, false)] {
                let seed = Digest::of(format!("{round} {in_store}").as_bytes());
                let content: Vec<Bytes> = (0..AT_ONCE)
                    .map(|n| {
                        fill(&Digest::of(&[seed.0[0], seed.0[1], u8::try_from(n).unwrap_or(0)]), kib * 1024)
                            .into()
                    })
                    .collect();
                let began = Instant::now();
                let mut tasks = tokio::task::JoinSet::new();
                for content in content {
                    let (store, blobs) = (Arc::clone(&store), Arc::clone(&blobs));
                    tasks.spawn(async move {
                        let (digest, bytes) = (Digest::of(&content), content.len() as u64);
                        let kept = if in_store {
                            Some(content)
                        } else {
                            tokio::task::spawn_blocking(move || blobs.put_bytes(&content)).await??;
                            None
                        };
                        store
                            .keep_payload(NewPayload { digest, bytes, content: kept }, SystemClock.now())
                            .await?;
                        anyhow::Ok(())
                    });
                }
                while let Some(done) = tasks.join_next().await {
                    done??;
                }
                times.push(milliseconds(began.elapsed()));
            }
            bar.inc(1);
        }
        let measured = Measured::against(median(&inline), "ms", median(&file), (1.0, Better::Lower)).told();
        report.add(&format!("payloads_in_store_{kib}_kib"), measured);
    }
    bar.finish_and_clear();
    Ok(())
}
