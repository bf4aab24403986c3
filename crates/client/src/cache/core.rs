//! How a value is looked for, fetched and stored: what the methods of the cache have in common.
//!
//! In this order, whatever the way: take a ticket of the tier in the process, set or find a fence in Redis, fetch, store in Redis if the fence still
//! stands, store here if the ticket is still good. Where the fence is gone nothing is stored here either: its notice is on the way.

use std::any::{Any, type_name};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::time::Instant;
use unstale_connect::{Fault, Store};

use super::flight::Flights;
use super::form::{self, Fence, Found, Look};
use super::local::{Entry, Held, Local, Ticket};
use super::settings::Settings;
use super::shared::{Otherwise, Shared};
use super::stats::{Count, Counters};
use super::trust::{Trust, Verdict};
use super::value::Cached;
use super::{Error, Source, SourceError, source_error};

pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) local: Local,
    pub(crate) shared: Option<Shared>,
    pub(crate) trust: Trust,
    pub(crate) counters: Counters,
    flights: Arc<Flights<Result<Held, Error>>>,
}

/// A value of the tier in the process.
pub(crate) struct LocalHit<V> {
    pub(crate) value: Option<Arc<V>>,
    /// It should be fetched anew.
    pub(crate) due: bool,
}

/// Where a fetched value may be stored.
enum Room {
    /// Where this fence stands, and then here.
    Behind(Fence),
    /// Here only: there is no shared tier, or it failed.
    Here,
    /// Nowhere: it is just being changed.
    Nowhere,
}

/// What a reader found in Redis.
enum Shelf {
    Hit { held: Held, due: bool },
    Miss(Room),
}

/// Stands for the fetches ahead of time of a type among the flights.
struct Ahead<V>(std::marker::PhantomData<V>);

impl Core {
    pub(crate) fn new(settings: Settings, store: Option<Store>) -> Self {
        #[cfg(feature = "metrics")]
        crate::metrics::describe();
        let local = Local::new(settings.local_bound, settings.local_life);
        let shared = store.map(|store| Shared::new(store, settings.fence_life));
        let trust = Trust::new(settings.posture, settings.silence);
        Self { settings, local, shared, trust, counters: Counters::default(), flights: Flights::new() }
    }

    /// What the tier in the process has of this type.
    pub(crate) fn local_value<V: Cached>(&self, key: &str) -> Option<LocalHit<V>> {
        let hit = self.look_here(key);
        self.counters.add(if hit.is_some() { Count::LocalHit } else { Count::LocalMiss });
        hit
    }

    fn look_here<V: Cached>(&self, key: &str) -> Option<LocalHit<V>> {
        let now = Instant::now();
        if !self.may_use_local(now) {
            return None;
        }
        let entry = self.local.get(key, now)?;
        let due = entry.refresh.is_some_and(|refresh| refresh <= now);
        Some(LocalHit { value: typed(entry.value).ok()?, due })
    }

    fn may_use_local(&self, now: Instant) -> bool {
        match self.trust.verdict(now) {
            Verdict::Use => true,
            Verdict::FlushFirst => {
                self.flush();
                true
            }
            Verdict::Bypass => false,
        }
    }

    pub(crate) fn flush(&self) {
        self.counters.add(Count::Flush);
        self.local.flush();
    }

    /// Whether a flush of these caches concerns this one.
    pub(crate) fn is_concerned(&self, flush: &[String]) -> bool {
        let own = &self.settings.caches;
        flush.iter().any(|name| name == "*" || own.is_empty() || own.contains(name))
    }

    /// What Redis has, stored here.
    pub(crate) async fn shared_value<V: Cached>(&self, key: &str) -> Result<Option<Arc<V>>, Error> {
        let Some(shared) = &self.shared else { return Ok(None) };
        let ticket = self.local.ticket(key);
        let looked = self.noted(self.look(shared, key).await)?;
        let hit = looked.and_then(|(look, left)| self.take::<V>(key, ticket, &look, left));
        self.counters.add(if hit.is_some() { Count::SharedHit } else { Count::SharedMiss });
        Ok(hit.and_then(|(held, _)| typed(held).unwrap_or_default()))
    }

    /// What stands in Redis, and how long it has yet to live if that matters.
    async fn look(&self, shared: &Shared, key: &str) -> Result<Option<(Look, Option<Duration>)>, Fault> {
        let (look, left) = match self.settings.ahead(self.settings.shared_life) {
            Some(_) => shared.look_at_life(key).await?,
            None => (shared.look(key).await?, None),
        };
        Ok(look.map(|look| (look, left)))
    }

