//! Events, on their way to the sidecars: typed, confirmed by Redis, urgent ones on a stream of their own.
//!
//! An event is published when Redis has answered; nothing is kept here for later. While Redis is away, a call tries again for a bounded time and then fails:
//! who can't afford to lose an event writes it to an outbox with his change, and publishes it from there. A call whose answer was lost is repeated, so an
//! event may be published twice, which costs a delete.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use unstale_connect::{Client, Fault, FaultKind, Place, Role, Site};
use unstale_events::catalogue::CacheInvalidationRequested;
use unstale_events::{EntryId, Event, EventType, Fields, Invalidation, Priority, publish};
use unstale_router::{Input, Router, Source, compile};

/// The first pause between two attempts, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// The settings of a [`Publisher`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherSettings {
    /// What all names begin with, as in the sidecar's configuration; `unstale`.
    pub namespace: String,
    /// How many events may be on their way at once; 1024. The next one waits for its turn.
    pub in_flight: usize,
    /// For how long one event is tried, its turn included; 5 s.
    pub patience: Duration,
    /// How many replicas must have an event before it counts as published, and for how long that is waited for. Off by default. Everything behind it on
    /// the same stream waits as long.
    pub replicas: Option<(u32, Duration)>,
}

impl Default for PublisherSettings {
    fn default() -> Self {
        Self { namespace: "unstale".to_owned(), in_flight: 1024, patience: Duration::from_secs(5), replicas: None }
    }
}

/// Why an event counts as not published.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// It can't be written as an entry.
    #[error("{0}")]
    Unwritable(String),
    /// Redis didn't take it in time. It may have, if an answer was lost.
    #[error("Redis did not confirm the event: {0}")]
    Redis(Fault),
    /// So many others were on their way that its turn didn't come in time.
    #[error("{in_flight} events are on their way, and none was confirmed in time")]
    Overloaded {
        /// How many may be.
        in_flight: usize,
    },
    /// It is in the stream, but not safe from the loss of the master.
    #[error("event {id} is confirmed by {confirmed} replicas, {wanted} were asked for")]
    Replicas {
        /// Its entry.
        id: EntryId,
        /// How many have it.
        confirmed: u64,
        /// How many were asked for.
        wanted: u32,
    },
}

/// Which stream an event goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lane {
    /// The urgent one if the routes call the event critical; the ordinary one if there are none.
    #[default]
    ByRoutes,
    /// `<namespace>:events:critical`, which every sidecar reads at once.
    Urgent,
    /// `<namespace>:events`.
    Ordinary,
}

/// An event to be published.
#[derive(Debug, Clone)]
pub struct Publish {
    fields: Fields,
    lane: Lane,
}

impl Publish {
    /// A typed event, of a catalogue or one's own.
    ///
    /// # Errors
    /// If it doesn't serialize to a map.
    pub fn of<E: EventType>(event: &E) -> Result<Self, PublishError> {
        let fields = publish::to_fields(event, publish::Encoding::Json).map_err(|error| PublishError::Unwritable(error.to_string()))?;
        Ok(Self { fields, lane: Lane::ByRoutes })
    }

    /// An event of any type, with attributes that serialize to a map.
    ///
    /// # Errors
    /// If they don't.
    pub fn named(kind: &str, attributes: &impl Serialize) -> Result<Self, PublishError> {
        let unwritable = |why: String| PublishError::Unwritable(format!("event {kind} can't be written: {why}"));
        let data = serde_json::to_vec(attributes).map_err(|error| unwritable(error.to_string()))?;
        if data.first() != Some(&b'{') {
            return Err(unwritable("its attributes are no map".to_owned()));
        }
        Ok(Self::with(kind, data))
    }

    /// The same of attributes that are a map already.
    pub(crate) fn attributes(kind: &str, attributes: &serde_json::Value) -> Self {
        Self::with(kind, attributes.to_string().into_bytes())
    }

    fn with(kind: &str, data: Vec<u8>) -> Self {
        Self { fields: vec![field("type", kind), (Bytes::from_static(b"data"), data.into())], lane: Lane::ByRoutes }
    }

    #[cfg(test)]
    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// On the stream that nothing waits on.
    #[must_use]
    pub fn urgent(self) -> Self {
        self.on(Lane::Urgent)
    }

    /// On this stream.
    #[must_use]
    pub fn on(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// With an id that is carried to logs and notices.
    #[must_use]
    pub fn correlation_id(mut self, id: &str) -> Self {
        self.fields.push(field("correlation_id", id));
        self
    }
}

fn field(name: &str, value: &str) -> (Bytes, Bytes) {
    (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))
}

/// Publishes events. Clones share its connections.
///
/// ```no_run
/// use unstale_client::{Publish, Publisher, PublisherSettings, catalogue::llm_gateway::SpendUpdated};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let publisher = Publisher::connect("redis://127.0.0.1:6379", PublisherSettings::default())?;
/// publisher.publish(&SpendUpdated { key_hash: "3f7a".to_owned(), ..SpendUpdated::default() }).await?;
/// let own = Publish::named("ProductUpdated", &serde_json::json!({ "product_id": 7 }))?;
/// publisher.send(own.urgent()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Publisher {
    inner: Arc<Inner>,
}

