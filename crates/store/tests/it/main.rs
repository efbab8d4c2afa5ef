//! What every store must do, run on every backend, and what one backend alone must do.

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod fold;
#[cfg(test)]
mod history;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod rebuild;
#[cfg(test)]
mod s3;
#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod stored;
#[cfg(test)]
mod verify;
#[cfg(test)]
mod verify_database;
#[cfg(test)]
mod verify_records;
#[cfg(test)]
mod verify_rows;
#[cfg(test)]
mod verify_tables;
