//! A cache of two tiers: values ready to use in the process, over encoded ones in Redis.
//!
//! What it promises: neither tier takes a value that was read before an invalidation of its key. How, and what follows, is in `docs/client.md`. What it
//! doesn't do: hear of changes. Notices come from elsewhere (see [`TieredCache::hear`]), and without them the tier in the process relies on lifetimes.

mod behind;
mod core;
mod flight;
mod form;
mod local;
mod settings;
mod shared;
pub(crate) mod stats;
mod trust;
mod value;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use unstale_connect::{Fault, Store};
use unstale_events::Notice;

pub use self::behind::{Batch, BehindSettings, PutError, WriteBehind};
pub use self::local::Bound;
pub use self::settings::{Posture, Settings};
pub use self::stats::{Size, Stats, TierStats};
pub use self::value::{Cached, Encoding, Raw};

use self::core::Core;
use self::shared::Shared;
use self::stats::Count;

/// Why a value could not be had. Cheap to clone: all who waited for one fetch get the same.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Redis failed, and there was nowhere else to look.
    #[error("the shared cache failed: {0}")]
    Shared(#[from] Fault),
    /// The value can't be written in this encoding, which is a mistake in its type.
    #[error("a value of type {kind} can't be cached: {why}")]
    Unwritable {
        /// The type.
        kind: &'static str,
        /// What the serializer says.
        why: String,
    },
    /// The source of the values failed.
    #[error("the source failed: {0}")]
    Source(Arc<dyn std::error::Error + Send + Sync>),
    /// What was to fetch the value panicked.
    #[error("fetching the value panicked")]
    Panicked,
}

/// An error of a source, of any kind.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

fn source_error<E: Into<SourceError>>(error: E) -> Error {
    Error::Source(Arc::from(error.into()))
}

/// Where a value comes from: every closure that returns a future of `Result<Option<V>, E>`. It is called at most once.
pub trait Source<V>: Send + 'static {
    /// Fetches the value; `None` if there is no such thing.
    ///
    /// # Errors
    /// [`Error::Source`] with what the closure says.
    fn load(self) -> impl Future<Output = Result<Option<V>, Error>> + Send;
}

impl<V, L, F, E> Source<V> for L
where
    L: FnOnce() -> F + Send + 'static,
    F: Future<Output = Result<Option<V>, E>> + Send,
    E: Into<SourceError>,
{
    async fn load(self) -> Result<Option<V>, Error> {
        self().await.map_err(source_error)
    }
}

/// A cache of two tiers. Clones share it.
///
/// ```
/// # use std::sync::Arc;
/// use unstale_client::{Settings, TieredCache};
///
/// # async fn find(id: u32) -> Result<Option<String>, std::io::Error> { Ok(Some(format!("product {id}"))) }
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let cache = TieredCache::local(Settings::default()); // or TieredCache::connect("redis://…", settings)
/// let product: Option<Arc<String>> = cache.get_or_load("product:7", || find(7)).await.unwrap();
/// assert_eq!(*product.unwrap(), "product 7");
/// assert_eq!(cache.stats().loads, 1);
/// # }
/// ```
#[derive(Clone)]
pub struct TieredCache {
    core: Arc<Core>,
}

