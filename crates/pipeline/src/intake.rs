//! The way in: from entries and requests to the lanes, or to the dead letters.

use std::time::{Duration, Instant};

use unstale_batcher::{DeadLetter, Item, Source};
use unstale_connect::{Fault, FaultKind};
use unstale_events::event::Event;
use unstale_events::{Code, Entry, EntryId, Fields, Reason, detached};
use unstale_source::{Body, EntryLimit, Heavy, Letter, Size};

use crate::handle::{Deliver, DeliverError, DeliverReport};
use crate::pipeline::{Grave, State, Ticket};
use crate::settings::Unrouted;
use crate::stats::Outcome;
use crate::stream::Stream;

/// How an entry came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// It was read for the first time.
    Read,
    /// It was claimed.
    Claimed,
    /// It was claimed, and travels alone: it is suspected to kill the process.
    Alone,
}

/// An entry on its way in.
#[derive(Debug)]
struct Incoming {
    id: EntryId,
    fields: Fields,
    deliveries: u64,
    alone: bool,
}

impl State {
    pub(crate) fn read(&mut self, stream: &mut Stream, entries: Vec<Entry>, now: Instant) {
        self.stats.read(stream.kind(), entries.len() as u64);
        stream.arrived(entries);
        self.take_slice(stream, now);
    }

    /// Takes in some of what was read: an event that is more urgent waits for these, and not for all.
    pub(crate) fn take_slice(&mut self, stream: &mut Stream, now: Instant) {
        for entry in stream.slice() {
            self.take_in(stream, entry, 1, How::Read, now);
        }
    }

    pub(crate) fn read_failed(&mut self, stream: &mut Stream, fault: &Fault, now: Instant) {
        self.trouble_with("read", stream.group().stream(), fault, now);
        let in_time = !matches!(fault.kind, FaultKind::Timeout | FaultKind::Unreachable);
        stream.read_failed(in_time, now);
    }

    /// Takes an entry in, whether new or taken over; `deliveries` counts this time too.
    pub(crate) fn take_in(&mut self, stream: &mut Stream, entry: Entry, deliveries: u64, how: How, now: Instant) {
        if !stream.hold(entry.id, deliveries, how != How::Read) {
            return;
        }
        let Some(fields) = entry.fields else {
            stream.owed.push(entry.id);
            return;
        };
        let incoming = Incoming { id: entry.id, fields, deliveries, alone: how == How::Alone };
        match self.route(&incoming) {
            Ok(event) => {
                let dead = self.queue(stream, &incoming, &event, now);
                if let Some(reasons) = dead {
                    self.bury(stream, incoming.id, detached(&incoming.fields), reasons);
                }
            }
            Err(reason) => {
                self.stats.event(None, Outcome::DeadLettered);
                self.bury(stream, incoming.id, detached(&incoming.fields), vec![reason]);
            }
        }
    }

    /// Buries an entry that is too large to be read.
    pub(crate) fn too_heavy(&mut self, stream: &mut Stream, heavy: Heavy, deliveries: u64) {
        if stream.hold(heavy.id, deliveries, true) {
            self.stats.event(None, Outcome::DeadLettered);
            self.bury(stream, heavy.id, Fields::new(), vec![too_large(heavy.size, self.settings.entry)]);
        }
    }

