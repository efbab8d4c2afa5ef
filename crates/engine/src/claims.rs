//! What this process has claimed, so that a claim whose answer was lost can be told from one that somebody works on.
//!
//! A store that says that a claim failed may have kept it: the row is held, and nobody knows. While the process lives, what nobody here holds is
//! free again once such a doubt has come up; the keeper sees to it. A process that ends needs none of this, because the next start frees everything.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orbit_store::StoreError;
use tokio::sync::{Notify, RwLock};
use uuid::Uuid;

use crate::lease::is_lost;

/// See the module.
#[derive(Default)]
pub struct Claims {
    /// Shared by who claims, from the call until what was claimed is held; alone who looks for what nobody holds.
    calling: RwLock<()>,
    held: Held,
    in_doubt: AtomicBool,
    /// Told when a claim was refused because this process is no node any more.
    pub(crate) lost: Arc<Notify>,
}

/// By the id of a cycle, run or delivery: how many hold it. A delivery's next attempt may be claimed while the last one's task ends.
type Held = Arc<Mutex<HashMap<Uuid, u32>>>;

/// Something claimed is worked on until this is dropped.
pub struct Hold {
    id: Uuid,
    held: Held,
}

impl Claims {
    /// Claims: each of what the store gives away is held.
    pub async fn claim<T>(
        &self,
        call: impl Future<Output = Result<Vec<T>, StoreError>>,
        id: impl Fn(&T) -> Uuid,
    ) -> Result<Vec<(T, Hold)>, StoreError> {
        let by_id = |found: Vec<T>| found.into_iter().map(|one| (id(&one), one)).collect();
        let call = async { call.await.map(|found| ((), by_id(found))) };
        match self.claim_with(call).await {
            Ok(((), held)) => Ok(held),
            Err(error) if is_lost(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Does something that claims as well: its answer, and what was claimed, each by its id, which is held now.
    pub async fn claim_with<A, T>(
        &self,
        call: impl Future<Output = Result<(A, Vec<(Uuid, T)>), StoreError>>,
    ) -> Result<(A, Vec<(T, Hold)>), StoreError> {
        let _calling = self.calling.read().await;
        match call.await {
            Ok((answer, claimed)) => {
                let held = claimed.into_iter().map(|(id, one)| (one, self.hold(id)));
                Ok((answer, held.collect()))
            }
            Err(error) => {
                if is_lost(&error) {
                    // Whoever renews the lease finds the same, and joins anew.
                    self.lost.notify_one();
                } else {
                    self.doubt();
                }
                Err(error)
            }
        }
    }

    /// Something may be claimed by this process that nobody works on.
    pub fn doubt(&self) {
        self.in_doubt.store(true, Ordering::SeqCst);
    }

    /// Whether there is something for the keeper to settle.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::SeqCst)
    }

    /// If there is a doubt, frees what nobody holds; how much that was. The doubt stays until that has succeeded.
    pub async fn settle<F>(&self, reclaim: impl FnOnce(Vec<Uuid>) -> F) -> Result<u32, StoreError>
    where
        F: Future<Output = Result<u32, StoreError>>,
    {
        if !self.in_doubt.load(Ordering::SeqCst) {
            return Ok(0);
        }
        let _alone = self.calling.write().await;
        self.in_doubt.store(false, Ordering::SeqCst);
        let held = lock(&self.held).keys().copied().collect();
        reclaim(held).await.inspect_err(|_| self.doubt())
    }

    fn hold(&self, id: Uuid) -> Hold {
        *lock(&self.held).entry(id).or_default() += 1;
        Hold { id, held: Arc::clone(&self.held) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        if let Some(count) = held.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.id);
            }
        }
    }
}

fn lock(held: &Mutex<HashMap<Uuid, u32>>) -> MutexGuard<'_, HashMap<Uuid, u32>> {
    // Whole after any panic: nothing panics between two changes that belong together.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_nobody_holds_is_asked_for_only_in_doubt_and_until_it_is_free() {
        let (claims, id) = (Claims::default(), Uuid::from_u128);
        let first = claims.claim(async { Ok(vec![id(1)]) }, |id| *id).await.unwrap();
        let again = claims.claim(async { Ok(vec![id(1)]) }, |id| *id).await.unwrap();
        drop(first);
        let reclaimed = claims.settle(async |_| panic!("nobody doubts")).await;
        assert_eq!(reclaimed.unwrap(), 0);
        let lost = || StoreError::Closed { place: String::new() };
        assert!(claims.claim(async { Err(lost()) }, |id: &Uuid| *id).await.is_err());
        assert!(claims.settle(async |_| Err(lost())).await.is_err());
        let held = claims.settle(async |held| {
            assert_eq!(held, [id(1)]);
            Ok(7)
        });
        assert_eq!(held.await.unwrap(), 7);
        drop(again);
        claims.doubt();
        let none = claims.settle(async |held| Ok(u32::try_from(held.len()).unwrap()));
        assert_eq!(none.await.unwrap(), 0);
        assert_eq!(claims.settle(async |_| panic!("the doubt is settled")).await.unwrap(), 0);
    }
}
