//! What chores bring: answers about acknowledged, buried and pending entries, and about the company of the other sidecars.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use unstale_connect::{Fault, FaultKind, PendingEntry};
use unstale_events::{EntryId, StreamKind};
use unstale_source::{Beat, Claimed, Letter, Size, Survey};

use crate::chores::{self, Done};
use crate::inputs::Inputs;
use crate::intake::How;
use crate::journal;
use crate::outcome::give_up;
use crate::pipeline::{Grave, PAUSE, State};
use crate::stream::Stream;
use crate::walk::{Found, Whose};

/// How many names of dead consumers are removed at a time.
const REMOVALS: usize = 100;

impl State {
    pub(crate) fn done(&mut self, done: Done, inputs: &mut Inputs, now: Instant) {
        match done {
            Done::Acked(kind, ground, acked) => self.acked(kind, ground, acked, inputs, now),
            Done::Buried(kind, ground, letter, buried) => {
                self.check_ground(inputs, now);
                self.buried(inputs.stream(kind), ground, letter, buried, now);
            }
            Done::Released(kind, deliveries, ids, released) => {
                let failed = released.map_err(|fault| self.trouble("release", &fault, now)).is_err();
                let entries = ids.len();
                inputs.stream(kind).recovery.release_ended(entries, failed.then_some((deliveries, ids)), now);
            }
            Done::Tidied(Ok(())) => {}
            Done::Trimmed(kind, Ok(floor)) => inputs.stream(kind).trimmed = Some(floor),
            Done::Tidied(Err(fault)) | Done::Trimmed(_, Err(fault)) => self.trouble("tidy", &fault, now),
            Done::Listed(kind, whose, listed) => self.listed(inputs.stream(kind), whose, listed, now),
            Done::Claimed(kind, whose, before, claimed) => self.claimed(kind, whose, &before, claimed, inputs, now),
            Done::Kept(kind, kept) => self.kept(inputs.stream(kind), kept, now),
            Done::Beaten(beat, took) => self.beaten(beat, took, now),
            Done::Surveyed(kind, survey) => self.surveyed(kind, survey, inputs, now),
            Done::Lost(kind, lost) => self.lost_unread(kind, lost, inputs, now),
            Done::Recalled(recalled) => self.recalled(recalled, inputs, now),
            Done::Replayed(replayer, replay) => {
                self.replayed(&replay, now);
                inputs.chores.push(chores::orphan(Box::new(replayer.another())));
                inputs.chores.push(chores::replay(replayer));
            }
            Done::Orphaned(replayer) => match &self.company {
                Some(beat) if beat.holds_lease && beat.may_judge => {
                    inputs.chores.push(chores::replay_others(replayer, beat.alive.clone()));
                }
                Some(beat) if !beat.holds_lease && replayer.is_past() => {}
                // Nobody can be judged yet, or the holder of the lease does it: should he die before, this instance may be his heir.
                _ => inputs.chores.push(chores::orphan(replayer)),
            },
            Done::ReplayedOthers(replay) => self.replayed(&replay, now),
            Done::Flushed(flushed) => self.flushed(flushed, inputs, now),
        }
    }

    fn acked(
        &mut self,
        kind: StreamKind,
        ground: Option<u64>,
        acked: Result<Vec<EntryId>, (Vec<EntryId>, Fault)>,
        inputs: &mut Inputs,
        now: Instant,
    ) {
        self.check_ground(inputs, now);
        let stream = inputs.stream(kind);
        stream.ack_ended();
        match acked {
            Ok(ids) => {
                for id in ids {
                    stream.let_go(id);
                }
            }
            Err((left, fault)) => {
                self.trouble("ack", &fault, now);
                if ground == self.ground {
                    inputs.stream(kind).ack_failed(left, now);
                } else {
                    give_up(left.into_iter().map(|id| (kind, id)).collect(), inputs, now);
                }
            }
        }
    }

    fn buried(&mut self, stream: &mut Stream, ground: Option<u64>, letter: Box<Letter>, buried: Result<EntryId, Fault>, now: Instant) {
        self.burials -= 1;
        match buried {
            // Perhaps on a server that has been replaced since, by one that hasn't got it.
            Ok(_) if ground.is_none() || ground != self.ground => {
                self.graves.push_back(Grave { kind: stream.kind(), letter, after: PAUSE });
            }
            Ok(_) => {
                journal::buried(&letter);
                letter.reasons.first().into_iter().for_each(|reason| self.stats.buried(reason.code));
                self.grave_bytes = self.grave_bytes.saturating_sub(Size::of(&letter.body.fields).weight());
                stream.owed.push(letter.id);
            }
            Err(fault) => {
                self.trouble("bury", &fault, now);
                self.graves.push_back(Grave { kind: stream.kind(), letter, after: PAUSE });
            }
        }
    }

    /// Of what was found pending all is to be claimed that isn't held here.
    fn listed(&mut self, stream: &mut Stream, whose: Whose, listed: Result<Vec<PendingEntry>, Fault>, now: Instant) {
        match listed {
            Ok(page) => {
                let wanted = stream.choose(&page, whose);
                if let Some(walk) = stream.recovery.walk(whose) {
                    walk.listed(page.last().map(|entry| entry.id), wanted);
                }
            }
            Err(fault) => {
                self.trouble("claim", &fault, now);
                stream.recovery.walk_failed(whose, now);
            }
        }
    }

