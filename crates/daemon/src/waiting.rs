//! Waiting for what was published, by those who are no sidecar: until its effects are confirmed, until every instance has told its receivers.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use unstale_connect::{Client, Fault, FaultKind, PendingQuery};
use unstale_events::EntryId;
use unstale_notices::{Behind, Company, Log, everywhere};
use unstale_source::Names;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// An entry that was published.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) client: Client,
    pub(crate) names: Names,
    pub(crate) stream: String,
    pub(crate) id: EntryId,
}

/// Why it isn't known to be done.
#[derive(Debug)]
pub(crate) enum Undone {
    /// Nobody has finished it: there may be no sidecar, or it can't delete.
    Pending,
    /// It is deleted, but these instances have yet to tell their receivers.
    Unheard(Vec<Behind>),
    /// Redis wouldn't say.
    Fault(Fault),
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("published, but no sidecar has finished it in time; it stays in the stream until one does"),
            Self::Unheard(behind) => {
                f.write_str(
                    "deleted in Redis and announced, but not heard everywhere in time. These instances have yet to tell their receivers:",
                )?;
                behind.iter().try_for_each(|Behind { instance, notices, .. }| write!(f, "\n  {instance}, {notices} notices behind"))
            }
            Self::Fault(fault) => write!(f, "published; whether it is done can't be told: {fault}"),
        }
    }
}

impl From<Fault> for Undone {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Published {
    /// Waits until it is acknowledged: then its keys are deleted and its notices are in the log.
    pub(crate) async fn done(&self, until: Instant) -> Result<(), Undone> {
        while !self.is_acknowledged().await? {
            if Instant::now() + PAUSE > until {
                return Err(Undone::Pending);
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Waits until every instance has told its receivers of it; returns how many instances there are.
    pub(crate) async fn heard(&self, until: Instant) -> Result<usize, Undone> {
        self.done(until).await?;
        // Its own notices are not the newest for long, but never newer.
        let notice = Log::new(self.client.clone(), &self.names.notices).newest().await?;
        let company = Company { beats: &self.names.beats, positions: &self.names.positions };
        everywhere(&self.client, company, notice, until)
            .await
            .map_err(|late| late.blind.map_or(Undone::Unheard(late.behind), Undone::Fault))
    }

    async fn is_acknowledged(&self) -> Result<bool, Fault> {
        let groups = match self.client.xinfo_groups(&self.stream).await {
            Err(fault) if fault.kind == FaultKind::NoKey => return Ok(false),
            groups => groups?,
        };
        let is_delivered = groups.iter().any(|group| group.name == self.names.group && group.last_delivered >= self.id);
        if !is_delivered {
            return Ok(false);
        }
        let (stream, group) = (self.stream.as_str(), self.names.group.as_str());
        let query = PendingQuery { stream, group, from: self.id, count: 1, consumer: None, min_idle: Duration::ZERO };
        Ok(self.client.xpending(query).await?.first().is_none_or(|pending| pending.id != self.id))
    }
}
