//! What protects the log in a database, held against what the migrations make: a trigger that is gone or disabled protects nothing, and a table without
//! row-level security shows rows to everybody.

use std::collections::{BTreeMap, BTreeSet};

use orbit_core::record::audit::Fault;
use tokio_postgres::Row;

use super::fault::Attempt;
use super::migrate::MIGRATIONS;

/// The triggers that there have to be: by table and name, what their function does.
type Triggers = BTreeMap<(String, String), String>;

/// Triggers of all tables, whether each is enabled, and the text of its function.
pub(crate) const TRIGGERS: &str =
    "SELECT c.relname::text, t.tgname::text, t.tgenabled IN ('O', 'A'), p.prosrc
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::text::regnamespace ORDER BY 1, 2";
/// Tables and what row-level security does for them: whether it is enabled, forced, and by the policy of the migrations alone.
pub(crate) const TABLES: &str = "SELECT c.relname::text, c.relrowsecurity AND c.relforcerowsecurity, (
        SELECT count(*) = 1 AND bool_and(polname = 'own_namespace' AND polcmd = '*') FROM pg_policy WHERE polrelid = c.oid)
    FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::text::regnamespace AND c.relname <> 'migrations' ORDER BY 1";

/// What is missing, of the answers to [`TRIGGERS`] and [`TABLES`].
pub(crate) fn missing(triggers: &[Row], tables: &[Row]) -> Attempt<Vec<Fault>> {
    let expected = expected();
    let mut found = BTreeMap::new();
    for row in triggers {
        let (key, is_enabled): ((String, String), bool) =
            ((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?);
        found.insert(key, (is_enabled, row.try_get::<_, String>(3)?));
    }
    let mut faults = Vec::new();
    for ((table, name), source) in &expected {
        let difference = match found.get(&(table.clone(), name.clone())) {
            None => "is missing",
            Some((false, _)) => "is disabled",
            Some((true, found)) if found.trim() != source.trim() => "is not the one that the migrations make",
            Some((true, _)) => continue,
        };
        faults.push(Fault::of("pg_trigger", format!("`{name}` on `{table}`"), difference));
    }
    for (table, name) in found.keys().filter(|key| !expected.contains_key(*key)) {
        faults.push(Fault::of("pg_trigger", format!("`{name}` on `{table}`"), "was added"));
    }
    let made: BTreeSet<_> = MIGRATIONS.iter().flat_map(|sql| tables_in(sql)).collect();
    for row in tables {
        let (table, is_forced, is_ours): (String, bool, Option<bool>) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if !made.contains(table.as_str()) {
            faults.push(Fault::of("pg_class", format!("table `{table}`"), "was added"));
        } else if !is_forced || is_ours != Some(true) {
            let difference = "its row-level security is not the one that the migrations make";
            faults.push(Fault::of("pg_policy", format!("table `{table}`"), difference));
        }
    }
    Ok(faults)
}

fn tables_in(sql: &'static str) -> impl Iterator<Item = &'static str> {
    sql.lines().filter_map(|line| line.strip_prefix("CREATE TABLE ")?.split_whitespace().next())
}

/// What the migrations make, read out of their text: functions are `CREATE FUNCTION NAME() … AS $$ TEXT $$`, triggers a line each.
fn expected() -> Triggers {
    let (mut functions, mut triggers) = (BTreeMap::new(), Triggers::new());
    for sql in MIGRATIONS {
        for part in sql.split("CREATE FUNCTION ").skip(1) {
            let mut texts = part.split("$$");
            if let (Some((name, _)), Some(text)) = (part.split_once('('), texts.nth(1)) {
                functions.insert(name, text);
            }
        }
        for line in sql.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let after = |word: &str| {
                let place = words.iter().position(|found| *found == word)?;
                words.get(place + 1).map(|next| next.trim_end_matches([';', '(', ')']).to_owned())
            };
            if let (Some(name), Some(table), Some(function)) =
                (after("TRIGGER"), after("ON"), after("FUNCTION"))
            {
                let text = functions.get(function.as_str()).copied().unwrap_or_default();
                triggers.insert((table, name), text.to_owned());
            } else if line.starts_with("DROP TRIGGER ")
                && let (Some(name), Some(table)) = (after("TRIGGER"), after("ON"))
            {
                triggers.remove(&(table, name));
            }
        }
    }
    triggers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_migrations_are_understood() {
        let triggers = expected();
        let text = |table: &str, name: &str| triggers[&(table.to_owned(), name.to_owned())].clone();
        assert!(text("log_records", "log_records_no_update").contains("is append-only"));
        assert!(text("log_bodies", "log_bodies_no_delete").contains("only evidence with a tombstone"));
        assert!(triggers.values().all(|text| text.contains("RAISE EXCEPTION")), "{triggers:?}");
        for table in
            ["log_records", "log_bodies", "log_nodes", "log_signers", "log_checkpoints", "log_tombstones"]
        {
            assert!(triggers.keys().filter(|(of, _)| of == table).count() >= 2, "{table}");
        }
    }
}
