//! How an API instance hears what to drop: by the channel, which is fast and forgets, and by the log, which is complete.
//!
//! Notices are numbered without gaps. Whoever has heard number n and then hears n + 2, or nothing for a while, looks into the log from his
//! own position on. If that position isn't there any more, nobody can say what was missed, and the whole L1 is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use unstale_connect::{Client, Fault, Server, Subscription};
use unstale_events::notice::{Notice, Position};
use unstale_events::{Entry, EntryId};

use super::api::Api;
use super::store::Store;
use super::{Trouble, store};

/// The log of the notices, and the channel that carries them: both have this name.
pub(super) const NOTICES: &str = "unstale:notices";
/// How long silence on the channel is believed.
const BELIEVE_SILENCE: Duration = Duration::from_secs(30);
/// Between two attempts to subscribe.
const PAUSE: Duration = Duration::from_millis(100);
/// Entries of the log that are read at a time.
const PAGE: usize = 1000;

/// How far an instance has heard, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The number of the last notice that was applied.
    pub(super) seq: AtomicU64,
    /// How often a notice was missing on the channel.
    pub(super) gaps: AtomicU64,
    /// How often the whole L1 was dropped because the log couldn't tell what was missed.
    pub(super) flushes: AtomicU64,
}

/// The ear of one instance.
pub(super) struct Hearing {
    server: Server,
    messages: Subscription,
    log: Client,
    at: Position,
    progress: Arc<Progress>,
}

impl Hearing {
    /// Begins to listen. Notices of before concern nobody here: the L1 is empty.
    pub(super) async fn begin(url: &str) -> Result<Self, Trouble> {
        let server = store::server(url)?;
        let messages = Subscription::open(&server, &[NOTICES]).await?;
        let log = Store::open(url, "demo-api-log").await?.into_client();
        let at = newest(&log).await?;
        let progress = Arc::new(Progress::default());
        progress.seq.store(at.seq, Ordering::Relaxed);
        Ok(Self { server, messages, log, at, progress })
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Applies notices for ever.
    pub(super) async fn run(mut self, api: Arc<Api>) {
        loop {
            let heard = match timeout(BELIEVE_SILENCE, self.messages.next()).await {
                Ok(Ok(message)) => self.hear(&api, &message.payload).await,
                Ok(Err(_)) => self.subscribe_again(&api).await,
                Err(_) => self.catch_up(&api).await,
            };
            if heard.is_err() {
                sleep(PAUSE).await;
            }
        }
    }

    /// What was published while nobody listened is in the log.
    async fn subscribe_again(&mut self, api: &Api) -> Result<(), Fault> {
        self.messages = Subscription::open(&self.server, &[NOTICES]).await?;
        self.catch_up(api).await
    }

    async fn hear(&mut self, api: &Api, message: &[u8]) -> Result<(), Fault> {
        let notice = Notice::from_json(message).unwrap_or_default();
        match notice.position() {
            Some(position) if position.seq == self.at.seq + 1 => self.apply(api, position, &notice),
            Some(position) if position.seq <= self.at.seq => {}
            _ => {
                self.progress.gaps.fetch_add(1, Ordering::Relaxed);
                self.catch_up(api).await?;
            }
        }
        Ok(())
    }

    /// Reads the log from the own position to its end.
    async fn catch_up(&mut self, api: &Api) -> Result<(), Fault> {
        loop {
            let page = self.log.xrange(NOTICES, self.at.id, None, PAGE).await?;
            let known = usize::from(self.at != Position::START);
            if known == 1 && page.first().and_then(position_of) != Some(self.at) || !self.follow(api, &page[known.min(page.len())..]) {
                return self.start_over(api).await;
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Applies these entries; `false` if one of them doesn't follow the one before.
    fn follow(&mut self, api: &Api, entries: &[Entry]) -> bool {
        entries.iter().all(|entry| {
            let Some(position) = position_of(entry).filter(|position| position.seq == self.at.seq + 1) else { return false };
            let notice = field(entry, b"notice").and_then(|text| Notice::from_json(text).ok());
            self.apply(api, position, &notice.unwrap_or_default());
            true
        })
    }

    async fn start_over(&mut self, api: &Api) -> Result<(), Fault> {
        let newest = newest(&self.log).await?;
        api.flush();
        self.progress.flushes.fetch_add(1, Ordering::Relaxed);
        self.move_to(newest);
        Ok(())
    }

    /// A notice in a form that isn't known may say anything: then everything is dropped.
    fn apply(&mut self, api: &Api, position: Position, notice: &Notice) {
        if notice.is_known() && notice.flush.is_empty() {
            for dropped in &notice.drop {
                dropped.keys.iter().for_each(|key| api.drop_key(key));
                dropped.patterns.iter().for_each(|pattern| api.drop_pattern(pattern));
            }
        } else {
            api.flush();
        }
        self.move_to(position);
    }

    fn move_to(&mut self, position: Position) {
        self.at = position;
        self.progress.seq.store(position.seq, Ordering::Relaxed);
    }
}

/// Where the log ends now.
pub(super) async fn newest(log: &Client) -> Result<Position, Fault> {
    let entries = log.xrevrange(NOTICES, None, EntryId::ZERO, 1).await?;
    Ok(entries.first().and_then(position_of).unwrap_or_default())
}

fn position_of(entry: &Entry) -> Option<Position> {
    let seq = std::str::from_utf8(field(entry, b"seq")?).ok()?.parse().ok()?;
    Some(Position { id: entry.id, seq })
}

fn field<'a>(entry: &'a Entry, name: &[u8]) -> Option<&'a [u8]> {
    entry.fields.as_ref()?.iter().find(|(own, _)| own == name).map(|(_, value)| &value[..])
}
