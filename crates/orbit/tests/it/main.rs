//! Tests of the real binary and of the house.
#![expect(unreachable_pub, reason = "nothing outside this binary sees it")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "tests start the binary and its neighbours themselves")]

mod backup;
mod config;
mod crash;
mod cycle;
mod delivery;
mod drills;
mod fairness;
mod governance;
mod home;
mod hostile;
mod isolation;
mod log;
mod moves;
mod nodes;
mod normalize;
mod notify;
mod operate;
mod postgres;
mod queue;
mod rebuild;
mod receiver;
mod remote;
mod s3;
#[path = "../../../store/tests/it/s3/server.rs"]
mod s3_server;
mod schedule;
mod screens;
mod serving;
mod text;
mod tidy;
mod wire;
