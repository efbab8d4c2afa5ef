//! The log, signed: who signs, numbered checkpoints, and their copies elsewhere.
//!
//! Records themselves are written with what they tell; this stage only adds what lets others verify them. `signing` begins a log,
//! `sequencer` makes checkpoints while it grows, `anchor` is the folder that they are copied to, and `witness` what is believed of it at a start.

mod anchor;
mod sequencer;
mod signing;
mod witness;

pub use anchor::Anchored;
pub use sequencer::{Place, Sequencer};
pub use signing::{BeginError, begin};
pub use witness::witness;

#[cfg(test)]
mod tests;