struct Inner {
    settings: PublisherSettings,
    ordinary: Stream,
    urgent: Stream,
    turns: Semaphore,
    routes: Option<Router>,
}

/// A stream, on a connection of its own: urgent events never queue behind ordinary ones.
struct Stream {
    key: String,
    client: Client,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl Publisher {
    /// Begins to connect, and returns at once whether Redis is there or not. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the URL is none, or a file for TLS can't be used.
    pub fn connect(url: &str, settings: PublisherSettings) -> Result<Self, Fault> {
        Self::over(&crate::site(url)?, settings, None)
    }

    /// The same for a server that is already known, with routes that say which events are urgent.
    ///
    /// # Errors
    /// If a file for TLS can't be used.
    pub fn over(site: &Site, settings: PublisherSettings, routes: Option<Router>) -> Result<Self, Fault> {
        let stream = |key: String| {
            let client = site.client(Place::Key(&key), Role::Commands, "unstale-publisher")?;
            Ok::<_, Fault>(Stream { key, client })
        };
        let ordinary = stream(format!("{}:events", settings.namespace))?;
        let urgent = stream(format!("{}:events:critical", settings.namespace))?;
        let turns = Semaphore::new(settings.in_flight);
        Ok(Self { inner: Arc::new(Inner { settings, ordinary, urgent, turns, routes }) })
    }

    /// Publishes an event and waits until Redis has it.
    ///
    /// # Errors
    /// If it can't be written, or wasn't confirmed in time.
    pub async fn publish<E: EventType>(&self, event: &E) -> Result<EntryId, PublishError> {
        self.send(Publish::of(event)?).await
    }

    /// Asks for keys to be deleted and dropped everywhere, whatever the reason.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub async fn invalidate(&self, keys: &[&str]) -> Result<EntryId, PublishError> {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        self.publish(&CacheInvalidationRequested { keys, ..CacheInvalidationRequested::default() }).await
    }

    /// Publishes an event and waits until Redis has it.
    ///
    /// # Errors
    /// If it wasn't confirmed in time.
    pub async fn send(&self, event: Publish) -> Result<EntryId, PublishError> {
        let Inner { settings, turns, .. } = &*self.inner;
        let deadline = Instant::now() + settings.patience;
        let turn = timeout_at(deadline, turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(PublishError::Overloaded { in_flight: settings.in_flight }) };
        let stream = self.inner.stream(&event);
        let id = self.add(stream, &event.fields, deadline).await?;
        match settings.replicas {
            Some((wanted, within)) => confirmed(stream, id, wanted, within).await,
            None => Ok(id),
        }
    }

    /// Publishes events together, each stream's in their order; each has its own answer.
    pub async fn send_all(&self, events: Vec<Publish>) -> Vec<Result<EntryId, PublishError>> {
        join_all(events.into_iter().map(|event| self.send(event))).await
    }

    async fn add(&self, stream: &Stream, fields: &Fields, deadline: Instant) -> Result<EntryId, PublishError> {
        let [mut pause, longest] = PAUSES;
        loop {
            match stream.client.xadd(&stream.key, fields).await {
                Ok(id) => return Ok(id),
                Err(fault) if is_passing(fault.kind) && Instant::now() + pause < deadline => {
                    tracing::debug!(kind = fault.kind.name(), text = fault.text, "an event was not confirmed, it is tried again");
                }
                Err(fault) => return Err(PublishError::Redis(fault)),
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

impl Inner {
    fn stream(&self, event: &Publish) -> &Stream {
        let is_urgent = match event.lane {
            Lane::Urgent => true,
            Lane::Ordinary => false,
            Lane::ByRoutes => self.routes.as_ref().is_some_and(|routes| is_critical(routes, &event.fields)),
        };
        if is_urgent { &self.urgent } else { &self.ordinary }
    }
}

fn is_critical(routes: &Router, fields: &Fields) -> bool {
    let mut invalidation = Invalidation::default();
    Event::decode(fields).is_ok_and(|event| {
        routes.route(&event, &mut invalidation);
        invalidation.priority == Priority::Critical
    })
}

async fn confirmed(stream: &Stream, id: EntryId, wanted: u32, within: Duration) -> Result<EntryId, PublishError> {
    let confirmed = stream.client.wait(wanted, within).await.map_err(PublishError::Redis)?;
    if confirmed < wanted.into() { Err(PublishError::Replicas { id, confirmed, wanted }) } else { Ok(id) }
}

/// Whether trying again soon can help.
fn is_passing(kind: FaultKind) -> bool {
    use FaultKind::{Busy, Cluster, Loading, OutOfMemory, ReadOnly, Timeout, Unreachable};
    matches!(kind, Unreachable | Timeout | Loading | ReadOnly | OutOfMemory | Busy | Cluster)
}

/// The routes of a configuration file and of shipped presets, as the sidecar has them.
///
/// # Errors
/// All the mistakes in them.
pub fn routes(file: Option<&str>, presets: &[&str]) -> Result<Router, String> {
    let file = file.map(|text| Source { name: "routes".to_owned(), text: text.to_owned() });
    let presets = presets.iter().map(|preset| ((*preset).to_owned(), "the application".to_owned())).collect();
    compile(&Input { file, presets, ..Input::default() }).map_err(|problems| problems.to_string())
}