    /// Stores here what stands in Redis, if it is a value; returns it, and whether it should be fetched anew.
    fn take<V: Cached>(&self, key: &str, ticket: Ticket, look: &Look, left: Option<Duration>) -> Option<(Held, bool)> {
        let (held, size) = match &look.found {
            Found::Value(bytes) => (Some(V::decode(bytes, self.settings.encoding).ok()?), bytes.len()),
            Found::Absent => (None, 0),
            Found::Open(_) | Found::Closed | Found::Unreadable => return None,
        };
        let held: Held = held.map(|value| Arc::new(value) as _);
        let ahead = self.settings.ahead(self.settings.shared_life);
        let refresh = left.zip(ahead).filter(|_| !look.fenced).map(|(left, ahead)| left.saturating_sub(ahead));
        self.keep(key, ticket, held.clone(), size, refresh);
        Some((held, refresh.is_some_and(|refresh| refresh.is_zero())))
    }

    /// Shares the fetch that is under way, or begins one.
    pub(crate) async fn fetch_with_others<V: Cached>(self: &Arc<Self>, key: &str, source: impl Source<V>) -> Result<Option<Arc<V>>, Error> {
        let (key, ticket) = (Arc::<str>::from(key), self.local.ticket(key));
        let flight = self.flights.join::<V, _>(&key, ticket, || Arc::clone(self).fetch(Arc::clone(&key), ticket, source));
        Ok(typed(flight.await?).unwrap_or_default())
    }

    async fn fetch<V: Cached>(self: Arc<Self>, key: Arc<str>, ticket: Ticket, source: impl Source<V>) -> Result<Held, Error> {
        // The fetch before may have ended between one's own look and this.
        if let Some(hit) = self.look_here::<V>(&key) {
            return Ok(hit.value.map(|value| value as _));
        }
        match self.search::<V>(&key, ticket).await {
            Shelf::Hit { held, due } => {
                if due {
                    self.refresh_in_background(&key, source);
                }
                Ok(held)
            }
            Shelf::Miss(room) => {
                let value = self.load(source).await?;
                self.store(&key, ticket, room, value).await
            }
        }
    }

    /// Looks into Redis, and sets a fence where nothing is.
    async fn search<V: Cached>(&self, key: &str, ticket: Ticket) -> Shelf {
        let Some(shared) = &self.shared else { return Shelf::Miss(Room::Here) };
        let searched = self.noted(self.search_in::<V>(shared, key, ticket).await);
        let hit = matches!(searched, Ok(Shelf::Hit { .. }));
        self.counters.add(if hit { Count::SharedHit } else { Count::SharedMiss });
        searched.unwrap_or(Shelf::Miss(Room::Here))
    }

    async fn search_in<V: Cached>(&self, shared: &Shared, key: &str, ticket: Ticket) -> Result<Shelf, Fault> {
        if let Some((look, left)) = self.look(shared, key).await? {
            if let Some((held, due)) = self.take::<V>(key, ticket, &look, left) {
                return Ok(Shelf::Hit { held, due });
            }
            // A value of another type, perhaps of another release.
            if matches!(look.found, Found::Value(_)) {
                shared.remove(key).await?;
            }
        }
        let look = shared.claim(key).await?;
        Ok(match look.found {
            Found::Open(fence) => Shelf::Miss(Room::Behind(fence)),
            Found::Closed | Found::Unreadable => Shelf::Miss(Room::Nowhere),
            Found::Value(_) | Found::Absent => match self.take::<V>(key, ticket, &look, None) {
                Some((held, _)) => Shelf::Hit { held, due: false },
                None => Shelf::Miss(Room::Nowhere),
            },
        })
    }

    async fn load<V>(&self, source: impl Source<V>) -> Result<Option<V>, Error> {
        self.counters.add(Count::Load);
        let loaded = AssertUnwindSafe(source.load()).catch_unwind().await.unwrap_or(Err(Error::Panicked));
        if loaded.is_err() {
            self.counters.add(Count::LoadError);
        }
        loaded
    }

