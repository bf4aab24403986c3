//! The small questions and orders to Redis that go on beside deliveries: acknowledging, burying, claiming, looking.
//!
//! A chore is a future that ends in its own name and its answer, so that the loop can apply the answer to its state.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unstale_connect::{Client, Fault, PendingEntry};
use unstale_events::{EntryId, StreamKind};
use unstale_sink::Sink;
use unstale_source::{Beat, Claimed, Group, Letter, Letters, Membership, Survey};

/// How long an entry of a dead instance has been quiet at least, so that two who find it don't both take it.
const QUIET: Duration = Duration::from_secs(1);

/// A chore under way.
pub(crate) type Chore = BoxFuture<'static, Done>;

/// Which pending entries a chore listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This process's own: whatever it doesn't hold was lost on the way.
    Own,
    /// A dead instance's, or what a living one has had for too long.
    Others,
}

/// What a chore brought.
#[derive(Debug)]
pub(crate) enum Done {
    Acked(StreamKind, Result<Vec<EntryId>, (Vec<EntryId>, Fault)>),
    Buried(StreamKind, Box<Letter>, Result<EntryId, Fault>),
    /// With what was to be released, and as how often delivered.
    Released(StreamKind, u64, Vec<EntryId>, Result<(), Fault>),
    Listed(StreamKind, Whose, Result<Vec<PendingEntry>, Fault>),
    /// With how often each was delivered before.
    Claimed(StreamKind, Vec<(EntryId, u64)>, Result<Claimed, Fault>),
    /// With the time that the answer took.
    Beaten(Result<Beat, Fault>, Duration),
    Surveyed(StreamKind, Result<Survey, Fault>),
    /// How many entries went before they were delivered.
    Lost(StreamKind, Result<u64, Fault>),
    /// Whether anything was announced before this process began.
    Recalled(Result<bool, Fault>),
    Flushed(Result<EntryId, Fault>),
    Tidied(Result<(), Fault>),
}

pub(crate) fn ack(group: &Group, ids: Vec<EntryId>) -> Chore {
    let group = group.clone();
    async move { Done::Acked(group.kind(), group.ack(ids).await) }.boxed()
}

/// `after` delays a burial that failed before.
pub(crate) fn bury(group: &Group, letters: &Letters, mut letter: Box<Letter>, after: Duration) -> Chore {
    let (group, letters) = (group.clone(), letters.clone());
    async move {
        tokio::time::sleep(after).await;
        let buried = match fill(&group, &mut letter).await {
            Ok(()) => letters.bury(&letter).await,
            Err(fault) => Err(fault),
        };
        Done::Buried(group.kind(), letter, buried)
    }
    .boxed()
}

/// A letter whose entry was let go of after it was routed gets its fields back from the stream.
async fn fill(group: &Group, letter: &mut Letter) -> Result<(), Fault> {
    if letter.fields.is_empty() {
        letter.fields = group.read_again(letter.id).await?.and_then(|entry| entry.fields).unwrap_or_default();
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

/// All of this process's own pending entries.
pub(crate) fn list_own(group: &Group) -> Chore {
    let group = group.clone();
    async move {
        let listed = list(&group, &[group.consumer().to_owned()], Duration::ZERO).await;
        Done::Listed(group.kind(), Whose::Own, listed)
    }
    .boxed()
}

/// The pending entries of dead consumers, and those that anybody has had for at least `stuck`.
pub(crate) fn list_others(group: &Group, dead: Vec<String>, stuck: Duration) -> Chore {
    let group = group.clone();
    async move {
        let listed = async {
            let mut found = list(&group, &dead, QUIET).await?;
            found.extend(group.pending(None, EntryId::ZERO, stuck).await?);
            Ok(found)
        };
        Done::Listed(group.kind(), Whose::Others, listed.await)
    }
    .boxed()
}

async fn list(group: &Group, consumers: &[String], min_idle: Duration) -> Result<Vec<PendingEntry>, Fault> {
    let mut found = Vec::new();
    for consumer in consumers {
        let mut from = EntryId::ZERO;
        loop {
            let page = group.pending(Some(consumer), from, min_idle).await?;
            let Some(last) = page.last().map(|entry| entry.id) else { break };
            found.extend(page);
            if last == EntryId::MAX {
                break;
            }
            from = last.next();
        }
    }
    Ok(found)
}

pub(crate) fn claim(group: &Group, found: Vec<(EntryId, u64)>, whose: Whose) -> Chore {
    let group = group.clone();
    let min_idle = if whose == Whose::Own { Duration::ZERO } else { QUIET };
    async move {
        let ids: Vec<EntryId> = found.iter().map(|(id, _)| *id).collect();
        let claimed = group.claim(&ids, min_idle).await;
        Done::Claimed(group.kind(), found, claimed)
    }
    .boxed()
}

pub(crate) fn beat(membership: &Membership, wants_lease: bool) -> Chore {
    let membership = membership.clone();
    async move {
        let asked = Instant::now();
        let beat = membership.beat(wants_lease).await;
        Done::Beaten(beat, asked.elapsed())
    }
    .boxed()
}

pub(crate) fn survey(group: &Group) -> Chore {
    let group = group.clone();
    async move { Done::Surveyed(group.kind(), group.survey().await) }.boxed()
}

pub(crate) fn lost_unread(group: &Group) -> Chore {
    let group = group.clone();
    async move { Done::Lost(group.kind(), group.lost_unread().await) }.boxed()
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

/// `after` delays a flush that failed before.
pub(crate) fn flush(sink: &Arc<Sink>, after: Duration) -> Chore {
    let sink = Arc::clone(sink);
    async move {
        tokio::time::sleep(after).await;
        Done::Flushed(sink.flush(&["*"]).await)
    }
    .boxed()
}

pub(crate) fn trim(group: &Group, floor: EntryId) -> Chore {
    let group = group.clone();
    async move { Done::Tidied(group.trim(floor).await.map(drop)) }.boxed()
}

pub(crate) fn remove_consumer(group: &Group, consumer: String, beats: String, alive_since: u64) -> Chore {
    let group = group.clone();
    async move { Done::Tidied(group.remove_consumer(&consumer, &beats, alive_since).await.map(drop)) }.boxed()
}

pub(crate) fn unblock(reader: &unstale_source::Reader) -> Chore {
    let unblock = reader.unblock();
    async move { Done::Tidied(unblock.await) }.boxed()
}
