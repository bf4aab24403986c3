//! The small questions and orders to Redis that go on beside deliveries: acknowledging, burying, claiming, looking.
//!
//! A chore is a future that ends in its own name and its answer, so that the loop can apply the answer to its state.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unstale_connect::{Client, Fault, PendingEntry};
use unstale_events::{Cause, EntryId, Position, StreamKind};
use unstale_sink::{Replay, Replayer, Sink, Whose as Deletes};
use unstale_source::{Beat, Claimed, EntryLimit, Group, Letter, Letters, Membership, PendingAt, Survey};

use crate::pipeline::Grave;
use crate::walk::{Found, Whose};

/// Who died in a failover is known as dead by then.
const DEAD_BY: Duration = Duration::from_secs(5);

/// A chore under way.
pub(crate) type Chore = BoxFuture<'static, Done>;

/// What a chore brought.
#[derive(Debug)]
pub(crate) enum Done {
    /// With the ground that the effects of these entries stood on.
    Acked(StreamKind, Option<u64>, Result<Vec<EntryId>, (Vec<EntryId>, Fault)>),
    /// With the ground that the letter stands on.
    Buried(StreamKind, Option<u64>, Box<Letter>, Result<EntryId, Fault>),
    /// With what was to be released, and as how often delivered.
    Released(StreamKind, u64, Vec<EntryId>, Result<(), Fault>),
    Listed(StreamKind, Whose, Result<Vec<PendingEntry>, Fault>),
    /// With what was to be claimed, and how often each was delivered before.
    Claimed(StreamKind, Whose, Vec<Found>, Result<Claimed, Fault>),
    Kept(StreamKind, Result<(), Fault>),
    /// With the time that the answer took.
    Beaten(Result<Beat, Fault>, Duration),
    Surveyed(StreamKind, Result<Survey, Fault>),
    /// How many entries went before they were delivered.
    Lost(StreamKind, Result<u64, Fault>),
    /// Whether anything was announced before this process began.
    Recalled(Result<bool, Fault>),
    Flushed(Result<Position, Fault>),
    Tidied(Result<(), Fault>),
    /// Up to which entry.
    Trimmed(StreamKind, Result<EntryId, Fault>),
    /// A server of caches failed over, and what this process had deleted there was repeated.
    Replayed(Box<Replayer>, Replay),
    /// So long after that it is known who died meanwhile.
    Orphaned(Box<Replayer>),
    /// What the dead had deleted there was repeated as well.
    ReplayedOthers(Replay),
}

pub(crate) fn ack(group: &Group, ids: Vec<EntryId>, ground: Option<u64>) -> Chore {
    let group = group.clone();
    async move { Done::Acked(group.kind(), ground, group.ack(ids).await) }.boxed()
}

/// A burial that failed before is delayed.
pub(crate) fn bury(group: &Group, letters: &Letters, grave: Grave, limit: EntryLimit, ground: Option<u64>) -> Chore {
    let (group, letters, Grave { mut letter, after, .. }) = (group.clone(), letters.clone(), grave);
    async move {
        tokio::time::sleep(after).await;
        let buried = match fill(&group, &mut letter, limit).await {
            Ok(()) => letters.bury(&letter).await,
            Err(fault) => Err(fault),
        };
        Done::Buried(group.kind(), ground, letter, buried)
    }
    .boxed()
}

/// A letter whose entry was let go of after it was routed, or was too large to be read, gets its fields from the stream.
async fn fill(group: &Group, letter: &mut Letter, limit: EntryLimit) -> Result<(), Fault> {
    if letter.body.fields.is_empty() {
        letter.body = group.body(letter.id, limit).await?;
    }
    Ok(())
}

pub(crate) fn release(group: &Group, ids: Vec<EntryId>, deliveries: u64) -> Chore {
    let group = group.clone();
    async move {
        let released = group.release(&ids, deliveries).await;
        Done::Released(group.kind(), deliveries, ids, released)
    }
    .boxed()
}