    /// Stores what was fetched, where it may be.
    async fn store<V: Cached>(&self, key: &str, ticket: Ticket, room: Room, value: Option<V>) -> Result<Held, Error> {
        let (bytes, size) = self.encoded(value.as_ref())?;
        let held: Held = value.map(|value| Arc::new(value) as _);
        let (stored, life) = self.to_store(bytes, held.is_none());
        let stored = (!life.is_zero()).then_some((stored, life));
        let (may_keep, refresh) = match room {
            Room::Nowhere => (false, None),
            Room::Here => (true, self.settings.due_after(self.settings.local_life).filter(|_| self.shared.is_none())),
            Room::Behind(fence) => (self.settle(key, &fence, stored).await, self.settings.due_after(life)),
        };
        if may_keep {
            self.keep(key, ticket, held.clone(), size, refresh);
        }
        Ok(held)
    }

    /// Stores a fetched value in Redis. Says whether it may be stored here as well.
    async fn settle(&self, key: &str, fence: &Fence, stored: Option<(Bytes, Duration)>) -> bool {
        let Some(shared) = &self.shared else { return true };
        match self.noted(shared.settle(key, fence, stored, Otherwise::Keep).await) {
            Ok(stood) => {
                self.counters.add(if stood { Count::SharedSet } else { Count::Refused });
                stood
            }
            Err(_) => true,
        }
    }

    /// Stores a value here, if the ticket is still good. `refresh` is after how long it should be fetched anew.
    fn keep(&self, key: &str, ticket: Ticket, held: Held, size: usize, refresh: Option<Duration>) {
        let now = Instant::now();
        if let Some(entry) = self.entry(held, size, refresh, now)
            && self.may_use_local(now)
            && self.local.fill(key, ticket, entry)
        {
            self.counters.add(Count::LocalSet);
        }
    }

    /// What the tier in the process keeps of a value; nothing if it lives no time.
    fn entry(&self, held: Held, size: usize, refresh: Option<Duration>, now: Instant) -> Option<Entry> {
        let life = self.settings.life(held.is_none(), self.settings.local_life);
        let expires = now + self.settings.jittered(life);
        (!life.is_zero()).then_some(Entry { value: held, size, expires, refresh: refresh.map(|after| now + after) })
    }

    /// What is to stand in Redis, and for how long.
    pub(crate) fn to_store(&self, bytes: Option<Bytes>, is_absent: bool) -> (Bytes, Duration) {
        let life = self.settings.life(is_absent, self.settings.shared_life);
        (form::stored(bytes, self.settings.compress_above), self.settings.jittered(life))
    }

    /// How long a value lives in Redis.
    pub(crate) fn shared_life(&self) -> Duration {
        self.settings.jittered(self.settings.shared_life)
    }

    /// The bytes of a value, and how large it is; without a shared tier nobody needs the bytes.
    pub(crate) fn encoded<V: Cached>(&self, value: Option<&V>) -> Result<(Option<Bytes>, usize), Error> {
        let Some(value) = value else { return Ok((None, 0)) };
        if self.shared.is_none() {
            return Ok((None, size_of::<V>()));
        }
        let bytes = value.encode(self.settings.encoding).map_err(|why| Error::Unwritable { kind: type_name::<V>(), why })?;
        let size = bytes.len();
        Ok((Some(bytes), size))
    }

    /// Fetches a value anew that is good still, once at a time.
    pub(crate) fn refresh_in_background<V: Cached>(self: &Arc<Self>, key: &str, source: impl Source<V>) {
        let (key, ticket) = (Arc::<str>::from(key), self.local.ticket(key));
        self.due_no_more(&key, ticket);
        let refresh = || Arc::clone(self).refresh(Arc::clone(&key), ticket, source);
        tokio::spawn(self.flights.join::<Ahead<V>, _>(&key, ticket, refresh));
    }

    /// Whoever reads the value next need not fetch it anew.
    fn due_no_more(&self, key: &str, ticket: Ticket) {
        if let Some(entry) = self.local.get(key, Instant::now()) {
            self.local.fill(key, ticket, Entry { refresh: None, ..entry });
        }
    }

    async fn refresh<V: Cached>(self: Arc<Self>, key: Arc<str>, ticket: Ticket, source: impl Source<V>) -> Result<Held, Error> {
        let room = match &self.shared {
            None => Room::Here,
            Some(shared) => match self.noted(shared.hold(&key).await)? {
                Some(fence) => Room::Behind(fence),
                // Another process is at it, or the value is gone.
                None => return Ok(None),
            },
        };
        self.counters.add(Count::Refresh);
        let value = self.load(source).await?;
        self.store(&key, ticket, room, value).await
    }

