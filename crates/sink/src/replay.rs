//! After a failover: what this process had deleted there lately is deleted once more, and announced once more.
//!
//! The server that takes over may lack what the one before it had confirmed last, so old values are back that were announced as gone, and
//! receivers may have read them again. What was deleted and when stands in the log of notices. Each process repeats its own part: it alone
//! knows until when it was talking to the old server, and many don't do the same work. The part of those who died meanwhile is left to the
//! holder of the lease.
//!
//! A notice that is still to be written when the log is read here is of a delivery under way, which sees the failover by itself (`apart`).
//! Caches in the database of the log need none of this: what they lost the log and the group have lost as well, so it is pending again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::time::sleep;
use unstale_batcher::{Batch, Batcher, Item, Settings, Source};
use unstale_connect::{Client, Fault};
use unstale_events::{Entry, EntryId, Notice, Priority, Target, TargetKind, Targets};

use crate::delivery::Delivery;
use crate::sink::Sink;

/// How many notices are read at a time: each may name a thousand keys.
const PAGE: usize = 64;
/// The pause before what failed is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// What the notices of a repetition name as the operation.
const OPERATION: &str = "failover";

/// Whose deletes are repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// This process's own.
    Own,
    /// Those of all who are not among these.
    Others(Vec<String>),
}

/// What a repetition did.
#[derive(Debug)]
pub struct Replay {
    /// The name of the server in the configuration.
    pub server: String,
    /// How many keys and patterns were repeated.
    pub targets: u64,
    /// What it cost and met; without states, for there are none to settle.
    pub costs: Delivery,
}

/// The watch over one server of caches.
#[derive(Debug)]
pub struct Replayer {
    sink: Arc<Sink>,
    site: usize,
    /// Of each store there, for they don't notice at the same time.
    failovers: Vec<watch::Receiver<u64>>,
    /// When the last one was noticed: what is repeated late is of the same time as what was repeated at once.
    noticed: Instant,
}

impl Sink {
    /// A watch over each server of caches whose deletes are to be repeated when it fails over.
    pub fn replayers(self: &Arc<Self>) -> Vec<Replayer> {
        let sites = self.places.sites().iter().enumerate().filter(|(_, site)| !site.failover_replay.is_zero());
        let replayer = |(index, site): (usize, &crate::place::Site)| {
            let failovers = site.stores().map(unstale_connect::Store::failovers).collect();
            Replayer { sink: Arc::clone(self), site: index, failovers, noticed: Instant::now() }
        };
        sites.map(replayer).collect()
    }
}

