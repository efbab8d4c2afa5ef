//! `orbit log`: the records of a namespace, and what lets others verify them.

mod checkpoint;
mod export;
mod prove;
mod tail;
mod verify;

use orbit_engine::layout::Layout;

use super::args::{Log, VerifyArgs};
use super::failure::Failure;
use crate::render::Terminal;

/// Everything but `verify`, which may not need a home.
pub async fn log(layout: &Layout, verb: &Log, out: &Terminal, json: bool) -> Result<u8, Failure> {
    match verb {
        Log::Tail(args) => tail::tail(layout, args, json).await,
        Log::Export(args) => export::export(layout, args, out).await,
        Log::Checkpoint(args) => checkpoint::checkpoint(layout, args, json).await,
        Log::Prove(args) => prove::prove(layout, args, json).await,
        Log::Verify(args) => verify(args, json),
    }
}

/// `orbit log verify`.
pub fn verify(args: &VerifyArgs, json: bool) -> Result<u8, Failure> {
    verify::proof(args, json)
}
