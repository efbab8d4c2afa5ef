//! `orbit log`: the records of a namespace, and what lets others verify them.

mod checkpoint;
mod export;
mod prove;
mod tail;
mod verify;
mod whole;

use orbit_engine::layout::Layout;

use super::args::{Log, VerifyArgs};
use super::failure::Failure;
use crate::render::Terminal;

/// Everything but the proof of one record, which needs no home.
pub async fn log(layout: &Layout, verb: &Log, out: &Terminal, json: bool) -> Result<u8, Failure> {
    match verb {
        Log::Tail(args) => tail::tail(layout, args, json).await,
        Log::Export(args) => export::export(layout, args, out).await,
        Log::Checkpoint(args) => checkpoint::checkpoint(layout, args, json).await,
        Log::Prove(args) => prove::prove(layout, args, json).await,
        Log::Verify(args) => {
            let VerifyArgs { namespace, against, key, .. } = args;
            let what = whole::Whole {
                namespace: namespace.as_deref(),
                against: against.as_deref(),
                key: key.as_deref(),
            };
            whole::whole(layout, &what, out, json).await
        }
    }
}

/// `orbit log verify --proof`.
pub fn verify(args: &VerifyArgs, json: bool) -> Result<u8, Failure> {
    verify::proof(args, json)
}
