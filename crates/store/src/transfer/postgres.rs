//! The rows of a namespace in a database.

use std::time::Duration;

use deadpool_postgres::Object;
use orbit_core::config::NamespaceName;
use orbit_core::record::{Sealed, audit};
use tokio_postgres::types::{ToSql, Type};

use super::side::{Standing, Which};
use super::table::{TABLES, Table};
use super::value::{Row, Value};
use super::{PAGE_BYTES_MAX, PAGE_ROWS_MAX, TransferError};
use crate::StoreError;
use crate::postgres::protections::{self, missing};
use crate::postgres::{Attempt, Fault, WRITERS, owner_session, position_everything};

/// The first key of the advisory locks of moves; the second one is a hash of the namespace.
const HOLD: i32 = 0x6f72_626d;
/// How often the lock is asked for.
const HOLD_TRIES: u32 = 200;
/// The pause between two tries. All of them together are longer than a server takes to see that a client is gone ([`owner_session`]).
const HOLD_PAUSE: Duration = Duration::from_millis(50);

/// See the module.
pub(super) struct Namespace {
    session: Object,
    name: String,
    place: String,
}

/// A record that has no position yet.
pub(super) struct Pending {
    pub(super) seq: i64,
    pub(super) header: String,
    pub(super) body: String,
    pub(super) salt: Option<Vec<u8>>,
}

/// A column of many rows, as one parameter.
enum Column {
    Integers(Vec<Option<i64>>),
    Reals(Vec<Option<f64>>),
    Texts(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
    Truths(Vec<Option<bool>>),
}

impl Namespace {
    /// Opens it by the role that owns the tables, with the newest schema. No node may serve it.
    pub(super) async fn open(config: &str, namespace: &NamespaceName) -> Result<Self, StoreError> {
        crate::postgres::migrate(config).await?;
        let (session, place) = owner_session(config, namespace).await?;
        let opened = Self { session, name: namespace.to_string(), place };
        let mine = "INSERT INTO store (namespace) VALUES ($1) ON CONFLICT DO NOTHING";
        opened.execute(mine, &[&opened.name]).await.map_err(|fault| fault.at(&opened.place))?;
        Ok(opened)
    }

    /// The rows as this session sees them.
    pub(super) const fn over(session: Object, name: String, place: String) -> Self {
        Self { session, name, place }
    }

    /// The node that works here, if one does.
    pub(super) async fn worker(&self) -> Result<Option<String>, StoreError> {
        let sql = "SELECT node FROM nodes WHERE namespace = $1 AND expires_at > extract(epoch FROM now()) * 1000000 LIMIT 1";
        self.with(async {
            let row = self.session.query_opt(sql, &[&self.name]).await?;
            Ok(row.map(|row| row.try_get(0)).transpose()?)
        })
        .await
    }

    /// Statements without parameters or answers.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), StoreError> {
        self.with(async { Ok(self.session.batch_execute(sql).await?) }).await
    }

    /// Records that are durable and have no position yet, in their order: header, body and salt.
    pub(super) async fn pending(&self, after: i64) -> Result<Vec<Pending>, StoreError> {
        let sql = format!(
            "SELECT seq, header, body, salt FROM log_pending WHERE namespace = $1 AND seq > $2 ORDER BY seq LIMIT {PAGE_ROWS_MAX}"
        );
        self.with(async {
            let rows = self.session.query(&sql, &[&self.name, &after]).await?;
            let read = |row: &tokio_postgres::Row| -> Attempt<Pending> {
                let (header, body) = (row.try_get("header")?, row.try_get("body")?);
                Ok(Pending { seq: row.try_get("seq")?, header, body, salt: row.try_get("salt")? })
            };
            rows.iter().map(read).collect()
        })
        .await
    }

    /// What protects the log and is not there.
    pub(super) async fn unprotected(&self) -> Result<Vec<audit::Fault>, StoreError> {
        self.with(async {
            let triggers = self.session.query(protections::TRIGGERS, &[]).await?;
            let tables = self.session.query(protections::TABLES, &[]).await?;
            missing(&triggers, &tables)
        })
        .await
    }

