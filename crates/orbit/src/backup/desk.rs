//! The one backup that a process may be making: it is started, asked after, and done.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::Made;

/// How it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Stage {
    /// None was asked for.
    #[default]
    Idle,
    /// It is being made.
    Running {
        /// What is being copied.
        what: String,
        /// How much of it is done.
        done: u64,
        /// How much there is.
        total: u64,
    },
    /// It is there.
    Done(Made),
    /// There is none.
    Failed {
        /// Why.
        message: String,
        /// What to do about it.
        hint: String,
    },
}

/// See the module.
#[derive(Default)]
pub struct Desk(Mutex<Stage>);

impl Desk {
    /// Takes the desk; false if a backup is being made.
    pub fn begin(&self) -> bool {
        let mut stage = self.lock();
        let free = !matches!(*stage, Stage::Running { .. });
        if free {
            *stage = Stage::Running { what: "beginning".to_owned(), done: 0, total: 0 };
        }
        free
    }

    /// How it stands now.
    pub fn set(&self, stage: Stage) {
        *self.lock() = stage;
    }

    /// How it stands.
    pub fn get(&self) -> Stage {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
