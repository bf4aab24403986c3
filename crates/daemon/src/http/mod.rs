//! The HTTP server: numbers and health for those who watch, events and invalidations for those who can't or won't speak Redis.
//!
//! Handlers check what they are given, ask the router what it means, and hand it to a stream (through the publisher's connection) or to the loop
//! (through its handle). Nothing is decided or kept here: what was answered with 202 is in the stream.
//!
//! - `guard`: who may ask at all; every request passes it.
//! - `body`: bodies, within bounds.
//! - `reports`: metrics, health, stats, explain, and the page that lists them all.
//! - `events`, `entry`, `publish`: events checked, written as stream entries, added.
//! - `invalidate`: invalidations, by way of the stream or at once.
//! - `notices`: what receivers hear, as a stream that doesn't end.
//! - `listener`: the socket.
//! - `error`: every refusal has one shape.
//! - `trial`: what a body leads to, told without doing it.

mod body;
mod dead_letters;
mod entry;
mod error;
mod events;
mod guard;
mod invalidate;
mod listener;
mod notices;
mod overview;
mod page;
mod publish;
mod reports;
#[cfg(test)]
mod tests;
mod trial;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router as Paths;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use unstale_connect::{Client, Secret};
use unstale_notices::{Hub, Log};
use unstale_pipeline::handle::Handle;
use unstale_router::Router;
use unstale_source::Names;

use crate::config::{Config, Unrouted};
use error::Refusal;
pub use overview::Lookout;

pub use trial::Trial;

/// How many bodies are held at once; further requests with a body wait for a place.
const BODIES: usize = 16;
/// How long requests under way may take to finish when the server is stopped.
const LINGER: Duration = Duration::from_secs(1);

/// What the handlers work with.
#[derive(Debug)]
pub struct App {
    /// Says what an event means.
    pub router: Arc<Router>,
    /// The way to the loop.
    pub handle: Handle,
    /// The connection that adds to the streams; nothing on it may block.
    pub publisher: Client,
    /// Looks at what is shared in Redis, for people.
    pub lookout: Lookout,
    /// This process's name among the sidecars.
    pub instance: String,
    /// The names of the streams.
    pub names: Names,
    /// What receivers of notices hear.
    pub hub: Arc<Hub>,
    /// For receivers that were away for longer than the hub remembers.
    pub log: Log,
    /// What is let in.
    pub rules: Rules,
}

/// What is let in: the settings `http.*`, and what else decides whether an event can be carried out.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Names that `Host` may be, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    /// The bearer token that every request must show, if there is one.
    pub token: Option<Secret>,
    /// The largest body, in bytes.
    pub body: usize,
    /// The largest stream entry, in bytes: `limits.entry`.
    pub entry: usize,
    /// Whether events that no route names become dead letters: `bus.unrouted`.
    pub unrouted_is_dead: bool,
    /// How many may follow the notices at once; the hub counts them.
    pub subscribers: usize,
}

impl Rules {
    /// The rules that a configuration sets.
    ///
    /// # Errors
    /// If the token's file can't be read; the text shows nothing of what is in it.
    pub fn new(config: &Config) -> Result<Self, String> {
        let token = config.http.token().map_err(|error| format!("the file that `http.token_file` names {error}"))?;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok(Self {
            hosts: config.http.hosts.clone(),
            token,
            body: size(config.http.body),
            entry: size(config.limits.entry),
            unrouted_is_dead: config.bus.unrouted == Unrouted::DeadLetter,
            subscribers: config.http.subscribers,
        })
    }
}

/// What every handler can reach.
#[derive(Debug, Clone)]
struct Shared {
    app: Arc<App>,
    bodies: Arc<Semaphore>,
    /// Places for those who wait for every instance.
    waiting: Arc<Semaphore>,
}

/// A server that listens. Dropped, it goes on until the runtime ends.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Serves everything on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// If the address can't be listened on, or others than this host could reach it and there is no token.
    pub async fn start(bind: SocketAddr, app: App) -> io::Result<Self> {
        if app.rules.token.is_none() && !bind.ip().to_canonical().is_loopback() {
            let text = format!("{bind} can be reached from other hosts: name a token in `http.token_file`, or bind to 127.0.0.1");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Self::listen(bind, all(app)).await
    }

    /// Serves health and metrics alone, to anyone who can reach the address.
    ///
    /// # Errors
    /// If the address can't be listened on.
    pub async fn start_probes(bind: SocketAddr, handle: Handle) -> io::Result<Self> {
        Self::listen(bind, with_fallbacks(reports::probes(handle))).await
    }

    async fn listen(bind: SocketAddr, paths: Paths) -> io::Result<Self> {
        let unusable = |error: io::Error| io::Error::new(error.kind(), format!("can't listen on {bind}: {error}; set another address"));
        let listener = TcpListener::bind(bind).await.map_err(unusable)?;
        let address = listener.local_addr().map_err(unusable)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = axum::serve(listener::Patient(listener), paths).with_graceful_shutdown(async {
            // Without a stop, because the server was dropped, it goes on.
            if stopped.await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        let task = tokio::spawn(async { serving.await });
        Ok(Self { address, stop, task })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and gives those under way a second.
    pub async fn stop(self) {
        let Self { stop, mut task, .. } = self;
        // It may have ended by itself.
        let _ = stop.send(());
        if tokio::time::timeout(LINGER, &mut task).await.is_err() {
            task.abort();
        }
    }
}

/// All paths, behind the guard.
fn all(app: App) -> Paths {
    let limit = app.rules.body;
    let (handle, shared) = (
        app.handle.clone(),
        Shared { app: Arc::new(app), bodies: Arc::new(Semaphore::new(BODIES)), waiting: Arc::new(Semaphore::new(invalidate::WAITING)) },
    );
    let paths = Paths::new()
        .route("/", get(page::index))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::script))
        .route("/v1/overview", get(overview::overview))
        .route("/v1/dead-letters/replay", post(dead_letters::replay))
        .route("/v1/dead-letters/drop", post(dead_letters::drop))
        .route("/v1/stats", get(reports::stats))
        .route("/v1/events", post(events::add))
        .route("/v1/invalidate", post(invalidate::invalidate))
        .route("/v1/explain", post(reports::explain))
        .route("/v1/notices", get(notices::follow))
        .with_state(shared.clone())
        .merge(reports::probes(handle))
        .layer(DefaultBodyLimit::max(limit));
    with_fallbacks(paths).layer(middleware::from_fn_with_state(shared, guard::guard))
}

fn with_fallbacks(paths: Paths) -> Paths {
    let unknown = async || Refusal::not_found();
    let method = async || Refusal::method_not_allowed();
    paths.fallback(unknown).method_not_allowed_fallback(method)
}