/// A page of pending entries.
pub(crate) fn list(group: &Group, whose: Whose, at: PendingAt, from: EntryId) -> Chore {
    let group = group.clone();
    async move { Done::Listed(group.kind(), whose, group.pending(&at, from).await) }.boxed()
}

pub(crate) fn claim(group: &Group, found: Vec<Found>, at: PendingAt, whose: Whose, enough: usize, limit: EntryLimit) -> Chore {
    let group = group.clone();
    async move {
        let ids: Vec<EntryId> = found.iter().map(|(id, _)| *id).collect();
        let claimed = group.claim(&ids, &at, enough, limit).await;
        Done::Claimed(group.kind(), whose, found, claimed)
    }
    .boxed()
}

/// Entries have been held for long; `since` is as in [`Group::keep`].
pub(crate) fn keep(group: &Group, ids: Vec<EntryId>, since: Duration) -> Chore {
    let group = group.clone();
    async move { Done::Kept(group.kind(), group.keep(&ids, since).await) }.boxed()
}

/// `position` is the last notice that all receivers have.
pub(crate) fn beat(membership: &Membership, wants_lease: bool, position: Option<Position>) -> Chore {
    let membership = membership.clone();
    async move {
        let asked = Instant::now();
        let beat = membership.beat(wants_lease, position).await;
        Done::Beaten(beat, asked.elapsed())
    }
    .boxed()
}

pub(crate) fn survey(group: &Group, consumers: bool) -> Chore {
    let group = group.clone();
    async move { Done::Surveyed(group.kind(), group.survey(consumers).await) }.boxed()
}

pub(crate) fn lost_unread(group: &Group, anew: bool) -> Chore {
    let group = group.clone();
    async move { Done::Lost(group.kind(), group.lost_unread(anew).await) }.boxed()
}

/// `after` delays a look that failed before.
pub(crate) fn recall(control: &Client, log: &str, after: Duration) -> Chore {
    let (control, log) = (control.clone(), log.to_owned());
    async move {
        tokio::time::sleep(after).await;
        Done::Recalled(control.xlen(&log).await.map(|length| length > 0))
    }
    .boxed()
}

/// Repeats what this process deleted on a server of caches, once that has failed over.
pub(crate) fn replay(mut replayer: Box<Replayer>) -> Chore {
    async move {
        replayer.failed_over().await;
        let replay = replayer.repeat(&Deletes::Own).await;
        Done::Replayed(replayer, replay)
    }
    .boxed()
}

/// Waits until it is known who has died.
pub(crate) fn orphan(replayer: Box<Replayer>) -> Chore {
    async move {
        tokio::time::sleep(DEAD_BY).await;
        Done::Orphaned(replayer)
    }
    .boxed()
}

/// Repeats what those who are not alive deleted there.
pub(crate) fn replay_others(mut replayer: Box<Replayer>, alive: Vec<String>) -> Chore {
    async move { Done::ReplayedOthers(replayer.repeat(&Deletes::Others(alive)).await) }.boxed()
}

/// `after` delays a flush that failed before.
pub(crate) fn flush(sink: &Arc<Sink>, after: Duration) -> Chore {
    let sink = Arc::clone(sink);
    async move {
        tokio::time::sleep(after).await;
        Done::Flushed(sink.flush(&["*"], Cause::Loss).await)
    }
    .boxed()
}

pub(crate) fn trim(group: &Group, floor: EntryId) -> Chore {
    let group = group.clone();
    async move { Done::Trimmed(group.kind(), group.trim(floor).await.map(|_| floor)) }.boxed()
}

pub(crate) fn remove_consumer(group: &Group, consumer: String, beats: String, alive_since: u64) -> Chore {
    let group = group.clone();
    async move { Done::Tidied(group.remove_consumer(&consumer, &beats, alive_since).await.map(drop)) }.boxed()
}

pub(crate) fn unblock(reader: &unstale_source::Reader) -> Chore {
    let unblock = reader.unblock();
    async move { Done::Tidied(unblock.await) }.boxed()
}
