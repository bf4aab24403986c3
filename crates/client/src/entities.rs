//! The cache of a repository: entities by id, and lists and counts of them, under the keys that the preset `entity-repository` drops.
//!
//! | | under | is stale when |
//! |---|---|---|
//! | an entity | `{prefix}{entity}:{id}` | it is changed or deleted |
//! | a list | `{prefix}{entity}:list:{name}` | any of its kind is made, changed or deleted |
//! | a count | `{prefix}{entity}:count:{name}` | the same |
//!
//! Which lists an entity is in, and was in before its change, is not worth knowing: all of its kind go. What is not here: talking to the database, and
//! publishing. Commit first, then publish what [`Entities::updated`] and its like return.

use std::fmt::Display;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use unstale_events::glob::escape;

use crate::cache::{Cached, Error, Source, SourceError, TieredCache};
use crate::publisher::Publish;

/// One kind of entity in a cache, with its lists and counts. Clones share the cache.
///
/// ```no_run
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct User { name: String }
/// # #[derive(Clone)] struct Database;
/// # impl Database {
/// #     async fn user(&self, id: u64) -> Result<Option<User>, std::io::Error> { Ok(None) }
/// #     async fn active_users(&self) -> Result<Vec<User>, std::io::Error> { Ok(vec![]) }
/// #     async fn rename(&self, id: u64, name: &str) -> Result<User, std::io::Error> { Ok(User { name: name.to_owned() }) }
/// # }
/// # async fn example(database: Database) -> Result<(), Box<dyn std::error::Error>> {
/// use unstale_client::{Entities, Publisher, PublisherSettings, Settings, TieredCache};
///
/// let cache = TieredCache::connect("redis://127.0.0.1:6379", Settings::default())?;
/// let publisher = Publisher::connect("redis://127.0.0.1:6379", PublisherSettings::default())?;
/// let users = Entities::<User>::new(&cache, "atp:cache:", "user");
///
/// let (one, all) = (database.clone(), database.clone());
/// let user = users.get_or_load(7, move || async move { one.user(7).await }).await?;
/// let active = users.list("active", move || async move { all.active_users().await }).await?;
///
/// users.write_through(7, database.rename(7, "Ada")).await?;
/// publisher.send(users.updated(7)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Entities<E> {
    cache: TieredCache,
    entity: Arc<str>,
    /// What all keys of the kind begin with: `{prefix}{entity}:`.
    beginning: Arc<str>,
    kind: PhantomData<fn() -> E>,
}

impl<E> Clone for Entities<E> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), entity: Arc::clone(&self.entity), beginning: Arc::clone(&self.beginning), kind: PhantomData }
    }
}

impl<E> Entities<E> {
    /// Entities of this name in a cache, under a prefix: the preset's setting of that name, `atp:cache:` unless it is set otherwise.
    pub fn new(cache: &TieredCache, prefix: &str, entity: &str) -> Self {
        let beginning = format!("{prefix}{entity}:").into();
        Self { cache: cache.clone(), entity: entity.into(), beginning, kind: PhantomData }
    }

    /// The key of an entity.
    pub fn key(&self, id: impl Display) -> String {
        format!("{}{id}", self.beginning)
    }

    /// The key of a list.
    pub fn list_key(&self, name: impl Display) -> String {
        format!("{}list:{name}", self.beginning)
    }

    /// The key of a count.
    pub fn count_key(&self, name: impl Display) -> String {
        format!("{}count:{name}", self.beginning)
    }

    /// Drops from this process, at once, what a change of this entity makes stale. The event that is published afterwards does the same everywhere, and
    /// deletes in Redis: this is for a process that wants to read its own writes before it has heard of them.
    pub fn drop_here(&self, id: impl Display) {
        self.cache.drop_key(&self.key(id));
        for pattern in self.patterns() {
            self.cache.drop_pattern(&pattern);
        }
    }

    /// All lists and all counts, as Redis globs.
    fn patterns(&self) -> [String; 2] {
        ["list:*", "count:*"].map(|end| {
            let mut pattern = String::new();
            escape(&self.beginning, &mut pattern);
            pattern + end
        })
    }

    /// Says that an entity was made.
    pub fn created(&self, id: impl Display) -> Publish {
        self.event("EntityCreated", id)
    }

    /// Says that an entity was changed.
    pub fn updated(&self, id: impl Display) -> Publish {
        self.event("EntityUpdated", id)
    }

    /// Says that an entity was deleted. Of high priority.
    pub fn deleted(&self, id: impl Display) -> Publish {
        self.event("EntityDeleted", id)
    }

    /// Says that so many were changed that all of the kind goes, lists and counts with them. Of low priority.
    pub fn cleared(&self) -> Publish {
        Publish::attributes("EntityTypeCleared", &json!({ "entity": &*self.entity }))
    }

    fn event(&self, kind: &str, id: impl Display) -> Publish {
        Publish::attributes(kind, &json!({ "entity": &*self.entity, "entity_id": id.to_string() }))
    }
}

