//! What verification does not hold against the log, and why: the one list of it.

/// Columns of the tables that are compared, which no record tells.
const UNTOLD: [(&str, &str, &str); 8] = [
    ("cycles", "ordinal", ORDINAL),
    ("cycles", "token", TOKEN),
    ("initiations", "ordinal", ORDINAL),
    ("runs", "ordinal", ORDINAL),
    ("runs", "token", TOKEN),
    ("deliveries", "ordinal", ORDINAL),
    ("deliveries", "token", TOKEN),
    ("notices", "ordinal", ORDINAL),
];

const ORDINAL: &str = "the database counts rows by it, on PostgreSQL with gaps and not in the order of the log, and it moves with the store; \
    of files that were never moved `doctor --rebuild` compares it";
const TOKEN: &str = "which claim is out: it makes nothing true, and a wrong one only loses the claim";

/// Tables of which nothing is compared here. All but the last three are derived: `doctor --rebuild` compares them.
const PASSED_OVER: [(&str, &str); 13] = [
    ("initiation_holds", "follow from `initiations`, and that from the log"),
    ("lanes", "only those that a run waits in, beside the run"),
    ("run_requests", "follow from `run_admitted`, in which requests are"),
    ("work_done", "what may be served again: every payload is held to its digest"),
    ("halts", "few, and shown to everybody"),
    ("processor_crashes", "counts that recovery may make anew"),
    ("schedule_cursors", "move without a record where nothing is decided"),
    ("notify_cursor", "moves without a record"),
    ("store", "who works on it, and the active snapshot"),
    ("nodes", "who works on it now"),
    ("migrations", "held against the binary when a store is opened"),
    ("sqlite_sequence", "the database's own"),
    ("sqlite_stat1", "the database's own"),
];

/// Tables that other checks hold to the log or to digests.
const CHECKED: [&str; 8] = [
    "log_records",
    "log_bodies",
    "log_nodes",
    "log_signers",
    "log_checkpoints",
    "log_tombstones",
    "snapshots",
    "payloads",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rusqlite::Connection;

    use super::super::cells::Table;
    use super::super::{cycles, endpoints, follow, notices, owed, run_row};
    use super::*;
    use crate::sqlite::migrate;

    fn names(connection: &Connection, sql: &str, of: &[&str]) -> BTreeSet<String> {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map(rusqlite::params_from_iter(of), |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// Whoever adds a column or a table says here why it is not compared, or compares it.
    #[test]
    fn every_column_is_compared_or_listed() {
        let connection = Connection::open_in_memory().unwrap();
        migrate::migrate(&connection, "memory").unwrap();
        let compared: [&Table; 8] = [
            &cycles::CYCLES,
            &cycles::INITIATIONS,
            &run_row::RUNS,
            &follow::STEPS,
            &owed::OF_RUN,
            &owed::ATTEMPTS,
            &notices::NOTICES,
            &endpoints::ENDPOINTS,
        ];
        for table in compared {
            let columns = names(&connection, "SELECT name FROM pragma_table_info(?1)", &[table.name]);
            let untold = UNTOLD.iter().filter(|(of, ..)| *of == table.name).map(|(_, column, _)| *column);
            // By what its rows are found.
            let key = match table.name {
                "steps" | "deliveries" => Some("run_id"),
                "attempts" => Some("delivery_id"),
                _ => None,
            };
            let known = table.columns.iter().copied().chain(untold).chain(key);
            assert_eq!(known.map(str::to_owned).collect::<BTreeSet<_>>(), columns, "`{}`", table.name);
        }
        let tables = names(&connection, "SELECT name FROM sqlite_schema WHERE type = 'table'", &[]);
        let known = compared.iter().map(|table| table.name);
        let known = known.chain(PASSED_OVER.iter().map(|(table, _)| *table)).chain(CHECKED);
        let known = known.map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(tables.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
    }
}
