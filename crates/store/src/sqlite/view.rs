//! Reads for screens: cycles, initiations, counts; runs and deliveries have files of their own. Lists are paged by the order of making, newest
//! first, and the cursor is the `ordinal` of the last item.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rusqlite::types::Value as Parameter;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};
use uuid::Uuid;

use super::columns::{self, Text};
use super::fault::Attempt;
use super::{SqliteStore, endpoint, record, view_delivery, view_run};
use crate::StoreError;
use crate::contract::view::{
    COUNT_MAX, Counts, CycleView, DeliveryView, Identified, InitiationView, Page, PageRequest, RunRequest,
    RunView, StoreView,
};

/// Items that a page has at most.
pub(super) const PAGE_MAX: u32 = 1000;

#[async_trait]
impl StoreView for SqliteStore {
    async fn cycles(&self, page: PageRequest) -> Result<Page<CycleView>, StoreError> {
        let namespace = self.namespace.to_string();
        self.read(move |tx| {
            let list = List { sql: CYCLES, key: "c.ordinal", conditions: Vec::new() };
            list.page(tx, &page, |row| cycle(row, &namespace))?.map(|cycle| with_runs(tx, cycle))
        })
        .await
    }

    async fn cycle(&self, cycle_id: Uuid) -> Result<Option<CycleView>, StoreError> {
        let namespace = self.namespace.to_string();
        self.look(|tx| {
            let sql = format!("{CYCLES} WHERE c.cycle_id = ?1");
            let found = tx
                .prepare_cached(&sql)?
                .query_row([Text(cycle_id)], |row| cycle(row, &namespace))
                .optional()?;
            found.map(|cycle| with_runs(tx, cycle)).transpose()
        })
        .await
    }

    async fn runs(&self, cycle_id: Option<Uuid>, page: PageRequest) -> Result<Page<RunView>, StoreError> {
        let namespace = self.namespace.to_string();
        self.read(move |tx| view_run::page(tx, &namespace, cycle_id, &page)).await
    }

    async fn run(&self, run_id: Uuid) -> Result<Option<RunView>, StoreError> {
        let namespace = self.namespace.to_string();
        self.read(move |tx| view_run::find(tx, &namespace, run_id)).await
    }

    async fn run_request(&self, run_id: Uuid) -> Result<Option<RunRequest>, StoreError> {
        self.read(move |tx| view_run::request(tx, run_id)).await
    }