impl<E: Serialize + DeserializeOwned + Send + Sync + 'static> Entities<E> {
    /// An entity, from the tiers or else from its source; see [`TieredCache::get_or_load`].
    ///
    /// # Errors
    /// [`Error::Source`] if the source fails.
    pub async fn get_or_load(&self, id: impl Display, source: impl Source<E>) -> Result<Option<Arc<E>>, Error> {
        self.cache.get_or_load(&self.key(id), source).await
    }

    /// A list of entities, by a name that says which: of a filter, an order, a page. In the same way.
    ///
    /// # Errors
    /// [`Error::Source`] if the source fails.
    pub async fn list<L, F, X>(&self, name: impl Display, source: L) -> Result<Arc<Vec<E>>, Error>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<Vec<E>, X>> + Send,
        X: Into<SourceError> + Send,
    {
        self.whole(self.list_key(name), source).await
    }

    /// How many entities there are of those that this name says. In the same way.
    ///
    /// # Errors
    /// [`Error::Source`] if the source fails.
    pub async fn count<L, F, X>(&self, name: impl Display, source: L) -> Result<u64, Error>
    where
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<u64, X>> + Send,
        X: Into<SourceError> + Send,
    {
        self.whole(self.count_key(name), source).await.map(|count| *count)
    }

    /// Changes an entity in the database by `write`, which returns it as it is then, and stores it; see [`TieredCache::write_through`]. Lists and counts are
    /// dropped here, and everywhere by the event that is to be published then.
    ///
    /// # Errors
    /// [`Error::Source`] if `write` fails.
    pub async fn write_through<X>(&self, id: impl Display, write: impl Future<Output = Result<E, X>> + Send) -> Result<Arc<E>, Error>
    where
        X: Into<SourceError>,
    {
        let written = self.cache.write_through(&self.key(id), write).await;
        for pattern in self.patterns() {
            self.cache.drop_pattern(&pattern);
        }
        written
    }

    /// A value that there always is.
    async fn whole<V, L, F, X>(&self, key: String, source: L) -> Result<Arc<V>, Error>
    where
        V: Cached + Default,
        L: FnOnce() -> F + Send + 'static,
        F: Future<Output = Result<V, X>> + Send,
        X: Into<SourceError> + Send,
    {
        let source = move || async move { source().await.map(Some) };
        Ok(self.cache.get_or_load(&key, source).await?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use unstale_events::{Event, Glob, Invalidation, Priority, TargetKind};

    use super::*;
    use crate::{Settings, routes};

    /// What the preset drops for an event, and whether that takes a key.
    fn takes(event: &Publish, key: &str) -> bool {
        let invalidation = routed(event);
        let is_taken = |kind, text: &str| match kind {
            TargetKind::Key => text == key,
            TargetKind::Pattern => Glob::new(text).matches(key.as_bytes()),
            TargetKind::Bump => false,
        };
        invalidation.targets.iter().any(|target| is_taken(target.kind, target.text))
    }

    fn routed(event: &Publish) -> Invalidation {
        let mut invalidation = Invalidation::default();
        routes(None, &["entity-repository"]).unwrap().route(&Event::decode(event.fields()).unwrap(), &mut invalidation);
        assert!(invalidation.reasons.is_empty(), "{invalidation:?}");
        invalidation
    }

    #[test]
    fn the_preset_drops_exactly_what_is_stale() {
        let cache = TieredCache::local(Settings::default());
        let (users, others) = (Entities::<u64>::new(&cache, "atp:cache:", "user"), Entities::<u64>::new(&cache, "atp:cache:", "user2"));
        let stale = |users: &Entities<u64>| [users.key(7), users.list_key("active"), users.count_key("all")];
        for event in [users.created(7), users.updated(7), users.deleted(7), users.cleared()] {
            assert!(stale(&users).iter().all(|key| takes(&event, key)), "{event:?}");
            assert!(!stale(&others).iter().any(|key| takes(&event, key)), "{event:?}");
        }
        assert!(!takes(&users.updated(7), &users.key(8)) && takes(&users.cleared(), &users.key(8)));
        let urgency = [users.updated(7), users.deleted(7), users.cleared()].map(|event| routed(&event).priority);
        assert_eq!(urgency, [Priority::Normal, Priority::High, Priority::Low]);
    }

    #[tokio::test]
    async fn what_is_dropped_here_is_the_same() {
        let cache = TieredCache::local(Settings::default());
        // A name that is a pattern, taken at its word.
        let (users, others) = (Entities::<u64>::new(&cache, "p:", "use*"), Entities::<u64>::new(&cache, "p:", "user"));
        for kind in [&users, &others] {
            for id in [7, 8] {
                kind.get_or_load(id, move || std::future::ready(Ok::<_, std::io::Error>(Some(id)))).await.unwrap();
            }
            kind.list("all", || std::future::ready(Ok::<_, std::io::Error>(vec![7, 8]))).await.unwrap();
            kind.count("all", || std::future::ready(Ok::<_, std::io::Error>(2))).await.unwrap();
        }
        users.drop_here(7);
        let kept =
            async |key: String| (cache.get::<u64>(&key).await.unwrap().is_some(), cache.get::<Vec<u64>>(&key).await.unwrap().is_some());
        assert_eq!(kept(users.key(7)).await, (false, false));
        assert_eq!(kept(users.list_key("all")).await, (false, false));
        assert_eq!(kept(users.count_key("all")).await, (false, false));
        assert_eq!(kept(users.key(8)).await, (true, false));
        assert_eq!(kept(others.list_key("all")).await, (false, true));
        let written = users.write_through(8, async { Ok::<_, std::io::Error>(9) }).await.unwrap();
        assert_eq!((*written, cache.get::<u64>(&users.key(8)).await.unwrap().as_deref()), (9, Some(&9)));
    }
}
