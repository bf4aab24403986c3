//! Writing behind: values are in the caches at once, and are written to where they come from a moment later, many together.
//!
//! Until then the caches alone have them: what is queued when the process dies is lost, and if its key is deleted meanwhile, readers see what the source
//! has. Use it for values whose last state may be lost: counters of views, times of last use. Everything else is written first.
//!
//! A value waits in Redis behind a writer's fence. Once it is written, the fence is taken down if it still stands, and the key is dropped if not: then
//! somebody may have fetched and stored the older value of the source in between.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::core::Core;
use super::form::Fence;
use super::{Cached, Error, SourceError, TieredCache, source_error};

/// Keys and values that are written together.
pub type Batch<V> = Vec<(Arc<str>, Arc<V>)>;

/// The first pause between two attempts to write, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// The settings of a [`WriteBehind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BehindSettings {
    /// How many keys may wait to be written; 10,000. When they do, putting another one waits.
    pub capacity: usize,
    /// How many are written together; 100.
    pub batch: usize,
    /// For how long the first waits for others; 100 ms.
    pub delay: Duration,
    /// For how long a batch that fails is tried again; 30 s.
    pub patience: Duration,
}

impl Default for BehindSettings {
    fn default() -> Self {
        Self { capacity: 10_000, batch: 100, delay: Duration::from_millis(100), patience: Duration::from_secs(30) }
    }
}

/// Why a value could not be queued.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PutError {
    /// The value can't be written in the cache's encoding.
    #[error(transparent)]
    Value(#[from] Error),
    /// It was closed.
    #[error("nothing more is written: the queue was closed")]
    Closed,
}

/// A queue of values to be written. Dropped, it writes what it has and ends; [`WriteBehind::close`] waits for that.
pub struct WriteBehind<V> {
    queue: Arc<Queue<V>>,
    worker: Option<JoinHandle<()>>,
}

impl<V> fmt::Debug for WriteBehind<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind").field("waiting", &self.queue.lock().items.len()).finish_non_exhaustive()
    }
}

struct Queue<V> {
    core: Arc<Core>,
    settings: BehindSettings,
    state: Mutex<State<V>>,
    /// Something was put, or it was closed.
    changed: Notify,
    /// Something was taken.
    taken: Notify,
}

struct State<V> {
    items: HashMap<Arc<str>, Item<V>>,
    /// The keys in the order in which they came; one that is put again keeps its place.
    order: VecDeque<Arc<str>>,
    /// How many are being written.
    writing: usize,
    closed: bool,
}

struct Item<V> {
    value: Arc<V>,
    stored: Bytes,
    fence: Option<Fence>,
}

impl<V: Cached> WriteBehind<V> {
    /// Begins a queue before this cache. `write` writes a batch; `failed` is told of each that could not be written in time. Needs a tokio runtime.
    pub fn new<W, E>(
        cache: &TieredCache,
        settings: BehindSettings,
        write: impl Fn(Batch<V>) -> W + Send + Sync + 'static,
        failed: impl Fn(Batch<V>, Error) + Send + Sync + 'static,
    ) -> Self
    where
        W: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<SourceError> + 'static,
    {
        let state = State { items: HashMap::new(), order: VecDeque::new(), writing: 0, closed: false };
        let (changed, taken) = Default::default();
        let queue = Arc::new(Queue { core: Arc::clone(&cache.core), settings, state: Mutex::new(state), changed, taken });
        let worker = tokio::spawn(Arc::clone(&queue).work(write, failed));
        Self { queue, worker: Some(worker) }
    }

    /// Stores a value in both tiers and queues it. A value of the same key that waits is replaced. Waits while the queue is full.
    ///
    /// # Errors
    /// If the value can't be encoded, or the queue was closed.
    pub async fn put(&self, key: &str, value: V) -> Result<(), PutError> {
        let queue = &self.queue;
        let ticket = queue.core.local.ticket(key);
        let (bytes, size) = queue.core.encoded(Some(&value))?;
        let (stored, life) = queue.core.to_store(bytes, false);
        let key = Arc::<str>::from(key);
        loop {
            // Enabled before looking, so that nothing taken in between goes unnoticed.
            let mut taken = std::pin::pin!(queue.taken.notified());
            taken.as_mut().enable();
            if queue.has_room(&key)? {
                break;
            }
            taken.await;
        }
        let fence = queue.core.close_with(&key, &stored, life).await;
        let value = Arc::new(value);
        {
            // Both in one step: what is here is what will be written last.
            let mut state = queue.lock();
            queue.core.replace(&key, ticket, Arc::clone(&value), size, life);
            state.put(key, Item { value, stored, fence });
        }
        queue.changed.notify_one();
        Ok(())
    }

