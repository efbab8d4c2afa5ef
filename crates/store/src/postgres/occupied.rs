//! Nodes that work on a database whose schema is to change: while there is one, it stays as it is.
//!
//! Whether a node of another schema could go on is nothing that a migration can know, so that none is left to try. A node joins, and renews its lease, by writing to `nodes`. The owner
//! has that table to itself from the look to the end of the transaction that migrates: no node joins in between, and one that waits to join finds the new schema and is refused
//! (see `node`). One that was cut off for longer than its lease finds it on the connection that it makes next (see `witness`), or with its next renewal.

use std::fmt::Write as _;

use tokio_postgres::Transaction;

use super::fault::{Attempt, Fault};

/// Nodes that are named; of more, the number.
const NAMED_MAX: usize = 8;
/// The oldest schema does not.
const KNOWS_NODES: &str = "SELECT to_regclass('nodes') IS NOT NULL";
/// Row-level security binds the owner too. Until the transaction ends it does not here, and nobody else may so much as read the table. It is waited for as long as nodes may wait
/// for their renewals without harm.
const OURS: &str = "SET LOCAL lock_timeout = '3s'; ALTER TABLE nodes NO FORCE ROW LEVEL SECURITY";
const OTHERS_TOO: &str = "ALTER TABLE nodes FORCE ROW LEVEL SECURITY";
/// By the clock by which leases are kept; whoever has none any more is no node, though nobody has taken it over yet.
const AT_WORK: &str = "SELECT node, max(version) AS version, count(*) AS namespaces, max(left_ms) AS lease_ms
    FROM (SELECT *, (expires_at - (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) / 1000 AS left_ms FROM nodes) AS known
    WHERE left_ms >= 0 GROUP BY node ORDER BY node";

/// A node whose lease lasts, in however many namespaces.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct AtWork {
    /// Its name.
    pub node: String,
    /// The version of its program.
    pub version: String,
    /// How many namespaces it works in.
    pub namespaces: i64,
    /// How long it is believed to be alive without another word of it, in milliseconds.
    pub lease_ms: i64,
}

/// All of them. Nobody joins until the transaction is over.
pub(super) async fn at_work(transaction: &Transaction<'_>) -> Attempt<Vec<AtWork>> {
    if !transaction.query_one(KNOWS_NODES, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    transaction.batch_execute(OURS).await?;
    let rows = transaction.query(AT_WORK, &[]).await?;
    transaction.batch_execute(OTHERS_TOO).await?;
    let read = |row: &tokio_postgres::Row| {
        Ok(AtWork {
            node: row.try_get("node")?,
            version: row.try_get("version")?,
            namespaces: row.try_get("namespaces")?,
            lease_ms: row.try_get("lease_ms")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Nobody works there, or the migration is refused.
pub(super) fn is_free(nodes: &[AtWork], schema: u32) -> Attempt<()> {
    if nodes.is_empty() {
        return Ok(());
    }
    Err(Fault::Refused(format!("its schema stays {schema} while nodes work with it: {}", named(nodes))))
}

/// The nodes, for people.
pub fn named(nodes: &[AtWork]) -> String {
    let mut text = String::new();
    for (number, one) in nodes.iter().take(NAMED_MAX).enumerate() {
        let (before, s) = (if number == 0 { "" } else { ", " }, if one.namespaces == 1 { "" } else { "s" });
        // Writing to a string cannot fail.
        _ = write!(
            text,
            "{before}`{}` (version {}, {} namespace{s}, its lease lasts {} s)",
            one.node,
            one.version,
            one.namespaces,
            one.lease_ms / 1000 + 1
        );
    }
    if nodes.len() > NAMED_MAX {
        _ = write!(text, ", and {} more", nodes.len() - NAMED_MAX);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_up_to_a_number() {
        let one = |number: usize| AtWork {
            node: format!("node-{number}"),
            version: "1.2.3".to_owned(),
            namespaces: 1 + i64::try_from(number).unwrap(),
            lease_ms: 11_900,
        };
        assert_eq!(
            named(&[one(0), one(1)]),
            "`node-0` (version 1.2.3, 1 namespace, its lease lasts 12 s), `node-1` (version 1.2.3, 2 namespaces, its lease lasts 12 s)"
        );
        let many: Vec<_> = (0..10).map(one).collect();
        assert!(named(&many).ends_with(", and 2 more"));
        assert!(is_free(&[], 2).is_ok() && is_free(&many, 2).is_err());
    }
}
