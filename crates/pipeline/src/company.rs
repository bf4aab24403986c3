//! What chores bring: answers about acknowledged, buried and pending entries, and about the company of the other sidecars.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use unstale_connect::{Fault, FaultKind, PendingEntry};
use unstale_events::{EntryId, StreamKind};
use unstale_source::{Beat, Claimed, Letter, Survey};

use crate::chores::{self, Done, Whose};
use crate::inputs::Inputs;
use crate::intake;
use crate::journal;
use crate::pipeline::{Grave, PAUSE, State};
use crate::stream::{Found, Stream};

impl State {
    pub(crate) fn done(&mut self, done: Done, inputs: &mut Inputs, now: Instant) {
        match done {
            Done::Acked(kind, acked) => self.acked(inputs.stream(kind), acked, now),
            Done::Buried(kind, letter, buried) => self.buried(inputs.stream(kind), letter, buried, now),
            Done::Released(kind, deliveries, ids, released) => {
                let failed = released.map_err(|fault| self.trouble("release", &fault, now)).is_err();
                inputs.stream(kind).release_ended(failed.then_some((deliveries, ids)), now);
            }
            Done::Tidied(Ok(())) => {}
            Done::Tidied(Err(fault)) => self.trouble("tidy", &fault, now),
            Done::Listed(kind, whose, listed) => self.listed(kind, whose, listed, inputs, now),
            Done::Claimed(kind, before, claimed) => self.claimed(kind, &before, claimed, inputs, now),
            Done::Beaten(beat, took) => self.beaten(beat, took, now),
            Done::Surveyed(kind, survey) => self.surveyed(kind, survey, inputs, now),
            Done::Lost(kind, lost) => self.lost_unread(kind, lost, inputs, now),
            Done::Recalled(recalled) => self.recalled(recalled, inputs, now),
            Done::Flushed(flushed) => self.flushed(flushed, inputs, now),
        }
    }

    fn acked(&mut self, stream: &mut Stream, acked: Result<Vec<EntryId>, (Vec<EntryId>, Fault)>, now: Instant) {
        stream.acking = false;
        match acked {
            Ok(ids) => {
                for id in ids {
                    stream.let_go(id);
                }
            }
            Err((left, fault)) => {
                self.trouble("ack", &fault, now);
                stream.ack_failed(left, now);
            }
        }
    }

    fn buried(&mut self, stream: &mut Stream, letter: Box<Letter>, buried: Result<EntryId, Fault>, now: Instant) {
        self.burials -= 1;
        match buried {
            Ok(_) => {
                journal::buried(&letter);
                self.grave_bytes = self.grave_bytes.saturating_sub(intake::weight(&letter.fields));
                stream.owed.push(letter.id);
            }
            Err(fault) => {
                self.trouble("bury", &fault, now);
                self.graves.push_back(Grave { kind: stream.kind(), letter, after: PAUSE });
            }
        }
    }

    /// Claims of what was found pending all that isn't held here.
    fn listed(&mut self, kind: StreamKind, whose: Whose, listed: Result<Vec<PendingEntry>, Fault>, inputs: &mut Inputs, now: Instant) {
        let stream = inputs.stream(kind);
        let found = match listed {
            Ok(found) => found,
            Err(fault) => {
                self.trouble("claim", &fault, now);
                stream.looked(whose);
                stream.recover_later(now);
                return;
            }
        };
        stream.looked(whose);
        // Who ends leaves the work of others to others.
        if whose == Whose::Others && self.draining.is_some() {
            return;
        }
        let plain = stream.choose(found, whose);
        if !plain.is_empty() {
            let claim = stream.claim(plain, whose);
            inputs.chores.push(claim);
        }
    }

