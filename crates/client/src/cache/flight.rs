//! One fetch for all who miss a key at the same time.
//!
//! Who comes while a fetch is under way shares it, unless the key was dropped since it began: then its value may be old, and the newcomer begins one of
//! his own, which those who come next share. A fetch goes on as long as anybody waits for it, and ends with the last who does.

use std::any::TypeId;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::local::Ticket;

/// By key, and by the type that is fetched.
type Key = (Arc<str>, TypeId);

/// A fetch under way.
struct Flight<T: Clone> {
    id: u64,
    ticket: Ticket,
    outcome: WeakShared<BoxFuture<'static, T>>,
}

/// The fetches under way.
pub(crate) struct Flights<T: Clone> {
    under_way: Mutex<HashMap<Key, Flight<T>>>,
    begun: AtomicU64,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { under_way: Mutex::default(), begun: AtomicU64::new(0) })
    }

    /// Joins the fetch that is under way for this key and still good by the ticket, or begins this one.
    pub(crate) fn join<V: 'static, F>(
        self: &Arc<Self>,
        key: &Arc<str>,
        ticket: Ticket,
        fetch: impl FnOnce() -> F,
    ) -> Shared<BoxFuture<'static, T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let key = (Arc::clone(key), TypeId::of::<V>());
        let mut under_way = self.lock();
        let entry = under_way.entry(key.clone());
        if let Entry::Occupied(flight) = &entry
            && flight.get().ticket == ticket
            && let Some(outcome) = flight.get().outcome.upgrade()
        {
            return outcome;
        }
        let id = self.begun.fetch_add(1, Ordering::Relaxed);
        let end = End { flights: Arc::clone(self), key, id };
        let fetch = fetch();
        let outcome = async move {
            let _end = end;
            fetch.await
        };
        let outcome = outcome.boxed().shared();
        if let Some(weak) = outcome.downgrade() {
            entry.insert_entry(Flight { id, ticket, outcome: weak });
        }
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Flight<T>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a fetch off the list when it has ended, or was given up.
struct End<T: Clone + Send + Sync + 'static> {
    flights: Arc<Flights<T>>,
    key: Key,
    id: u64,
}

impl<T: Clone + Send + Sync + 'static> Drop for End<T> {
    fn drop(&mut self) {
        let mut under_way = self.flights.lock();
        // One that began later stays.
        if under_way.get(&self.key).is_some_and(|flight| flight.id == self.id) {
            under_way.remove(&self.key);
        }
    }
}