impl Replayer {
    /// A watch over the same server. What this one has seen that has too.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { sink: Arc::clone(&self.sink), site: self.site, failovers: self.failovers.clone(), noticed: self.noticed }
    }

    /// Waits until the server was seen to fail over. May be dropped: a failover that wasn't told is told the next time.
    pub async fn failed_over(&mut self) {
        let changes = self.failovers.iter_mut().map(|number| Box::pin(number.changed()));
        // They are never closed: the sink has the stores.
        let _ = select_all(changes).await;
        self.noticed = Instant::now();
    }

    /// Whether the failover is as long ago as what is repeated was before it.
    pub fn is_past(&self) -> bool {
        self.noticed.elapsed() > self.window()
    }

    /// Deletes and announces once more what was announced lately of the caches there. Tries until it is done; may be dropped, and then what
    /// is left is not repeated.
    pub async fn repeat(&mut self, whose: &Whose) -> Replay {
        // Whatever comes from now on is another failover.
        self.failovers.iter_mut().for_each(|number| drop(number.borrow_and_update()));
        let (sink, server) = (&self.sink, self.sink.places.sites()[self.site].server.clone());
        let mut replay = Replay { server, targets: 0, costs: Delivery::new(0, sink.caches.all().len()) };
        let mut left = None;
        loop {
            let range = match left {
                Some(range) => Ok(range),
                None => self.range().await,
            };
            let page = match range {
                Ok(range) => self.page(range, whose).await,
                Err(fault) => Err(fault),
            };
            match page {
                Ok((_, None)) => return replay,
                Ok((batches, next)) => {
                    for batch in batches {
                        replay.targets += batch.targets.iter().count() as u64;
                        self.deliver(&batch, &mut replay.costs).await;
                    }
                    left = next;
                }
                Err(fault) => {
                    replay.costs.trouble(crate::Stage::Announce, fault);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn deliver(&self, batch: &Batch, costs: &mut Delivery) {
        loop {
            let delivery = self.sink.deliver(batch).await;
            let is_done = delivery.is_complete();
            costs.add_costs(delivery);
            if is_done {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// What is to be repeated of the log: up to what is its newest entry now, for repeating adds to it.
    async fn range(&self) -> Result<(EntryId, EntryId), Fault> {
        let client = self.log();
        let since = client.time().await?.saturating_sub(self.window() + self.noticed.elapsed());
        let newest = client.xrevrange(&self.sink.config.notices, None, EntryId::ZERO, 1).await?;
        let from = EntryId { ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX), seq: 0 };
        Ok((from, newest.first().map_or(EntryId::ZERO, |entry| entry.id)))
    }

    /// How long before the failover what is repeated may have been deleted.
    fn window(&self) -> Duration {
        self.sink.places.sites()[self.site].failover_replay
    }

    fn log(&self) -> &Client {
        &self.sink.clients.scripts.ordinary
    }

    /// The next notices in the range, as batches; and what is left of it, if there were any.
    async fn page(&self, (from, to): (EntryId, EntryId), whose: &Whose) -> Result<(Vec<Batch>, Option<(EntryId, EntryId)>), Fault> {
        if from > to {
            return Ok((Vec::new(), None));
        }
        let entries = self.log().xrange(&self.sink.config.notices, from, Some(to), PAGE).await?;
        let notices = entries.iter().filter_map(notice).filter(|notice| self.is_of(notice, whose));
        let mut gathered = Batcher::new(Settings::default());
        for notice in notices {
            let targets = self.targets(&notice);
            if targets.iter().next().is_some() {
                let item = Item {
                    source: Source::Request(0),
                    priority: Priority::High,
                    targets: &targets,
                    dead: None,
                    correlation_id: notice.correlation_ids.first().map(String::as_str),
                    operation: Some(OPERATION),
                };
                gathered.push(item, Instant::now());
            }
        }
        gathered.close();
        let batches = std::iter::from_fn(|| gathered.pop(|_| true, Instant::now())).collect();
        Ok((batches, entries.last().map(|entry| (entry.id.next(), to))))
    }

    fn is_of(&self, notice: &Notice, whose: &Whose) -> bool {
        match whose {
            Whose::Own => notice.origin == self.sink.config.origin,
            Whose::Others(known) => !known.contains(&notice.origin),
        }
    }

    /// What a notice names that lies there, as far as the routes of today allow it.
    fn targets(&self, notice: &Notice) -> Targets {
        let (caches, mut targets) = (&self.sink.caches, Targets::default());
        for drop in &notice.drop {
            let cache = caches.by_name(&drop.cache).filter(|cache| self.sink.places.site_of(*cache) == Some(self.site));
            let Some(cache) = cache else { continue };
            for text in drop.keys.iter().filter(|key| caches.check_key(cache, key).is_ok()) {
                targets.push(Target { cache, kind: TargetKind::Key, text });
            }
            for text in drop.patterns.iter().filter(|pattern| caches.check_pattern(cache, pattern).is_ok()) {
                targets.push(Target { cache, kind: TargetKind::Pattern, text });
            }
        }
        targets
    }
}

/// The notice that an entry of the log holds, if it is one that can be read.
fn notice(entry: &Entry) -> Option<Notice> {
    let fields = entry.fields.as_ref()?;
    let (_, json) = fields.iter().find(|(name, _)| name == "notice")?;
    Notice::from_json(json).ok()
}
