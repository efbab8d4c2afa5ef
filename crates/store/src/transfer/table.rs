//! What is moved: every table, in an order in which each comes after those that it refers to.

/// A table and the columns that its rows are ordered by; they tell its rows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) key: &'static [&'static str],
    /// Whether its key is given by the database.
    pub(super) counted: bool,
}

const fn keyed(name: &'static str, key: &'static [&'static str]) -> Table {
    Table { name, key, counted: false }
}

const fn counted(name: &'static str, key: &'static [&'static str]) -> Table {
    Table { name, key, counted: true }
}

/// See the module. `store` is not among them: it says whether the others are whole.
pub(super) const TABLES: [Table; 24] = [
    keyed("log_records", &["position"]),
    keyed("log_bodies", &["position"]),
    keyed("log_tombstones", &["position"]),
    keyed("log_nodes", &["level", "idx"]),
    keyed("log_signers", &["number"]),
    keyed("log_checkpoints", &["number"]),
    keyed("snapshots", &["digest"]),
    keyed("schedule_cursors", &["run_profile_id"]),
    counted("cycles", &["ordinal"]),
    counted("initiations", &["ordinal"]),
    keyed("initiation_holds", &["scope", "hash"]),
    counted("lanes", &["lane"]),
    counted("runs", &["ordinal"]),
    keyed("run_requests", &["run_id"]),
    keyed("steps", &["run_id", "place"]),
    keyed("work_done", &["key"]),
    counted("notices", &["ordinal"]),
    counted("deliveries", &["ordinal"]),
    keyed("attempts", &["delivery_id", "attempt"]),
    keyed("endpoints", &["endpoint"]),
    keyed("notify_cursor", &["position"]),
    counted("halts", &["ordinal"]),
    keyed("processor_crashes", &["processor", "settings"]),
    keyed("payloads", &["digest"]),
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::sqlite::SqliteStore;

    /// What is not moved: the store's own row, which is written last; what the backend remembers of itself.
    const STAYS: [&str; 2] = ["store", "migrations"];

    fn schema() -> (tempfile::TempDir, rusqlite::Connection) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("orbit.db");
        SqliteStore::open(&file, &orbit_core::config::NamespaceName::system()).unwrap();
        (folder, rusqlite::Connection::open(&file).unwrap())
    }

    #[test]
    fn every_table_is_moved_after_those_it_refers_to() {
        let (_folder, connection) = schema();
        let names =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        let mut statement = connection.prepare(names).unwrap();
        let there: BTreeSet<String> =
            statement.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        let moved = TABLES.map(|table| table.name.to_owned());
        let listed: BTreeSet<String> = moved.iter().cloned().chain(STAYS.map(str::to_owned)).collect();
        assert_eq!(listed, there);
        let place: BTreeMap<_, _> = moved.iter().zip(0..).collect();
        for table in &moved {
            let sql = "SELECT DISTINCT \"table\" FROM pragma_foreign_key_list(?1)";
            let mut statement = connection.prepare(sql).unwrap();
            for other in statement.query_map([table], |row| row.get::<_, String>(0)).unwrap() {
                let other = other.unwrap();
                assert!(place[&other] < place[table], "{table} refers to {other}");
            }
        }
    }

    #[test]
    fn rows_are_told_apart_by_their_key() {
        let (_folder, connection) = schema();
        for table in TABLES.iter().filter(|table| table.name != "notify_cursor") {
            let key: BTreeSet<_> = table.key.iter().map(|&column| column.to_owned()).collect();
            let sql = "SELECT name FROM pragma_index_list(?1) WHERE \"unique\" AND NOT partial";
            let mut indexes = connection.prepare(sql).unwrap();
            let mut keys: Vec<BTreeSet<String>> = Vec::new();
            for index in indexes.query_map([table.name], |row| row.get::<_, String>(0)).unwrap() {
                let mut columns = connection.prepare("SELECT name FROM pragma_index_info(?1)").unwrap();
                let columns = columns.query_map([index.unwrap()], |row| row.get(0)).unwrap();
                keys.push(columns.map(Result::unwrap).collect());
            }
            let mut primary =
                connection.prepare("SELECT name FROM pragma_table_info(?1) WHERE pk > 0").unwrap();
            keys.push(
                primary.query_map([table.name], |row| row.get(0)).unwrap().map(Result::unwrap).collect(),
            );
            assert!(keys.contains(&key), "{}: {keys:?}", table.name);
        }
    }
}