    /// Whether there is a store of this namespace. The database must have been migrated.
    pub(super) async fn is_there(config: &str, namespace: &NamespaceName) -> Result<bool, StoreError> {
        let (session, place) = owner_session(config, namespace).await?;
        let sql = "SELECT EXISTS (SELECT 1 FROM store WHERE namespace = $1)";
        let asked =
            async { Attempt::Ok(session.query_one(sql, &[&namespace.to_string()]).await?.try_get(0)?) };
        asked.await.map_err(|fault| fault.at(&place))
    }

    /// Nobody else moves it for as long as this session lasts. One that was killed ends once the server has seen that nobody listens any more.
    pub(super) async fn hold(&self) -> Result<(), TransferError> {
        let sql = "SELECT pg_try_advisory_lock($1, hashtext($2))";
        for _ in 0..HOLD_TRIES {
            let held = async { Ok(self.session.query_one(sql, &[&HOLD, &self.name]).await?.try_get(0)?) };
            if self.with(held).await? {
                return Ok(());
            }
            tokio::time::sleep(HOLD_PAUSE).await;
        }
        Err(TransferError::Moving { place: self.place.clone() })
    }

    /// Nobody works here, and every record has its position: what is moved is a log, not what waits to be one.
    pub(super) async fn settle(&self, config: &str, namespace: &NamespaceName) -> Result<(), TransferError> {
        if let Some(node) = self.worker().await? {
            return Err(TransferError::Worked { place: self.place.clone(), node });
        }
        Ok(position_everything(config, namespace).await?)
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) async fn columns(&self, table: Table) -> Result<Vec<String>, StoreError> {
        Ok(self.kinds(table).await?.into_iter().map(|(name, _)| name).collect())
    }

    /// Columns and the names of their types, by name.
    async fn kinds(&self, table: Table) -> Result<Vec<(String, String)>, StoreError> {
        let sql = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute
            WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attname <> 'namespace'
            ORDER BY attname::text COLLATE \"C\"";
        self.with(async {
            let rows = self.session.query(sql, &[&table.name]).await?;
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
        })
        .await
    }