    async fn ids_that_begin(
        &self,
        of: Identified,
        beginning: &str,
        limit: u32,
    ) -> Result<Vec<Uuid>, StoreError> {
        let (from, to) = (beginning.to_owned(), format!("{beginning}g"));
        self.read(move |tx| {
            // From a text to what comes after every id that begins with it: the unique index serves.
            let sql = match of {
                Identified::Cycle => {
                    "SELECT cycle_id AS id FROM cycles WHERE cycle_id >= ?1 AND cycle_id < ?2"
                }
                Identified::Run => "SELECT run_id AS id FROM runs WHERE run_id >= ?1 AND run_id < ?2",
                Identified::Delivery => {
                    "SELECT delivery_id AS id FROM deliveries WHERE delivery_id >= ?1 AND delivery_id < ?2"
                }
            };
            let mut statement = tx.prepare_cached(&format!("{sql} ORDER BY id LIMIT ?3"))?;
            let ids = statement.query_map(params![from, to, limit], |row| columns::id(row, "id"))?;
            Ok(ids.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn deliveries(
        &self,
        state: Option<String>,
        page: PageRequest,
    ) -> Result<Page<DeliveryView>, StoreError> {
        self.read(move |tx| view_delivery::page(tx, state, &page)).await
    }

    async fn delivery(&self, delivery_id: Uuid) -> Result<Option<DeliveryView>, StoreError> {
        self.read(move |tx| view_delivery::find(tx, delivery_id)).await
    }

    async fn initiations(&self, page: PageRequest) -> Result<Page<InitiationView>, StoreError> {
        self.read(move |tx| {
            let sql = "SELECT * FROM initiations";
            List { sql, key: "ordinal", conditions: Vec::new() }.page(tx, &page, initiation)
        })
        .await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.read(counts).await
    }
}

/// A list to page through.
pub(super) struct List<'a> {
    /// The statement up to its conditions; it selects `ordinal`.
    pub(super) sql: &'a str,
    /// The ordinal's column.
    pub(super) key: &'a str,
    /// Columns and what they must be.
    pub(super) conditions: Vec<(&'a str, String)>,
}

impl List<'_> {
    /// A page of it.
    pub(super) fn page<T>(
        &self,
        tx: &Connection,
        request: &PageRequest,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Attempt<Page<T>> {
        let before = match request.cursor.as_deref().map(str::parse) {
            None => i64::MAX,
            Some(Ok(ordinal)) => ordinal,
            Some(Err(_)) => return Ok(Page { items: Vec::new(), next: None }),
        };
        let limit = request.limit.clamp(1, PAGE_MAX);
        // One more than the page, to know whether there is another.
        let mut parameters = vec![Parameter::from(before), Parameter::from(i64::from(limit) + 1)];
        let mut sql = format!("{} WHERE {} < ?1", self.sql, self.key);
        for (column, value) in &self.conditions {
            parameters.push(Parameter::from(value.clone()));
            sql = format!("{sql} AND {column} = ?{}", parameters.len());
        }
        sql = format!("{sql} ORDER BY {} DESC LIMIT ?2", self.key);
        let mut statement = tx.prepare_cached(&sql)?;
        let rows = statement
            .query_map(params_from_iter(parameters), |row| Ok((row.get::<_, i64>("ordinal")?, read(row)?)))?;
        let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|(ordinal, _)| ordinal.to_string());
        Ok(Page { items: rows.into_iter().map(|(_, item)| item).collect(), next })
    }
}

impl<T> Page<T> {
    /// Every item in another form.
    pub(super) fn map<U>(self, with: impl FnMut(T) -> Attempt<U>) -> Attempt<Page<U>> {
        let items = self.items.into_iter().map(with).collect::<Result<_, _>>()?;
        Ok(Page { items, next: self.next })
    }
}

const CYCLES: &str =
    "SELECT c.*, coalesce(i.label, (SELECT initiation FROM runs WHERE runs.cycle_id = c.cycle_id LIMIT 1))
    AS initiation FROM cycles c LEFT JOIN initiations i ON i.cycle_id = c.cycle_id";

fn cycle(row: &Row<'_>, namespace: &str) -> rusqlite::Result<CycleView> {
    Ok(CycleView {
        cycle_id: columns::id(row, "cycle_id")?,
        namespace: namespace.to_owned(),
        run_profile_id: columns::id(row, "run_profile_id")?,
        run_profile: row.get("run_profile")?,
        trigger: row.get("trigger")?,
        nominal_time: columns::instant(row, "nominal")?,
        snapshot: columns::digest(row, "snapshot")?,
        state: row.get("state")?,
        outcome: row.get("outcome")?,
        reason: row.get("reason")?,
        initiation: row.get("initiation")?,
        fired_at: columns::instant(row, "fired_at")?,
        finished_at: columns::instant_or_null(row, "finished_at")?,
        runs: Vec::new(),
    })
}

fn with_runs(tx: &Connection, mut cycle: CycleView) -> Attempt<CycleView> {
    let mut statement = tx.prepare_cached("SELECT run_id FROM runs WHERE cycle_id = ?1 ORDER BY ordinal")?;
    let runs = statement.query_map([Text(cycle.cycle_id)], |row| columns::id(row, "run_id"))?;
    cycle.runs = runs.collect::<Result<_, _>>()?;
    Ok(cycle)
}

fn initiation(row: &Row<'_>) -> rusqlite::Result<InitiationView> {
    Ok(InitiationView {
        id: columns::id(row, "initiation_id")?,
        cycle_id: columns::id(row, "cycle_id")?,
        label: row.get("label")?,
        weight: row.get("weight")?,
        metadata: columns::json(row, "metadata")?,
        hash: columns::digest(row, "hash")?,
        scope: row.get("scope")?,
        selected_at: columns::instant(row, "selected_at")?,
        released_at: columns::instant_or_null(row, "released_at")?,
    })
}

pub(super) fn counts(tx: &Connection) -> Attempt<Counts> {
    let endpoints = endpoint::views(tx)?;
    Ok(Counts {
        cycles: by_state(tx, "cycles")?,
        runs: by_state(tx, "runs")?,
        deliveries: by_state(tx, "deliveries")?,
        records: record::count(tx)?,
        endpoints,
    })
}

/// The states that a table has, and how many rows of each up to [`COUNT_MAX`]. Both are read from the table's index by state: from one state the next is
/// found without a look at the rows between, and nothing beyond the bound is looked at.
fn by_state(tx: &Connection, table: &str) -> Attempt<BTreeMap<String, u64>> {
    let sql = format!(
        "WITH RECURSIVE states (state) AS (
            SELECT min(state) FROM {table}
            UNION ALL SELECT (SELECT min(state) FROM {table} WHERE state > states.state) FROM states WHERE state IS NOT NULL)
        SELECT state, (SELECT count(*) FROM (SELECT 1 FROM {table} AS one WHERE one.state = states.state LIMIT {COUNT_MAX}))
        FROM states WHERE state IS NOT NULL"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get::<_, columns::Length>(1)?.0)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