    pub(crate) async fn set<V: Cached>(&self, key: &str, value: V) -> Result<Arc<V>, Error> {
        let ticket = self.local.ticket(key);
        let (bytes, size) = self.encoded(Some(&value))?;
        let (stored, life) = self.to_store(bytes, false);
        if let Some(shared) = &self.shared {
            let set = self.noted(shared.set(key, stored, life).await);
            set.inspect_err(|_| self.local.drop_key(key))?;
            self.counters.add(Count::SharedSet);
        }
        let value = Arc::new(value);
        self.replace(key, ticket, Arc::clone(&value), size, life);
        Ok(value)
    }

    pub(crate) async fn write_through<V, E>(&self, key: &str, write: impl Future<Output = Result<V, E>> + Send) -> Result<Arc<V>, Error>
    where
        V: Cached,
        E: Into<SourceError>,
    {
        let fence = self.close(key).await;
        self.local.drop_key(key);
        let ticket = self.local.ticket(key);
        let written = write.await.map_err(source_error);
        let (value, bytes, size) = match written.and_then(|value| self.encoded(Some(&value)).map(|(bytes, size)| (value, bytes, size))) {
            Ok(written) => written,
            Err(error) => {
                self.open(key, fence, None).await;
                self.local.drop_key(key);
                return Err(error);
            }
        };
        let (stored, life) = self.to_store(bytes, false);
        let value = Arc::new(value);
        if self.open(key, fence, Some((stored, life))).await {
            self.replace(key, ticket, Arc::clone(&value), size, life);
        } else {
            self.local.drop_key(key);
        }
        Ok(value)
    }

    /// A writer's fence; none if there is no shared tier or it failed.
    async fn close(&self, key: &str) -> Option<Fence> {
        let shared = self.shared.as_ref()?;
        self.noted(shared.close(key).await).ok()
    }

    /// The same with the value in it that will be written.
    pub(crate) async fn close_with(&self, key: &str, stored: &Bytes, life: Duration) -> Option<Fence> {
        let shared = self.shared.as_ref()?;
        self.noted(shared.close_with(key, stored, life).await).ok()
    }

    /// Ends what a writer's fence began. Says whether the value may be stored here.
    pub(crate) async fn open(&self, key: &str, fence: Option<Fence>, stored: Option<(Bytes, Duration)>) -> bool {
        let Some(shared) = &self.shared else { return true };
        let stood = match fence {
            Some(fence) => shared.settle(key, &fence, stored, Otherwise::Remove).await,
            None => shared.remove(key).await.map(|_| false),
        };
        let stood = self.noted(stood).unwrap_or(false);
        self.counters.add(if stood { Count::SharedSet } else { Count::Refused });
        stood
    }

    /// Puts a new value in the place of the one here.
    pub(crate) fn replace<V: Cached>(&self, key: &str, ticket: Ticket, value: Arc<V>, size: usize, life: Duration) {
        let now = Instant::now();
        let life = if self.shared.is_some() { life } else { self.settings.local_life };
        let refresh = self.settings.due_after(life);
        match self.entry(Some(value), size, refresh, now).filter(|_| self.may_use_local(now)) {
            Some(entry) => {
                if self.local.replace(key, ticket, entry) {
                    self.counters.add(Count::LocalSet);
                }
            }
            None => self.local.drop_key(key),
        }
    }

    pub(crate) async fn delete(&self, key: &str) -> Result<bool, Error> {
        let removed = match &self.shared {
            Some(shared) => self.noted(shared.remove(key).await),
            None => Ok(false),
        };
        self.counters.add(Count::SharedInvalidation);
        self.counters.add(Count::LocalInvalidation);
        self.local.drop_key(key);
        Ok(removed?)
    }

    /// Counts what fails, and says it where people look for it.
    fn noted<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        result.inspect_err(|fault| {
            self.counters.add(Count::SharedError);
            tracing::debug!(kind = fault.kind.name(), text = fault.text, "the shared cache failed");
        })
    }
}

/// A value as its type, unless it is of another one.
fn typed<V: Cached>(held: Held) -> Result<Option<Arc<V>>, Arc<dyn Any + Send + Sync>> {
    held.map(Arc::downcast).transpose()
}