    pub(super) async fn count(&self, table: Table) -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM {} WHERE namespace = $1", table.name);
        self.with(async {
            let row = self.session.query_one(&sql, &[&self.name]).await?;
            Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
        })
        .await
    }

    pub(super) async fn page(
        &self,
        table: Table,
        columns: &[String],
        which: &Which,
    ) -> Result<Vec<Row>, StoreError> {
        let key = table.key.join(", ");
        let bound = which.bound().map(|(is, values)| {
            let places: Vec<_> = (2..values.len() + 2).map(|number| format!("${number}")).collect();
            format!("AND ({key}) {is} ({})", places.join(", "))
        });
        let sql = format!(
            "SELECT {} FROM {} WHERE namespace = $1 {} ORDER BY {key} LIMIT {PAGE_ROWS_MAX}",
            columns.join(", "),
            table.name,
            bound.unwrap_or_default()
        );
        self.with(async {
            let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.name];
            for value in which.bound().into_iter().flat_map(|(_, key)| key) {
                parameters.push(match value {
                    Value::Integer(number) => number,
                    Value::Text(text) => text,
                    Value::Null | Value::Real(_) | Value::Bytes(_) => {
                        return Err(Fault::contradiction("a key that is neither a number nor a text"));
                    }
                });
            }
            let found = self.session.query(&sql, &parameters).await?;
            let (mut page, mut bytes) = (Vec::new(), 0);
            for row in &found {
                let values = values(row)?;
                bytes += values.iter().map(Value::bytes).sum::<usize>();
                page.push(values);
                if bytes >= PAGE_BYTES_MAX {
                    break;
                }
            }
            Ok(page)
        })
        .await
    }

    pub(super) async fn last(&self, table: Table, columns: &[String]) -> Result<Option<Row>, StoreError> {
        let order: Vec<_> = table.key.iter().map(|column| format!("{column} DESC")).collect();
        let sql = format!(
            "SELECT {} FROM {} WHERE namespace = $1 ORDER BY {} LIMIT 1",
            columns.join(", "),
            table.name,
            order.join(", ")
        );
        self.with(async {
            let row = self.session.query_opt(&sql, &[&self.name]).await?;
            row.as_ref().map(values).transpose()
        })
        .await
    }

    pub(super) async fn insert(
        &self,
        table: Table,
        columns: &[String],
        rows: &[Row],
    ) -> Result<(), StoreError> {
        let names = columns.join(", ");
        let sql = |arrays: &str| {
            format!(
                "INSERT INTO {} (namespace, {names}) OVERRIDING SYSTEM VALUE
                    SELECT $1, {names} FROM unnest({arrays}) WITH ORDINALITY AS given ({names}, nth) ORDER BY nth",
                table.name
            )
        };
        self.given(table, columns, rows, sql).await
    }

    /// Nobody changes anything here for as long as this session lasts, but for giving positions.
    pub(super) async fn hold_writers(&self) -> Result<(), StoreError> {
        let hold = format!("SELECT pg_advisory_lock({WRITERS}, hashtext('{}'))", self.name);
        self.batch(&hold).await
    }

    /// Rows that are there are as these, but for their numbers, which the database gives once.
    pub(super) async fn change(
        &self,
        table: Table,
        columns: &[String],
        rows: &[Row],
    ) -> Result<(), StoreError> {
        let is_set = |column: &&String| !table.key.contains(&column.as_str()) && *column != "ordinal";
        let set: Vec<_> =
            columns.iter().filter(is_set).map(|column| format!("{column} = given.{column}")).collect();
        if rows.is_empty() || set.is_empty() {
            return Ok(());
        }
        let begin = format!("UPDATE {} SET {}", table.name, set.join(", "));
        self.each_given(table, columns, rows, &format!("{begin} FROM")).await
    }

    /// Rows with these keys are gone.
    pub(super) async fn remove(&self, table: Table, keys: &[Row]) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let columns: Vec<_> = table.key.iter().map(|&column| column.to_owned()).collect();
        self.each_given(table, &columns, keys, &format!("DELETE FROM {} USING", table.name)).await
    }

    /// A statement about the rows whose keys are among these, as it begins.
    async fn each_given(
        &self,
        table: Table,
        columns: &[String],
        rows: &[Row],
        begin: &str,
    ) -> Result<(), StoreError> {
        let (name, names) = (table.name, columns.join(", "));
        let same: Vec<_> =
            table.key.iter().map(|column| format!("{name}.{column} = given.{column}")).collect();
        let sql = |arrays: &str| {
            format!(
                "{begin} unnest({arrays}) AS given ({names}) WHERE {name}.namespace = $1 AND {}",
                same.join(" AND ")
            )
        };
        self.given(table, columns, rows, sql).await
    }

    /// A statement that is given these rows as arrays, one for each column.
    async fn given(
        &self,
        table: Table,
        columns: &[String],
        rows: &[Row],
        sql: impl FnOnce(&str) -> String,
    ) -> Result<(), StoreError> {
        let kinds = self.kinds(table).await?;
        self.with(async {
            let filled = filled(&kinds, columns, rows)?;
            let arrays: Vec<_> =
                filled.iter().zip(2..).map(|((kind, _), number)| format!("${number}::{kind}[]")).collect();
            let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.name];
            parameters.extend(filled.iter().map(|(_, column)| column.parameter()));
            let statement = self.session.prepare_cached(&sql(&arrays.join(", "))).await?;
            self.session.execute(&statement, &parameters).await?;
            Ok(())
        })
        .await
    }

    /// Adds a record, which gets its position after all that wait for theirs.
    pub(super) async fn add(&self, record: Sealed) -> Result<(), StoreError> {
        let sql = "INSERT INTO log_pending (namespace, header, body, salt) VALUES ($1, $2, $3, $4)";
        let salt = record.salt.map(|salt| salt.to_vec());
        self.with(self.execute(sql, &[&self.name, &record.header, &record.body, &salt])).await
    }

    pub(super) async fn standing(&self) -> Result<Standing, StoreError> {
        let sql = "SELECT moved, epoch, active_snapshot, restored_at FROM store WHERE namespace = $1";
        self.with(async {
            let row = self.session.query_one(sql, &[&self.name]).await?;
            Ok(Standing {
                moved: row.try_get(0)?,
                epoch: row.try_get(1)?,
                active_snapshot: row.try_get(2)?,
                restored_at: row.try_get(3)?,
            })
        })
        .await
    }

    /// Says how the store stands; and that the database gives no number again that a row has.
    pub(super) async fn stand(&self, standing: &Standing) -> Result<(), StoreError> {
        let sql = "UPDATE store SET moved = $2, epoch = $3, active_snapshot = $4, restored_at = $5 WHERE namespace = $1";
        self.with(async {
            for table in TABLES.iter().filter(|table| table.counted) {
                let (name, key) = (table.name, table.key.join(", "));
                // Another namespace may be further.
                let raise = format!(
                    "SELECT setval(pg_get_serial_sequence('{name}', '{key}'), greatest(
                        (SELECT last_value FROM pg_sequences WHERE schemaname = current_schema()
                            AND quote_ident(schemaname) || '.' || quote_ident(sequencename) = pg_get_serial_sequence('{name}', '{key}')),
                        (SELECT max({key}) FROM {name} WHERE namespace = $1), 1))"
                );
                self.session.query(&raise, &[&self.name]).await?;
            }
            let Standing { moved, epoch, active_snapshot, restored_at } = standing;
            self.execute(sql, &[&self.name, moved, epoch, active_snapshot, restored_at]).await
        })
        .await
    }

    async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Attempt<()> {
        self.session.execute(sql, parameters).await?;
        Ok(())
    }

    async fn with<T>(&self, work: impl Future<Output = Attempt<T>>) -> Result<T, StoreError> {
        work.await.map_err(|fault| fault.at(&self.place))
    }
}