    fn claimed(&mut self, kind: StreamKind, before: &[Found], claimed: Result<Claimed, Fault>, inputs: &mut Inputs, now: Instant) {
        let stream = inputs.stream(kind);
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(fault) => {
                self.trouble("claim", &fault, now);
                stream.claim_ended(before, &[]);
                // Whether it was carried out isn't known: if so, the entries are now this process's own.
                return stream.recover_later(now);
            }
        };
        let is_suspect = |(id, _): &Found| stream.suspect == Some(*id);
        journal::claimed(kind, &claimed, before.iter().any(is_suspect));
        let deliveries: HashMap<EntryId, u64> = before.iter().copied().collect();
        stream.claim_ended(before, &claimed.entries);
        self.stats.read(kind, claimed.entries.len() as u64);
        for entry in claimed.entries {
            let count = deliveries.get(&entry.id).map_or(1, |before| before + 1);
            let alone = stream.suspect == Some(entry.id);
            self.take_in(stream, entry, count, alone, now);
        }
        if !claimed.lost.is_empty() {
            self.lost(kind, "pending entries had been trimmed away", inputs);
        }
    }

    fn beaten(&mut self, beat: Result<Beat, Fault>, took: Duration, now: Instant) {
        self.beating = false;
        match beat {
            Ok(beat) => {
                self.membership.heard(&beat);
                self.watch.answered(took);
                if beat.found_stray {
                    journal::stray_lease(&self.names.lease);
                }
                if beat.holds_lease != self.is_reader() {
                    tracing::info!(reader = beat.holds_lease, "{}", lease_text(beat.holds_lease));
                    self.next_survey = now;
                }
                // Who has just died is looked after at once.
                if self.company.as_ref().is_some_and(|before| before.alive.iter().any(|name| !beat.alive.contains(name))) {
                    self.next_survey = now;
                }
                self.stats.reader(beat.holds_lease);
                self.company = Some(beat);
            }
            Err(fault) => {
                self.trouble("beat", &fault, now);
                // A lease that can't be renewed runs out; another may have it.
                self.company = None;
                self.stats.reader(false);
            }
        }
    }

    fn surveyed(&mut self, kind: StreamKind, survey: Result<Survey, Fault>, inputs: &mut Inputs, now: Instant) {
        self.surveys -= 1;
        let survey = match survey {
            Ok(survey) => survey,
            Err(fault) => return self.trouble_with("survey", inputs.stream(kind).group().stream(), &fault, now),
        };
        let Some(beat) = self.company.clone() else { return };
        let age = survey.oldest.map_or(Duration::ZERO, |id| Duration::from_millis(beat.now_ms.saturating_sub(id.ms)));
        self.stats.seen(kind, survey.lag, survey.pending, age);
        if beat.holds_lease && self.draining.is_none() {
            self.sweep(kind, &survey, &beat, inputs);
        }
    }

    /// What only the holder of the lease does: trims, takes over what the dead left, removes their names.
    fn sweep(&mut self, kind: StreamKind, survey: &Survey, beat: &Beat, inputs: &mut Inputs) {
        let Inputs { critical, ordinary, chores, .. } = inputs;
        let stream = if kind == StreamKind::Critical { critical } else { ordinary };
        if survey.suspicious {
            chores.push(chores::lost_unread(stream.group()));
        }
        let trims = kind == StreamKind::Critical || self.settings.trim;
        if let Some(floor) = survey.floor.filter(|_| trims) {
            chores.push(chores::trim(stream.group(), floor));
        }
        if !beat.may_judge || stream.sweeping {
            return;
        }
        let is_dead = |name: &&String| !beat.alive.contains(name);
        let own = stream.group().consumer();
        let dead: Vec<String> = survey.owners.iter().map(|(name, _)| name).filter(is_dead).filter(|name| *name != own).cloned().collect();
        for gone in survey.consumers.iter().filter(is_dead).filter(|name| !dead.contains(name)) {
            chores.push(chores::remove_consumer(stream.group(), gone.clone(), self.names.beats.clone(), beat.alive_since()));
        }
        if survey.pending > 0 {
            stream.sweeping = true;
            chores.push(chores::list_others(stream.group(), dead, self.settings.min_idle(kind)));
        }
    }

    /// A fault outside deliveries that concerns one stream.
    pub(crate) fn trouble_with(&mut self, stage: &'static str, stream: &str, fault: &Fault, now: Instant) {
        if fault.kind != FaultKind::WrongType {
            return self.trouble(stage, fault, now);
        }
        self.stats.error(stage, fault.kind.name(), 1);
        self.watch.no_stream(stream, now);
        journal::no_stream(stream, fault);
    }

    /// A fault outside deliveries.
    pub(crate) fn trouble(&mut self, stage: &'static str, fault: &Fault, now: Instant) {
        self.stats.error(stage, fault.kind.name(), 1);
        self.watch.missing(fault, now);
        journal::trouble(stage, fault);
    }
}

fn lease_text(held: bool) -> &'static str {
    if held { "this instance reads the ordinary stream now" } else { "this instance no longer reads the ordinary stream" }
}
