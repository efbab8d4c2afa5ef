//! What every store must do, run on every backend, and what SQLite alone must do.

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod fold;
#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod stored;
#[cfg(test)]
mod verify;
