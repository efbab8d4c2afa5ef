//! The SQLite backend: one file a namespace.
