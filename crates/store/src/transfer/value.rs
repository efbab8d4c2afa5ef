//! A value of a row, as both backends can hold it.

use orbit_core::digest::Hasher;

use crate::postgres::NUL_KEPT_AS;

/// See the module. A truth value is the integer 0 or 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    /// A text as both can hold it.
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.replace('\0', NUL_KEPT_AS))
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Null | Self::Integer(_) | Self::Real(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Adds it to a hash such that no two rows hash to the same bytes.
    pub(super) fn hash(&self, hasher: &mut Hasher) {
        let (kind, bytes): (u8, &[u8]) = match self {
            Self::Null => (0, &[]),
            Self::Integer(number) => (1, &number.to_be_bytes()),
            Self::Real(number) => (2, &number.to_bits().to_be_bytes()),
            Self::Text(text) => (3, text.as_bytes()),
            Self::Bytes(bytes) => (4, bytes),
        };
        hasher.update(&[kind]);
        hasher.update(&(bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    }
}

/// The values of a row, in the order of its columns.
pub(super) type Row = Vec<Value>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_hashes_otherwise() {
        let hash = |row: &[Value]| {
            let mut hasher = Hasher::default();
            for value in row {
                value.hash(&mut hasher);
            }
            hasher.finish()
        };
        let rows: [&[Value]; 7] = [
            &[],
            &[Value::Null],
            &[Value::Text(String::new())],
            &[Value::Bytes(Vec::new())],
            &[Value::Integer(0)],
            &[Value::Real(0.0)],
            &[Value::text("a"), Value::text("bc")],
        ];
        for (place, row) in rows.iter().enumerate() {
            for other in &rows[..place] {
                assert_ne!(hash(row), hash(other));
            }
        }
        assert_ne!(hash(&[Value::text("ab"), Value::text("c")]), hash(rows[6]));
        assert_eq!(Value::text("a\0b"), Value::Text("a\u{fffd}b".to_owned()));
    }
}