    fn claimed(
        &mut self,
        kind: StreamKind,
        whose: Whose,
        before: &[Found],
        claimed: Result<Claimed, Fault>,
        inputs: &mut Inputs,
        now: Instant,
    ) {
        let stream = inputs.stream(kind);
        stream.recovery.claim_ended();
        let suspect = before.first().map(|(id, _)| *id).filter(|id| stream.recovery.is_suspect(*id));
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(fault) => {
                self.trouble("claim", &fault, now);
                return match suspect {
                    Some(id) => stream.recovery.suspect_failed(id, now),
                    None => stream.recovery.walk_failed(whose, now),
                };
            }
        };
        let taken = claimed.entries.len() + claimed.heavy.len();
        match stream.recovery.walk(whose) {
            Some(walk) if suspect.is_none() => walk.claimed(taken, &before[claimed.looked_at.min(before.len())..]),
            _ => {}
        }
        self.stats.read(kind, taken as u64);
        let lost = claimed.lost.len();
        self.take_over(stream, before, claimed, suspect, now);
        if lost > 0 {
            self.lost(kind, "pending entries had been trimmed away", inputs);
        }
    }

    /// Takes in what was claimed. The suspect, if it didn't come, makes way for the next.
    fn take_over(&mut self, stream: &mut Stream, before: &[Found], claimed: Claimed, suspect: Option<EntryId>, now: Instant) {
        let came = |id| claimed.entries.iter().any(|entry| entry.id == id) || claimed.heavy.iter().any(|heavy| heavy.id == id);
        if let Some(id) = suspect.filter(|id| !came(*id)) {
            stream.recovery.let_go(id);
        }
        let deliveries: HashMap<EntryId, u64> = before.iter().copied().collect();
        let fields = claimed.entries.iter().filter_map(|entry| entry.fields.as_ref());
        stream.weigh(fields.map(|fields| Size::of(fields).weight()).sum(), claimed.entries.len());
        for entry in claimed.entries {
            let count = deliveries.get(&entry.id).map_or(1, |before| before + 1);
            let how = if suspect.is_some() { How::Alone } else { How::Claimed };
            self.take_in(stream, entry, count, how, now);
        }
        for heavy in claimed.heavy {
            self.too_heavy(stream, heavy, deliveries.get(&heavy.id).map_or(1, |before| (*before).max(1)));
        }
    }

    fn kept(&mut self, stream: &mut Stream, kept: Result<(), Fault>, now: Instant) {
        stream.kept();
        if let Err(fault) = kept {
            self.trouble("claim", &fault, now);
        }
    }

    fn beaten(&mut self, beat: Result<Beat, Fault>, took: Duration, now: Instant) {
        self.beating = false;
        match beat {
            Ok(beat) => {
                self.watch.answered(took);
                self.stats.notices_mut().behind = beat.notices_behind;
                if beat.found_stray {
                    journal::stray_lease(&self.names.lease);
                }
                if beat.holds_lease != self.is_reader() {
                    tracing::info!(reader = beat.holds_lease, "{}", lease_text(beat.holds_lease));
                    self.surveyed = None;
                }
                // Who has just died is looked after at once.
                if self.company.as_ref().is_some_and(|before| before.alive.iter().any(|name| !beat.alive.contains(name))) {
                    self.surveyed = None;
                }
                // Who looks after the dead learns of a death when it is one, not with the beat after.
                if beat.holds_lease {
                    self.next_beat = self.next_beat.min(now + beat.next_death);
                }
                self.stats.reader(beat.holds_lease);
                self.stats.set_instances(beat.alive.len() as u64);
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
        inputs.stream(kind).is_stirred |= survey.pending > 0 || survey.lag > 0 || !beat.may_judge;
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
        if let Some(ground) = self.ground {
            let anew = std::mem::replace(&mut stream.counted_on, ground) != ground;
            stream.trimmed.take_if(|_| anew);
            if survey.suspicious || anew {
                chores.push(chores::lost_unread(stream.group(), anew));
            }
        }
        let trims = kind == StreamKind::Critical || self.settings.trim;
        if let Some(floor) = survey.floor.filter(|floor| trims && stream.trimmed != Some(*floor)) {
            chores.push(chores::trim(stream.group(), floor));
        }
        if !beat.may_judge {
            return;
        }
        let is_dead = |name: &&String| !beat.alive.contains(name);
        let own = stream.group().consumer();
        let dead: Vec<String> = survey.owners.iter().map(|(name, _)| name).filter(is_dead).filter(|name| *name != own).cloned().collect();
        for gone in survey.consumers.iter().filter(is_dead).filter(|name| !dead.contains(name)).take(REMOVALS) {
            chores.push(chores::remove_consumer(stream.group(), gone.clone(), self.names.beats.clone(), beat.alive_since()));
        }
        if survey.pending > 0 {
            stream.recovery.begin_takeover(dead, self.settings.min_idle(kind));
        }
    }

    /// A fault outside deliveries that concerns one stream.
    pub(crate) fn trouble_with(&mut self, stage: &'static str, stream: &str, fault: &Fault, now: Instant) {
        if fault.kind != FaultKind::WrongType {
            return self.trouble(stage, fault, now);
        }
        self.stats.error(stage, fault.kind.name(), 1);
        self.watch.no_stream(stream, now);
    }

    /// A fault outside deliveries.
    pub(crate) fn trouble(&mut self, stage: &'static str, fault: &Fault, now: Instant) {
        self.stats.error(stage, fault.kind.name(), 1);
        self.watch.met(stage, fault, now);
        journal::trouble(stage, fault);
    }
}

fn lease_text(held: bool) -> &'static str {
    if held { "this instance reads the ordinary stream now" } else { "this instance no longer reads the ordinary stream" }
}
