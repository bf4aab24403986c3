//! Everything that the loop waits for, and the closed set of steps that can come of it.

use std::time::Instant;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::yield_now;
use unstale_batcher::Batch;
use unstale_connect::Fault;
use unstale_events::StreamKind;
use unstale_sink::Delivery;
use unstale_source::Read;

use crate::chores::{Chore, Done};
use crate::handle::{Call, Seat};
use crate::stream::Stream;

/// A batch that has come back.
#[derive(Debug)]
pub(crate) struct Returned {
    pub(crate) batch: Batch,
    pub(crate) delivery: Delivery,
    /// When the batch was closed.
    pub(crate) closed: Instant,
    /// What its delivery stood on when it began.
    pub(crate) ground: Option<u64>,
}

/// One thing that happened.
#[derive(Debug)]
pub(crate) enum Step {
    Read(StreamKind, Result<Read, Fault>),
    /// Nothing more urgent came, and more of what was read can be taken in.
    Arrived(StreamKind),
    Returned(Box<Returned>),
    /// A batch that had come back is through with its second deletes.
    Repeated(Box<Returned>),
    Done(Box<Done>),
    Called(Call),
    /// All receivers have a notice that somebody waits for, which others want to know at once.
    Confirmed,
    /// The moment came that was waited for.
    Due,
}

/// What is under way.
#[derive(Debug)]
pub(crate) struct Inputs {
    pub(crate) critical: Stream,
    pub(crate) ordinary: Stream,
    pub(crate) deliveries: FuturesUnordered<BoxFuture<'static, Box<Returned>>>,
    /// Delivered batches that wait to delete something once more; their entries are held until then.
    pub(crate) repeats: FuturesUnordered<BoxFuture<'static, Box<Returned>>>,
    pub(crate) chores: FuturesUnordered<Chore>,
    pub(crate) seat: Seat,
    /// Changes when all receivers have a notice that somebody waits for.
    pub(crate) confirmed: watch::Receiver<u64>,
}

impl Inputs {
    pub(crate) fn stream(&mut self, kind: StreamKind) -> &mut Stream {
        match kind {
            StreamKind::Critical => &mut self.critical,
            StreamKind::Ordinary => &mut self.ordinary,
        }
    }

    pub(crate) fn streams(&mut self) -> [&mut Stream; 2] {
        [&mut self.critical, &mut self.ordinary]
    }

    /// Of which stream something that was read is to be taken in.
    fn arrived(&self) -> Option<StreamKind> {
        [&self.critical, &self.ordinary].into_iter().find(|stream| stream.has_arrived()).map(Stream::kind)
    }

    /// Waits for the next step, until `due` at the latest. The urgent ones come first. Nothing is lost if it is dropped.
    pub(crate) async fn next(&mut self, due: Instant, draining: bool) -> Step {
        let arrived = self.arrived();
        tokio::select! {
            biased;
            read = self.critical.reader.next() => Step::Read(StreamKind::Critical, read),
            Some(returned) = self.deliveries.next() => Step::Returned(returned),
            Some(repeated) = self.repeats.next() => Step::Repeated(repeated),
            Some(done) = self.chores.next() => Step::Done(Box::new(done)),
            call = self.seat.called(draining) => Step::Called(call),
            Ok(()) = self.confirmed.changed() => Step::Confirmed,
            // After the connections have been looked at.
            () = yield_now(), if arrived.is_some() => arrived.map_or(Step::Due, Step::Arrived),
            read = self.ordinary.reader.next(), if !self.ordinary.has_arrived() => Step::Read(StreamKind::Ordinary, read),
            () = tokio::time::sleep_until(due.into()) => Step::Due,
        }
    }
}
