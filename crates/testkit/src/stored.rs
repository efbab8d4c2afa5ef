//! The log of a world as it lies in the database, read past the store.

use std::collections::BTreeMap;
use std::path::Path;

use crate::backend::Place;
use crate::cluster::connect;
use crate::world::namespace;

const RECORDS: &str = "SELECT r.position, r.header, b.body, r.leaf FROM log_records r LEFT JOIN log_bodies b";
const NODES: &str = "SELECT level, idx, hash FROM log_nodes";

/// See the module.
#[derive(Debug, Default)]
pub struct Stored {
    /// Position, header, body and leaf, in order.
    pub records: Vec<(i64, String, Option<String>, Vec<u8>)>,
    /// Nodes of the tree by level and index.
    pub nodes: BTreeMap<(i64, i64), Vec<u8>>,
    /// What the database says is wrong with itself.
    pub damage: Vec<String>,
}

/// Reads all of it.
pub async fn read(place: &Place) -> Stored {
    match place {
        Place::File(file) => of_file(file),
        Place::Database { owner, .. } => of_database(owner).await,
    }
}

fn of_file(file: &Path) -> Stored {
    let mut stored = Stored::default();
    let connection = rusqlite::Connection::open(file).unwrap();
    let integrity: String = connection.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    if integrity != "ok" {
        stored.damage.push(format!("the database is damaged: {integrity}"));
    }
    let sql = format!("{RECORDS} ON b.position = r.position ORDER BY r.position");
    let mut statement = connection.prepare(&sql).unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    stored.records = statement.query_map((), row).unwrap().map(Result::unwrap).collect();
    let mut statement = connection.prepare(NODES).unwrap();
    let nodes = statement.query_map((), |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?))).unwrap();
    stored.nodes = nodes.map(Result::unwrap).collect();
    stored
}

async fn of_database(owner: &str) -> Stored {
    let client = connect(owner).await;
    let sql = format!(
        "{RECORDS} ON b.namespace = r.namespace AND b.position = r.position WHERE r.namespace = $1 ORDER BY r.position"
    );
    let name = namespace();
    let rows = client.query(&sql, &[&name.as_str()]).await.unwrap();
    let records = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    let rows = client.query(&format!("{NODES} WHERE namespace = $1"), &[&name.as_str()]).await.unwrap();
    let nodes = rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
    // What is still without a position is given one when the log is read next, and nobody was told of it by position.
    Stored { records, nodes, damage: Vec::new() }
}
