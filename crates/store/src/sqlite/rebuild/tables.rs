//! The derived tables: temporary ones of the same names, the comparison, and the replacement of what differs.

use rusqlite::{Connection, params};

use super::super::columns::Length;
use super::super::fault::Attempt;
use crate::contract::rebuild::TableFound;

/// A derived table.
struct Table {
    name: &'static str,
    /// The columns that say which rows are the same one.
    key: &'static [&'static str],
    /// Columns that hold JSON: another spelling of a number is no difference.
    json: &'static [&'static str],
    /// Columns that the log does not tell, and that a new row is given by the database.
    untold: &'static [&'static str],
}

const fn table(name: &'static str, key: &'static [&'static str], json: &'static [&'static str]) -> Table {
    Table { name, key, json, untold: &[] }
}

/// Those that others refer to come first.
const TABLES: [Table; 17] = [
    table("store", &["one"], &[]),
    table("schedule_cursors", &["run_profile_id"], &["open_decisions"]),
    table("cycles", &["cycle_id"], &["preset"]),
    table("initiations", &["initiation_id"], &["metadata", "release_on"]),
    table("initiation_holds", &["scope", "hash"], &[]),
    table("lanes", &["lane"], &[]),
    table("runs", &["run_id"], &["state_json"]),
    table("run_requests", &["run_id"], &["request", "lanes"]),
    table("steps", &["run_id", "place"], &[]),
    table("work_done", &["key"], &[]),
    table("notify_cursor", &["one"], &[]),
    // In which order notices began to gather matters to nobody once they are owed.
    Table { name: "notices", key: &["notice_id"], json: &["examples"], untold: &["ordinal"] },
    table("deliveries", &["delivery_id"], &[]),
    table("attempts", &["delivery_id", "attempt"], &["receipt"]),
    table("endpoints", &["endpoint"], &["health"]),
    table("halts", &["ordinal"], &[]),
    table("processor_crashes", &["processor", "settings"], &[]),
];

/// What the fold itself searches by, besides keys.
const INDEXES: [&str; 3] = ["initiations_held", "deliveries_of_run", "notices_gathering"];

/// Snapshots are not derived; derived rows refer to them.
const SNAPSHOTS: &str = "snapshots";

/// There are empty temporary tables of the same names and shapes; names without a schema mean them until they are dropped.
pub(super) fn make_temporary(tx: &Connection) -> Attempt<()> {
    let names = [SNAPSHOTS].into_iter().chain(TABLES.iter().map(|table| table.name)).chain(INDEXES);
    for name in names {
        let sql = "SELECT sql FROM main.sqlite_schema WHERE name = ?1";
        let sql: String = tx.query_row(sql, [name], |row| row.get(0))?;
        let sql = ["CREATE TABLE ", "CREATE UNIQUE INDEX ", "CREATE INDEX "]
            .into_iter()
            .find_map(|begin| sql.strip_prefix(begin).map(|rest| format!("{begin}temp.{rest}")));
        tx.execute_batch(&sql.unwrap_or_default())?;
    }
    tx.execute_batch(
        "INSERT INTO temp.snapshots SELECT * FROM main.snapshots;
        INSERT INTO temp.store SELECT * FROM main.store;
        UPDATE temp.store SET active_snapshot = NULL;",
    )?;
    Ok(())
}

/// Names mean the tables of the store again.
pub(super) fn drop_temporary(tx: &Connection) -> Attempt<()> {
    for table in TABLES.iter().rev() {
        tx.execute_batch(&format!("DROP TABLE temp.{}", table.name))?;
    }
    tx.execute_batch(&format!("DROP TABLE temp.{SNAPSHOTS}"))?;
    Ok(())
}

impl Table {
    /// Its columns, without those that the log does not tell.
    fn columns(&self, tx: &Connection) -> Attempt<Vec<String>> {
        let mut statement = tx.prepare("SELECT name FROM pragma_table_info(?1, 'main')")?;
        let names = statement.query_map(params![self.name], |row| row.get::<_, String>(0))?;
        let names = names.collect::<Result<Vec<_>, _>>()?;
        Ok(names.into_iter().filter(|name| !self.untold.contains(&name.as_str())).collect())
    }

    /// SQL that is true of a row `m` of the store and a row `t` of the fold that are the same one.
    fn is_same(&self) -> String {
        let same = self.key.iter().map(|column| format!("m.\"{column}\" = t.\"{column}\""));
        same.collect::<Vec<_>>().join(" AND ")
    }

    /// SQL that is true of two such rows that are equal.
    fn is_equal(&self, columns: &[String]) -> String {
        let equal = columns.iter().map(|column| {
            let (m, t) = (format!("m.\"{column}\""), format!("t.\"{column}\""));
            if self.json.contains(&column.as_str()) {
                format!("({m} IS {t} OR canonical({m}) IS canonical({t}))")
            } else {
                format!("{m} IS {t}")
            }
        });
        equal.collect::<Vec<_>>().join(" AND ")
    }

    fn compare(&self, tx: &Connection) -> Attempt<TableFound> {
        let (name, same) = (self.name, self.is_same());
        let equal = self.is_equal(&self.columns(tx)?);
        let count = |sql: String| -> Attempt<u64> {
            Ok(tx.query_row(&format!("SELECT count(*) FROM {sql}"), (), |row| row.get::<_, Length>(0))?.0)
        };
        Ok(TableFound {
            table: name,
            rows: count(format!("temp.{name}"))?,
            missing: count(format!(
                "temp.{name} t WHERE NOT EXISTS (SELECT 1 FROM main.{name} m WHERE {same})"
            ))?,
            changed: count(format!("temp.{name} t CROSS JOIN main.{name} m ON {same} WHERE NOT ({equal})"))?,
            unknown: count(format!(
                "main.{name} m WHERE NOT EXISTS (SELECT 1 FROM temp.{name} t WHERE {same})"
            ))?,
        })
    }

    fn apply(&self, tx: &Connection) -> Attempt<()> {
        let (name, same, columns) = (self.name, self.is_same(), self.columns(tx)?);
        let equal = self.is_equal(&columns);
        // First all that differ leave, so that none stands in the way of one that comes.
        tx.execute_batch(&format!(
            "DELETE FROM main.{name} AS m WHERE NOT EXISTS (SELECT 1 FROM temp.{name} t WHERE {same} AND {equal})"
        ))?;
        let list = columns.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ");
        tx.execute_batch(&format!(
            "INSERT INTO main.{name} ({list}) SELECT {list} FROM temp.{name} t
            WHERE NOT EXISTS (SELECT 1 FROM main.{name} m WHERE {same})"
        ))?;
        Ok(())
    }
}

/// How the rows of the store differ from those of the fold.
pub(super) fn compare(tx: &Connection) -> Attempt<Vec<TableFound>> {
    TABLES.iter().map(|table| table.compare(tx)).collect()
}

/// The rows of the store are those of the fold; those that are equal are not written.
pub(super) fn apply(tx: &Connection, found: &[TableFound]) -> Attempt<()> {
    // A row leaves and comes back while others refer to it.
    tx.pragma_update(None, "defer_foreign_keys", true)?;
    for (table, found) in TABLES.iter().zip(found) {
        if found.differing() > 0 {
            table.apply(tx)?;
        }
    }
    Ok(())
}
