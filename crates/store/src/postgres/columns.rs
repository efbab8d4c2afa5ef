//! How values stand in columns: instants as whole microseconds, ids and digests as text, lengths as integers, the rest as JSON.
//!
//! PostgreSQL tells integers of different widths apart and takes none for another. Here every integer column is a `BIGINT` and every parameter
//! one of the kinds of [`Parameter`], so that statements look as they do on SQLite.

use std::fmt::Display;
use std::str::FromStr;

use bytes::BytesMut;
use jiff::Timestamp;
use orbit_core::digest::Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::row::RowIndex;
use tokio_postgres::types::{FromSqlOwned, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use super::fault::{Attempt, Fault};

/// What a NUL in a text is kept as: PostgreSQL has no text with one. JSON writes it as an escape, so only words for people ever change.
pub(crate) const NUL_KEPT_AS: &str = "\u{fffd}";

/// A value that is written as its text: an id, a digest.
pub(super) struct Text<T>(pub(super) T);

/// An instant.
pub(super) struct Micros(pub(super) Timestamp);

/// A length or a count.
pub(super) struct Length(pub(super) u64);

/// A value that is written as JSON.
pub(super) struct Json<T>(pub(super) T);

/// A value as it goes to the database.
#[derive(Debug)]
pub(super) enum Parameter {
    /// Nothing.
    Null,
    /// A truth value.
    Truth(bool),
    /// An integer.
    Integer(i64),
    /// A number.
    Real(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list of integers.
    Integers(Vec<i64>),
    /// A list of texts.
    Texts(Vec<String>),
    /// A list of bytes.
    ByteStrings(Vec<Option<Vec<u8>>>),
}

impl ToSql for Parameter {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Truth(value) => value.to_sql_checked(of, out),
            Self::Integer(value) => value.to_sql_checked(of, out),
            Self::Real(value) => value.to_sql_checked(of, out),
            Self::Text(value) => value.to_sql_checked(of, out),
            Self::Bytes(value) => value.to_sql_checked(of, out),
            Self::Integers(value) => value.to_sql_checked(of, out),
            Self::Texts(value) => value.to_sql_checked(of, out),
            Self::ByteStrings(value) => value.to_sql_checked(of, out),
        }
    }

    // Each kind checks for itself.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl From<i64> for Parameter {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<String> for Parameter {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

/// What can be a parameter.
pub(super) trait Bind {
    /// As it goes to the database.
    fn bind(&self) -> Attempt<Parameter>;
}

/// Parameters of a statement, in order.
macro_rules! params {
    () => {
        $crate::postgres::fault::Attempt::<Vec<$crate::postgres::columns::Parameter>>::Ok(Vec::new())
    };
    ($($value:expr),+ $(,)?) => {
        [$($crate::postgres::columns::Bind::bind(&$value)),+]
            .into_iter()
            .collect::<$crate::postgres::fault::Attempt<Vec<$crate::postgres::columns::Parameter>>>()
    };
}
pub(super) use params;

impl<T: Bind + ?Sized> Bind for &T {
    fn bind(&self) -> Attempt<Parameter> {
        (**self).bind()
    }
}

impl<T: Bind> Bind for Option<T> {
    fn bind(&self) -> Attempt<Parameter> {
        self.as_ref().map_or(Ok(Parameter::Null), Bind::bind)
    }
}

impl Bind for str {
    fn bind(&self) -> Attempt<Parameter> {
        Ok(Parameter::Text(self.replace('\0', NUL_KEPT_AS)))
    }
}

impl Bind for String {
    fn bind(&self) -> Attempt<Parameter> {
        self.as_str().bind()
    }
}

impl Bind for [u8] {
    fn bind(&self) -> Attempt<Parameter> {
        Ok(Parameter::Bytes(self.to_vec()))
    }
}

impl Bind for bool {
    fn bind(&self) -> Attempt<Parameter> {
        Ok(Parameter::Truth(*self))
    }
}

impl Bind for f64 {
    fn bind(&self) -> Attempt<Parameter> {
        Ok(Parameter::Real(*self))
    }
}

impl Bind for i64 {
    fn bind(&self) -> Attempt<Parameter> {
        Ok(Parameter::Integer(*self))
    }
}

impl Bind for u32 {
    fn bind(&self) -> Attempt<Parameter> {
        Ok(Parameter::Integer(i64::from(*self)))
    }
}

impl Bind for u8 {
    fn bind(&self) -> Attempt<Parameter> {
        Ok(Parameter::Integer(i64::from(*self)))
    }
}

impl<T: Display> Bind for Text<T> {
    fn bind(&self) -> Attempt<Parameter> {
        Ok(Parameter::Text(self.0.to_string()))
    }
}

impl Bind for Micros {
    fn bind(&self) -> Attempt<Parameter> {
        Ok(Parameter::Integer(self.0.as_microsecond()))
    }
}

impl Bind for Length {
    fn bind(&self) -> Attempt<Parameter> {
        i64::try_from(self.0).map(Parameter::Integer).map_err(Fault::unreadable)
    }
}

impl<T: Serialize> Bind for Json<T> {
    fn bind(&self) -> Attempt<Parameter> {
        serde_json::to_string(&self.0).map(Parameter::Text).map_err(Fault::unreadable)
    }
}

/// A row of an answer.
pub(super) struct Row(pub(super) tokio_postgres::Row);

impl Row {
    /// The value of a column.
    pub(super) fn get<I: RowIndex + Display, T: Column>(&self, column: I) -> Attempt<T> {
        T::read(self.0.try_get::<_, T::Stored>(column)?)
    }
}

/// What can be read from a column.
pub(super) trait Column: Sized {
    /// As the database has it.
    type Stored: FromSqlOwned;
    /// As it is meant.
    fn read(stored: Self::Stored) -> Attempt<Self>;
}

macro_rules! stored_as_it_is {
    ($($plain:ty),+) => {
        $(impl Column for $plain {
            type Stored = Self;
            fn read(stored: Self) -> Attempt<Self> {
                Ok(stored)
            }
        })+
    };
}
stored_as_it_is!(bool, i64, f64, String, Vec<u8>);

impl<T: Column> Column for Option<T> {
    type Stored = Option<T::Stored>;
    fn read(stored: Self::Stored) -> Attempt<Self> {
        stored.map(T::read).transpose()
    }
}

impl Column for u32 {
    type Stored = i64;
    fn read(stored: i64) -> Attempt<Self> {
        Self::try_from(stored).map_err(Fault::unreadable)
    }
}

impl<const N: usize> Column for [u8; N] {
    type Stored = Vec<u8>;
    fn read(stored: Vec<u8>) -> Attempt<Self> {
        let bytes = stored.len();
        Self::try_from(stored).map_err(|_| Fault::contradiction(format!("{bytes} bytes instead of {N}")))
    }
}

impl<T: FromStr> Column for Text<T>
where
    T::Err: Display,
{
    type Stored = String;
    fn read(stored: String) -> Attempt<Self> {
        stored.parse().map(Self).map_err(Fault::unreadable)
    }
}

impl Column for Micros {
    type Stored = i64;
    fn read(stored: i64) -> Attempt<Self> {
        Timestamp::from_microsecond(stored).map(Self).map_err(Fault::unreadable)
    }
}

impl Column for Length {
    type Stored = i64;
    fn read(stored: i64) -> Attempt<Self> {
        u64::try_from(stored).map(Self).map_err(Fault::unreadable)
    }
}

impl<T: DeserializeOwned> Column for Json<T> {
    type Stored = String;
    fn read(stored: String) -> Attempt<Self> {
        serde_json::from_str(&stored).map(Self).map_err(Fault::unreadable)
    }
}

/// An id in a column.
pub(super) fn id(row: &Row, column: &str) -> Attempt<Uuid> {
    row.get::<_, Text<Uuid>>(column).map(|text| text.0)
}

/// A digest in a column.
pub(super) fn digest(row: &Row, column: &str) -> Attempt<Digest> {
    row.get::<_, Text<Digest>>(column).map(|text| text.0)
}

/// An instant in a column.
pub(super) fn instant(row: &Row, column: &str) -> Attempt<Timestamp> {
    row.get::<_, Micros>(column).map(|micros| micros.0)
}

/// An instant in a column that may be null.
pub(super) fn instant_or_null(row: &Row, column: &str) -> Attempt<Option<Timestamp>> {
    row.get::<_, Option<Micros>>(column).map(|micros| micros.map(|micros| micros.0))
}

/// A length in a column that may be null.
pub(super) fn length_or_null(row: &Row, column: &str) -> Attempt<Option<u64>> {
    row.get::<_, Option<Length>>(column).map(|length| length.map(|length| length.0))
}

/// A digest in a column that may be null.
pub(super) fn digest_or_null(row: &Row, column: &str) -> Attempt<Option<Digest>> {
    row.get::<_, Option<Text<Digest>>>(column).map(|text| text.map(|text| text.0))
}

/// JSON in a column.
pub(super) fn json<T: DeserializeOwned>(row: &Row, column: &str) -> Attempt<T> {
    row.get::<_, Json<T>>(column).map(|json| json.0)
}