    /// Decodes an entry and leaves what the routes make of it in `self.invalidation`.
    fn route<'f>(&mut self, incoming: &'f Incoming) -> Result<Event<'f>, Reason> {
        let Incoming { fields, deliveries, .. } = incoming;
        // Before anything looks into it: looking may be what ends the process.
        if *deliveries > self.settings.max_deliveries {
            let text = format!("delivered {} times, the last ones alone, and never finished: it seems to end the process", deliveries - 1);
            return Err(Reason::new(Code::Deliveries, text));
        }
        let size = Size::of(fields);
        if self.settings.entry.is_exceeded(size) {
            return Err(too_large(size, self.settings.entry));
        }
        let event = Event::decode(fields)?;
        self.invalidation.clear();
        self.router.route(&event, &mut self.invalidation);
        if !self.invalidation.routed && self.settings.unrouted == Unrouted::DeadLetter {
            let text = format!("no route names the type {:?}", event.kind());
            self.invalidation.reasons.push(Reason::new(Code::Unrouted, text));
        }
        Ok(event)
    }

    /// Passes a routed event on to its lane. Returns the reasons if it has nothing but reasons; without targets and reasons it is done.
    fn queue(&mut self, stream: &mut Stream, incoming: &Incoming, event: &Event<'_>, now: Instant) -> Option<Vec<Reason>> {
        let invalidation = &mut self.invalidation;
        let outcome = match (invalidation.reasons.is_empty(), invalidation.routed) {
            (false, _) => Outcome::DeadLettered,
            (true, true) => Outcome::Routed,
            (true, false) => Outcome::Unrouted,
        };
        self.stats.event(invalidation.label, outcome);
        let reasons = std::mem::take(&mut invalidation.reasons);
        if invalidation.targets.is_empty() {
            if reasons.is_empty() {
                stream.owed.push(incoming.id);
            }
            return Some(reasons).filter(|reasons| !reasons.is_empty());
        }
        self.stats.queued_all(invalidation.priority, &invalidation.targets);
        let item = Item {
            source: Source::Entry(stream.kind(), incoming.id),
            priority: invalidation.priority,
            targets: &invalidation.targets,
            dead: (!reasons.is_empty()).then(|| Box::new(DeadLetter { reasons, fields: detached(&incoming.fields) })),
            correlation_id: event.correlation_id(),
            operation: invalidation.operation.as_deref(),
        };
        if incoming.alone {
            self.batcher.push_alone(item, now);
        } else {
            self.batcher.push(item, now);
        }
        None
    }

    /// Has an entry that is held written to the dead letters, and then acknowledged.
    pub(crate) fn bury(&mut self, stream: &Stream, id: EntryId, fields: Fields, reasons: Vec<Reason>) {
        self.grave_bytes += Size::of(&fields).weight();
        let deliveries = stream.deliveries(id);
        let body = Body { fields, is_cut: false };
        let letter = Box::new(Letter { stream: stream.group().stream().to_owned(), id, body, reasons, deliveries });
        self.graves.push_back(Grave { kind: stream.kind(), letter, after: Duration::ZERO });
    }

    /// A request goes past the stream, in a batch of its own: its answer speaks of nothing else. Unlike an entry it can't wait in the
    /// stream for room.
    pub(crate) fn asked(&mut self, deliver: Deliver, has_room: bool, now: Instant) {
        let Deliver { invalidation, confirm, reply } = deliver;
        if !has_room {
            // Nobody may wait for the answer any more, here and below; there is nothing to do about that.
            let _ = reply.send(Err(DeliverError::Busy));
            return;
        }
        if invalidation.targets.is_empty() {
            let _ = reply.send(Ok(DeliverReport::default()));
            return;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.insert(ticket, Ticket { reply, confirm });
        self.stats.queued_all(invalidation.priority, &invalidation.targets);
        let item = Item {
            source: Source::Request(ticket),
            priority: invalidation.priority,
            targets: &invalidation.targets,
            dead: None,
            correlation_id: None,
            operation: invalidation.operation.as_deref(),
        };
        self.batcher.push_alone(item, now);
    }
}

fn too_large(size: Size, limit: EntryLimit) -> Reason {
    let Size { bytes, fields } = size;
    let text = if bytes > limit.bytes {
        format!("the entry has {bytes} bytes, more than limits.entry = {}", limit.bytes)
    } else {
        format!("the entry has {fields} fields, more than {}, which is one for each 64 bytes of limits.entry", limit.fields)
    };
    Reason::new(Code::TooLarge, text)
}