    /// How many values are not written yet.
    pub fn unwritten(&self) -> usize {
        let state = self.queue.lock();
        state.items.len() + state.writing
    }

    /// Writes what is queued, and takes no more.
    ///
    /// # Errors
    /// How many values are not written when `within` has passed; they are given up.
    pub async fn close(mut self, within: Duration) -> Result<(), usize> {
        self.queue.close();
        let Some(mut worker) = self.worker.take() else { return Ok(()) };
        if timeout(within, &mut worker).await.is_err() {
            worker.abort();
            return Err(self.unwritten());
        }
        Ok(())
    }
}

impl<V> Drop for WriteBehind<V> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl<V> Queue<V> {
    fn lock(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
        self.taken.notify_waiters();
    }

    fn has_room(&self, key: &str) -> Result<bool, PutError> {
        let state = self.lock();
        if state.closed {
            return Err(PutError::Closed);
        }
        Ok(state.items.contains_key(key) || state.items.len() < self.settings.capacity)
    }
}

impl<V: Cached> Queue<V> {
    async fn work<W, E>(self: Arc<Self>, write: impl Fn(Batch<V>) -> W, failed: impl Fn(Batch<V>, Error))
    where
        W: Future<Output = Result<(), E>> + Send,
        E: Into<SourceError>,
    {
        while self.filled().await {
            let items = self.take();
            let batch = || items.iter().map(|(key, item)| (Arc::clone(key), Arc::clone(&item.value))).collect::<Batch<V>>();
            let written = self.write(|| write(batch())).await;
            for (key, item) in &items {
                self.settle(key, item, written.is_ok()).await;
            }
            if let Err(error) = written {
                failed(batch(), error);
            }
            self.lock().writing = 0;
        }
    }

    /// Waits until a batch is due; `false` if there is none and never will be.
    async fn filled(&self) -> bool {
        let mut due = None;
        loop {
            let (waiting, closed) = {
                let state = self.lock();
                (state.items.len(), state.closed)
            };
            if closed || waiting >= self.settings.batch {
                return waiting > 0;
            }
            match (waiting, due) {
                (0, _) => self.changed.notified().await,
                (_, None) => due = Some(Instant::now() + self.settings.delay),
                (_, Some(due)) => {
                    let left = due.saturating_duration_since(Instant::now());
                    if timeout(left, self.changed.notified()).await.is_err() {
                        return true;
                    }
                }
            }
        }
    }

    fn take(&self) -> Vec<(Arc<str>, Item<V>)> {
        let mut state = self.lock();
        let count = state.order.len().min(self.settings.batch.max(1));
        let keys: Vec<_> = state.order.drain(..count).collect();
        let items: Vec<_> = keys.into_iter().filter_map(|key| state.items.remove_entry(&key)).collect();
        state.writing = items.len();
        drop(state);
        self.taken.notify_waiters();
        items
    }

    /// Writes a batch, again and again until it is done or the time is up.
    async fn write<W, E>(&self, write: impl Fn() -> W) -> Result<(), Error>
    where
        W: Future<Output = Result<(), E>> + Send,
        E: Into<SourceError>,
    {
        let deadline = Instant::now() + self.settings.patience;
        let [mut pause, longest] = PAUSES;
        loop {
            let caught = AssertUnwindSafe(async { write().await }).catch_unwind().await;
            match caught.map_err(|_| Error::Panicked).and_then(|written| written.map_err(source_error)) {
                Err(error) if Instant::now() + pause < deadline => {
                    tracing::debug!(%error, "a batch could not be written, it is tried again");
                }
                written => return written,
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Takes the fence down, unless a newer value of the key waits: then that one's stands there, or is about to.
    async fn settle(&self, key: &Arc<str>, item: &Item<V>, is_written: bool) {
        if self.lock().items.contains_key(key) {
            return;
        }
        let stored = is_written.then(|| (item.stored.clone(), self.core.shared_life()));
        if !self.core.open(key, item.fence.clone(), stored).await || !is_written {
            self.core.local.drop_key(key);
        }
    }
}

impl<V> State<V> {
    fn put(&mut self, key: Arc<str>, item: Item<V>) {
        if self.items.insert(Arc::clone(&key), item).is_none() {
            self.order.push_back(key);
        }
    }
}
