//! `orbit config`: what can be said.

use clap::Subcommand;
use orbit_core::digest::Digest;

use super::PageArgs;

/// `orbit config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// List every activation of a snapshot, newest first
    History(PageArgs),
    /// Show a snapshot with every default filled in
    Show {
        /// `sha256:` and 64 hex digits; the active one if nothing is said
        digest: Option<Digest>,
        /// The namespace; needed if the home has several
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// Name what is different in the documents of the home from what is active
    Diff {
        /// Only this namespace
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// Check the documents of the home and activate them, on every node
    ///
    /// They take the place of the snapshot that they come from: the last one that they were equal to. If another one is active, somebody else has changed something,
    /// and nothing is done. With files there is no need for this: a change is active as soon as it is noticed
    Apply {
        /// Only this namespace
        #[arg(short, long)]
        namespace: Option<String>,
        /// The snapshot whose place they take, instead of the one that they come from
        #[arg(long, value_name = "DIGEST")]
        expect: Option<Digest>,
    },
}
