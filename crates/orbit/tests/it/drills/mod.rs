//! Failure drills: a hostile thing and a neighbour in one home that the real binary serves. The hostile one has its record, the neighbour its
//! success, and afterwards nothing is left that was not there before.

mod adversary;
mod clock;
mod database_disk;
mod disk;
mod endpoints;
mod killed;
mod leaks;
mod payloads;
mod processors;
mod retention;
mod sources;
mod texts;