/// The columns of these rows, each with the name of its type.
fn filled<'a>(
    kinds: &'a [(String, String)],
    columns: &[String],
    rows: &[Row],
) -> Attempt<Vec<(&'a str, Column)>> {
    let mut filled = Vec::new();
    for (place, column) in columns.iter().enumerate() {
        let kind = kinds.iter().find(|(name, _)| name == column).map(|(_, kind)| kind.as_str());
        let values = rows.iter().map(|row| row.get(place));
        filled.push((kind.unwrap_or_default(), Column::of(kind.unwrap_or_default(), values)?));
    }
    Ok(filled)
}

impl Column {
    /// The values of a column of this type.
    fn of<'a>(kind: &str, values: impl Iterator<Item = Option<&'a Value>>) -> Attempt<Self> {
        fn each<'a, T>(
            values: impl Iterator<Item = Option<&'a Value>>,
            read: impl Fn(&Value) -> Option<T>,
        ) -> Attempt<Vec<Option<T>>> {
            values
                .map(|value| match value {
                    None | Some(Value::Null) => Ok(None),
                    Some(value) => read(value)
                        .map(Some)
                        .ok_or_else(|| Fault::contradiction("a value is of another kind than its column")),
                })
                .collect()
        }
        let integer = |value: &Value| if let Value::Integer(number) = value { Some(*number) } else { None };
        Ok(match kind {
            "bigint" => Self::Integers(each(values, integer)?),
            "boolean" => Self::Truths(each(values, |value| integer(value).map(|number| number != 0))?),
            "double precision" => {
                Self::Reals(each(
                    values,
                    |value| if let Value::Real(number) = value { Some(*number) } else { None },
                )?)
            }
            "text" => Self::Texts(each(values, |value| {
                if let Value::Text(text) = value { Some(text.clone()) } else { None }
            })?),
            "bytea" => Self::Bytes(each(values, |value| {
                if let Value::Bytes(bytes) = value { Some(bytes.clone()) } else { None }
            })?),
            other => return Err(Fault::contradiction(format!("a column of type `{other}`"))),
        })
    }

    fn parameter(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Integers(values) => values,
            Self::Reals(values) => values,
            Self::Texts(values) => values,
            Self::Bytes(values) => values,
            Self::Truths(values) => values,
        }
    }
}

fn values(row: &tokio_postgres::Row) -> Attempt<Row> {
    let of = |(place, column): (usize, &tokio_postgres::Column)| {
        let kind = column.type_();
        Ok(if *kind == Type::INT8 {
            row.try_get::<_, Option<i64>>(place)?.map(Value::Integer)
        } else if *kind == Type::BOOL {
            row.try_get::<_, Option<bool>>(place)?.map(|value| Value::Integer(value.into()))
        } else if *kind == Type::FLOAT8 {
            row.try_get::<_, Option<f64>>(place)?.map(Value::Real)
        } else if *kind == Type::TEXT {
            row.try_get::<_, Option<String>>(place)?.map(Value::Text)
        } else if *kind == Type::BYTEA {
            row.try_get::<_, Option<Vec<u8>>>(place)?.map(Value::Bytes)
        } else {
            return Err(Fault::contradiction(format!("a column of type `{kind}`")));
        }
        .unwrap_or(Value::Null))
    };
    row.columns().iter().enumerate().map(of).collect()
}
