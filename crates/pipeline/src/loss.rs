//! History that went before it was worked off: noticed, counted once, and answered by asking every receiver to drop everything.
//!
//! What was lost can't be known, so nothing less than everything is safe. A first start is no loss.

use std::time::{Duration, Instant};

use unstale_batcher::{Item, Source};
use unstale_connect::Fault;
use unstale_events::{Cause, Invalidation, Position, Priority, StreamKind, TargetKind, glob};

use crate::chores;
use crate::inputs::Inputs;
use crate::pipeline::{PAUSE, State};

/// Whether notices were logged before this process began: then a stream that is missing is no first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum History {
    /// Nobody has asked.
    Unknown,
    /// The answer is under way.
    Asked,
    /// It came.
    Known(bool),
}

impl State {
    /// Whether anything was announced before is known before the first read: later it would be this process's own doing.
    pub(crate) fn recalled(&mut self, recalled: Result<bool, Fault>, inputs: &mut Inputs, now: Instant) {
        match recalled {
            Ok(history) => self.history = History::Known(history),
            Err(fault) => {
                self.trouble("survey", &fault, now);
                inputs.chores.push(chores::recall(&self.control, &self.names.notices, PAUSE));
            }
        }
    }

    /// The group had to be made. If the stream was gone, and must have been there before, whatever it held is lost.
    pub(crate) fn remade(&mut self, kind: StreamKind, stream_was_gone: bool, inputs: &mut Inputs) {
        if stream_was_gone && (inputs.stream(kind).seen || self.history == History::Known(true)) {
            self.lost(kind, "the stream vanished", inputs);
        }
    }

    pub(crate) fn lost_unread(&mut self, kind: StreamKind, lost: Result<u64, Fault>, inputs: &mut Inputs, now: Instant) {
        match lost {
            Ok(0) => {}
            Ok(_) => self.lost(kind, "entries were trimmed away before they were read", inputs),
            Err(fault) => self.trouble("survey", &fault, now),
        }
    }

    /// Answers a loss.
    pub(crate) fn lost(&mut self, kind: StreamKind, what: &str, inputs: &mut Inputs) {
        tracing::error!(stream = kind.name(), what, "events were lost; every receiver is told to drop everything");
        self.stats.flushed(Cause::Loss);
        inputs.chores.push(chores::flush(&self.sink, Duration::ZERO));
        if self.settings.clear_on_loss {
            self.clear();
        }
    }

    pub(crate) fn flushed(&mut self, flushed: Result<Position, Fault>, inputs: &mut Inputs, now: Instant) {
        if let Err(fault) = flushed {
            self.trouble("flush", &fault, now);
            inputs.chores.push(chores::flush(&self.sink, PAUSE));
        }
    }

    /// Deletes everything that the caches own.
    fn clear(&mut self) {
        let mut all = Invalidation { priority: Priority::High, ..Invalidation::default() };
        for (id, cache) in self.router.caches().iter() {
            for prefix in &cache.prefixes {
                let everything = |text: &mut String| -> Result<(), std::convert::Infallible> {
                    glob::escape(prefix, text);
                    text.push('*');
                    Ok(())
                };
                let Ok(_) = all.targets.push_with(id, TargetKind::Pattern, everything);
            }
        }
        self.stats.queued_all(all.priority, &all.targets);
        let source = Source::Request(self.next_ticket);
        self.next_ticket += 1;
        let item =
            Item { source, priority: all.priority, targets: &all.targets, dead: None, correlation_id: None, operation: Some("loss") };
        self.batcher.push_alone(item, Instant::now());
    }
}