impl fmt::Debug for TieredCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredCache").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl TieredCache {
    /// A cache with the tier in the process alone.
    pub fn local(settings: Settings) -> Self {
        Self { core: Arc::new(Core::new(settings, None)) }
    }

    /// A cache over connections to Redis that others may share.
    pub fn over(redis: Store, settings: Settings) -> Self {
        Self { core: Arc::new(Core::new(settings, Some(redis))) }
    }

    /// A cache over connections of its own: to one server, the master that sentinels name, or a cluster. Begins to connect, and returns at once whether Redis is there or not. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the URL is none, or a file for TLS can't be used.
    pub fn connect(url: &str, settings: Settings) -> Result<Self, Fault> {
        Ok(Self::over(crate::site(url)?.store("unstale-cache")?, settings))
    }

    /// A value, if a tier has it.
    ///
    /// # Errors
    /// If Redis fails.
    pub async fn get<V: Cached>(&self, key: &str) -> Result<Option<Arc<V>>, Error> {
        match self.core.local_value::<V>(key) {
            Some(hit) => Ok(hit.value),
            None => self.core.shared_value(key).await,
        }
    }

    /// A value, from the tiers or else from its source, whose answer is stored. `None` is an answer too: there is no such thing.
    ///
    /// All who ask for a key at the same time share one call of the source. It goes on as long as one of them waits. If Redis fails, the source is asked.
    ///
    /// # Errors
    /// [`Error::Source`] if the source fails; that is not stored.
    pub async fn get_or_load<V: Cached>(&self, key: &str, source: impl Source<V>) -> Result<Option<Arc<V>>, Error> {
        match self.core.local_value::<V>(key) {
            Some(hit) => {
                if hit.due {
                    self.core.refresh_in_background(key, source);
                }
                Ok(hit.value)
            }
            None => self.core.fetch_with_others(key, source).await,
        }
    }

    /// Stores a value whose home is the cache itself, such as a session, whatever stood there. What comes from elsewhere is better written by
    /// [`TieredCache::write_through`], or not at all: then the next reader fetches it.
    ///
    /// # Errors
    /// If Redis fails; then nothing is stored.
    pub async fn set<V: Cached>(&self, key: &str, value: V) -> Result<Arc<V>, Error> {
        self.core.set(key, value).await
    }

    /// Changes what the value comes from, and stores the new value in both tiers. `write` carries out the change and returns the value as it is now.
    ///
    /// Readers that fetch the old value meanwhile can't store it, and of several writers at once none leaves a value in Redis that another has replaced.
    /// Other processes hear of the change by the event that you publish afterwards, as ever. If Redis fails, the change is made and the value is not stored.
    ///
    /// # Errors
    /// [`Error::Source`] if `write` fails. Then nobody knows what it did, and the key is dropped from both tiers.
    pub async fn write_through<V, E>(&self, key: &str, write: impl Future<Output = Result<V, E>> + Send) -> Result<Arc<V>, Error>
    where
        V: Cached,
        E: Into<SourceError>,
    {
        self.core.write_through(key, write).await
    }

    /// Deletes a key in Redis and drops it here. Other processes don't hear of it: for that, publish an event. Says whether Redis had it.
    ///
    /// # Errors
    /// If Redis fails; here it is dropped all the same.
    pub async fn delete(&self, key: &str) -> Result<bool, Error> {
        self.core.delete(key).await
    }

    /// Drops a key here, and refuses what is being fetched for it.
    pub fn drop_key(&self, key: &str) {
        self.core.counters.add(Count::LocalInvalidation);
        self.core.local.drop_key(key);
    }

    /// Drops here whatever a Redis glob matches, and refuses what is being fetched.
    pub fn drop_pattern(&self, pattern: &str) {
        self.core.counters.add(Count::LocalInvalidation);
        self.core.local.drop_pattern(pattern);
    }

    /// Drops everything here.
    pub fn flush(&self) {
        self.core.flush();
    }

    /// Applies a notice. One of a version that isn't known may say anything, so everything is dropped.
    pub fn hear(&self, notice: &Notice) {
        if !notice.is_known() {
            return self.flush();
        }
        for dropped in &notice.drop {
            dropped.keys.iter().for_each(|key| self.drop_key(key));
            dropped.patterns.iter().for_each(|pattern| self.drop_pattern(pattern));
        }
        if self.core.is_concerned(&notice.flush) {
            self.flush();
        }
    }

    /// From now on the tier in the process is trusted only as long as [`TieredCache::vouch`] is called at least every [`Settings::silence`].
    pub fn expect_notices(&self) {
        self.core.trust.watch();
    }

    /// Every notice until now was heard.
    pub fn vouch(&self) {
        self.core.trust.vouch(Instant::now());
    }

    /// From now on notices are missed, until [`TieredCache::vouch`] is called again.
    pub fn doubt(&self) {
        self.core.trust.doubt(Instant::now());
    }

    /// What was counted so far, and what the tiers hold.
    pub fn stats(&self) -> Stats {
        let mut stats = self.core.counters.stats();
        stats.local.size = Some(self.core.local.size());
        stats.shared.size = self.core.shared.as_ref().and_then(Shared::size);
        stats
    }

    /// How both tiers are. Asks Redis.
    pub async fn health(&self) -> Health {
        let shared = match &self.core.shared {
            Some(shared) => Some(shared.health().await),
            None => None,
        };
        let silent_for = self.core.trust.silent_since(Instant::now()).map(|since| since.elapsed());
        let health = Health { local: LocalHealth { size: self.core.local.size(), silent_for }, shared };
        #[cfg(feature = "metrics")]
        crate::metrics::health(&health);
        health
    }
}

/// How both tiers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The tier in the process.
    pub local: LocalHealth,
    /// The tier in Redis, if there is one.
    pub shared: Option<SharedHealth>,
}

impl Health {
    /// Whether Redis answers, and somebody vouches for the tier in the process.
    pub fn is_ok(&self) -> bool {
        self.local.is_ok() && self.shared.as_ref().is_none_or(SharedHealth::is_ok)
    }
}

/// How the tier in the process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalHealth {
    /// What it holds.
    pub size: Size,
    /// For how long nobody has vouched for it; then its [`Posture`] says what becomes of it.
    pub silent_for: Option<Duration>,
}

impl LocalHealth {
    /// Whether somebody vouches for it, or nobody has to.
    pub fn is_ok(&self) -> bool {
        self.silent_for.is_none()
    }
}

/// How the tier in Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedHealth {
    /// How long it takes to answer; of a cluster, the slowest master.
    pub ping: Option<Duration>,
    /// What it holds; `None` if it can't be used, or the user may not ask.
    pub size: Option<Size>,
    /// Why it can't be used.
    pub trouble: Option<Fault>,
}

impl SharedHealth {
    /// Whether it answers.
    pub fn is_ok(&self) -> bool {
        self.trouble.is_none()
    }
}
