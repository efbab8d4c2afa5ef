//! Reads for threads that may block: a thread of its own with a runtime of its own, so that they work wherever they are asked for.

use std::sync::{Arc, mpsc};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc as queue;

use super::address::Address;
use super::witness::Witness;
use super::{Database, pool};
use crate::StoreError;
use orbit_core::config::NamespaceName;

/// Questions that may wait for the thread; whoever has more waits in line.
const QUEUE_MAX: usize = 256;
/// One question is answered after the other.
const CONNECTIONS: usize = 1;

/// A question, which answers for itself.
type Question = Box<dyn for<'a> FnOnce(&'a Database) -> BoxFuture<'a, ()> + Send>;

/// A handle on the thread, which ends when it is dropped.
pub(super) struct Blocking {
    sender: queue::Sender<Question>,
    place: String,
}

impl Blocking {
    /// Starts the thread. It connects when it is asked first.
    pub(super) fn start(
        address: &Address,
        namespace: &NamespaceName,
        witness: &Arc<Witness>,
    ) -> Result<Self, StoreError> {
        let place = &address.place;
        let failed = |error: std::io::Error| StoreError::Io {
            place: place.to_owned(),
            message: format!("its thread for reads that block could not be started: {error}"),
        };
        let pool = pool::pool(address, CONNECTIONS).map_err(|fault| fault.at(place))?;
        let database = Database::new(pool, namespace, place, witness);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (sender, mut questions) = queue::channel::<Question>(QUEUE_MAX);
        let serve = async move {
            while let Some(question) = questions.recv().await {
                question(&database).await;
            }
        };
        std::thread::Builder::new()
            .name("store-reads".to_owned())
            .spawn(move || runtime.block_on(serve))
            .map_err(failed)?;
        Ok(Self { sender, place: place.to_owned() })
    }

    /// The answer to a question; this thread waits for it.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        ask: impl for<'a> FnOnce(&'a Database) -> BoxFuture<'a, Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::Closed { place: self.place.clone() };
        let (reply, answer) = mpsc::sync_channel(1);
        let mut question: Question = Box::new(move |database| {
            let asked = ask(database);
            Box::pin(async move {
                // Whoever asked may be gone.
                let _ = reply.send(asked.await);
            })
        });
        loop {
            match self.sender.try_send(question) {
                Ok(()) => return answer.recv().map_err(|_| closed())?,
                Err(queue::error::TrySendError::Closed(_)) => return Err(closed()),
                Err(queue::error::TrySendError::Full(back)) => question = back,
            }
            std::thread::yield_now();
        }
    }
}
