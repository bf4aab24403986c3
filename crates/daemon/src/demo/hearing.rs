//! How an API instance hears what to drop: it follows `GET /v1/notices` of the sidecar beside it. When the stream ends it comes back with the position of what
//! it heard last, and is told whether that is where it goes on. Until then its L1 isn't trusted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use unstale_events::notice::{Notice, Position};

use super::Trouble;
use super::api::Api;
use crate::web::{Connection, Event};

/// How long silence is believed. There is a heartbeat every five seconds.
const BELIEVE_SILENCE: Duration = Duration::from_secs(15);
/// Between two attempts to listen.
const PAUSE: Duration = Duration::from_millis(100);

/// How far an instance has heard, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The number of the last notice that was applied.
    pub(super) seq: AtomicU64,
    /// How often the whole L1 was dropped.
    pub(super) flushes: AtomicU64,
}

/// The ear of one instance.
pub(super) struct Hearing {
    sidecar: SocketAddr,
    api: Arc<Api>,
    /// The id of the last event.
    last: Option<String>,
    progress: Arc<Progress>,
}

impl Hearing {
    pub(super) fn new(sidecar: SocketAddr, api: Arc<Api>) -> Self {
        Self { sidecar, api, last: None, progress: Arc::default() }
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Applies notices for ever.
    pub(super) async fn run(mut self) {
        loop {
            if let Err(trouble) = self.listen().await {
                eprintln!("unstale demo-api: {trouble}; listening again");
            }
            self.api.trust(false);
            sleep(PAUSE).await;
        }
    }

    async fn listen(&mut self) -> Result<(), Trouble> {
        let mut events = Connection::open(self.sidecar).await?.follow("/v1/notices", self.last.as_deref()).await?;
        loop {
            let event = timeout(BELIEVE_SILENCE, events.next()).await.map_err(|_| Trouble("the sidecar says nothing".to_owned()))??;
            self.hear(&event);
        }
    }

    fn hear(&mut self, event: &Event) {
        let resumed = event.kind == "hello" && event.data == r#"{"resumed":true}"#;
        let notice = if event.kind == "drop" { Notice::from_json(event.data.as_bytes()).unwrap_or_default() } else { Notice::default() };
        if notice.is_known() {
            for dropped in &notice.drop {
                dropped.keys.iter().for_each(|key| self.api.drop_key(key));
                dropped.patterns.iter().for_each(|pattern| self.api.drop_pattern(pattern));
            }
        } else if !resumed && event.kind != "beat" {
            // A flush, lost history, or a form that isn't known and may say anything.
            self.api.flush();
            self.progress.flushes.fetch_add(1, Ordering::Relaxed);
        }
        if let Ok(Position { seq, .. }) = event.id.parse() {
            self.progress.seq.store(seq, Ordering::Relaxed);
        }
        self.last = Some(event.id.clone());
        if !resumed {
            self.api.trust(true); // else what was missed comes first
        }
    }
}
