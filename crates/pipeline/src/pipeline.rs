//! THE loop. One task owns the state; each turn starts what is due, waits for one step and applies it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;
use unstale_batcher::{Batch, Batcher, DeadLetter, Item, Source, Verdict};
use unstale_connect::{Fault, PendingEntry};
use unstale_events::event::Event;
use unstale_events::{Code, Entry, EntryId, Invalidation, Reason, StreamKind};
use unstale_router::Router;
use unstale_sink::Sink;
use unstale_source::{Beat, Claimed, Letter, Letters, Membership, Names, Survey};

use crate::chores::{self, Done, Whose};
use crate::handle::{Call, Deliver, DeliverError, DeliverReport, Request, Seat};
use crate::inputs::{Inputs, Returned, Step};
use crate::journal::{self, Summary};
use crate::settings::{Parts, ROLES, Settings, Unrouted};
use crate::stats::{Delivered, Outcome, Settled, Stats};
use crate::stream::{Recovery, Stream};
use crate::watch::Watch;

/// How often an instance says that it lives and tries for the lease.
const BEAT: Duration = Duration::from_millis(500);
/// How often the connections are looked at, and the health report is made.
const LOOK: Duration = Duration::from_millis(100);
/// The connection of all chores.
const CONTROL: &str = ROLES[6];
/// How often the holder of the lease looks at the streams.
const SURVEY: Duration = Duration::from_secs(1);
/// How often a stand-by does: only for its metrics.
const GLANCE: Duration = Duration::from_secs(5);
/// How long an entry of a dead instance has been quiet at least, so that two who find it don't both take it.
const QUIET: Duration = Duration::from_secs(1);
/// The pause before a failed order to Redis is given again.
const PAUSE: Duration = Duration::from_secs(1);
/// How many dead letters are written at a time.
const BURIALS: usize = 16;
/// How often the numbers are shown while there is work.
const SHOW: Duration = Duration::from_millis(20);

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All that was read is done and acknowledged.
    Drained,
    /// The deadline passed; this many entries are left pending and will be taken over.
    Deadline {
        /// How many.
        left: usize,
    },
}

/// The loop and all that it owns.
#[derive(Debug)]
pub struct Pipeline {
    inputs: Inputs,
    state: State,
}

impl Pipeline {
    /// The loop over these parts. `stats` are its numbers from the start; `seat` is where it answers.
    pub fn new(settings: Settings, parts: Parts, stats: Stats, seat: Seat) -> Self {
        let now = Instant::now();
        let inputs = Inputs {
            critical: Stream::new(parts.critical, now),
            ordinary: Stream::new(parts.ordinary, now),
            deliveries: FuturesUnordered::new(),
            chores: FuturesUnordered::new(),
            seat,
        };
        let owner = State {
            batcher: Batcher::new(settings.batching.clone()),
            router: parts.router,
            sink: parts.sink,
            membership: parts.membership,
            letters: parts.letters,
            names: parts.names,
            watch: Watch::new(parts.links, settings.health),
            summary: Summary::default(),
            stats,
            settings,
            invalidation: Invalidation::default(),
            graves: Vec::new(),
            burials: 0,
            tickets: HashMap::new(),
            next_ticket: 0,
            flying_bytes: 0,
            company: None,
            next_look: now,
            next_beat: now,
            beating: false,
            next_survey: now,
            surveys: 0,
            shown: now,
            draining: None,
        };
        Self { inputs, state: owner }
    }

    /// Runs until it was told to drain and has.
    pub async fn run(mut self) -> Ended {
        loop {
            let now = Instant::now();
            self.state.start(&mut self.inputs, now);
            if let Some(ended) = self.state.ended(&self.inputs, now) {
                self.state.farewell(&mut self.inputs).await;
                return ended;
            }
            let due = self.state.due(&self.inputs, now);
            let step = self.inputs.next(due, self.state.draining.is_some()).await;
            self.state.apply(step, &mut self.inputs, Instant::now());
        }
    }
}

/// All that the loop knows, but for what it waits for.
#[derive(Debug)]
struct State {
    settings: Settings,
    router: Arc<Router>,
    sink: Arc<Sink>,
    membership: Membership,
    letters: Letters,
    names: Names,
    batcher: Batcher,
    watch: Watch,
    summary: Summary,
    stats: Stats,
    /// What the routes made of the event at hand; kept for its memory.
    invalidation: Invalidation,
    /// Dead letters that wait to be written, and after what pause.
    graves: Vec<(StreamKind, Box<Letter>, Duration)>,
    burials: usize,
    /// Requests that wait for their batch.
    tickets: HashMap<u64, oneshot::Sender<Result<DeliverReport, DeliverError>>>,
    next_ticket: u64,
    /// What the batches under way hold, in bytes.
    flying_bytes: usize,
    /// What the last beat found.
    company: Option<Beat>,
    next_look: Instant,
    next_beat: Instant,
    beating: bool,
    next_survey: Instant,
    surveys: usize,
    shown: Instant,
    /// Since when the process is ending.
    draining: Option<Instant>,
}

/// Starting what is due.
impl State {
    fn start(&mut self, inputs: &mut Inputs, now: Instant) {
        self.look_around(inputs, now);
        if self.watch.is_up(CONTROL) {
            self.start_chores(inputs, now);
        }
        self.start_deliveries(inputs, now);
        self.start_reads(inputs, now);
        self.show(inputs, now);
    }

    fn look_around(&mut self, inputs: &mut Inputs, now: Instant) {
        if now >= self.next_look {
            self.next_look = now + LOOK;
            self.watch.links(&mut self.stats);
            let health = self.watch.judge(&self.stats, self.draining.is_some(), now);
            inputs.seat.publish_health(health);
            self.summary.write(&self.stats, now);
        }
    }

    fn start_chores(&mut self, inputs: &mut Inputs, now: Instant) {
        if now >= self.next_beat && !self.beating {
            self.beating = true;
            self.next_beat = now + BEAT;
            inputs.chores.push(chores::beat(&self.membership, self.draining.is_none()));
        }
        if now >= self.next_survey && self.surveys == 0 {
            self.next_survey = now + if self.is_reader() { SURVEY } else { GLANCE };
            self.surveys = 2;
            inputs.chores.push(chores::survey(inputs.critical.group()));
            inputs.chores.push(chores::survey(inputs.ordinary.group()));
        }
        while self.burials < BURIALS
            && let Some((kind, letter, after)) = self.graves.pop()
        {
            self.burials += 1;
            let chore = chores::bury(inputs.stream(kind).group(), &self.letters, letter, after);
            inputs.chores.push(chore);
        }
        let Inputs { critical, ordinary, chores, .. } = inputs;
        for stream in [critical, ordinary] {
            if !stream.acking && !stream.owed.is_empty() && stream.ack_at <= now {
                stream.acking = true;
                let owed = std::mem::take(&mut stream.owed);
                chores.push(chores::ack(stream.group(), owed));
            }
            if matches!(stream.recovery, Recovery::Wanted(at) if at <= now) {
                stream.recovery = Recovery::Looking;
                chores.push(chores::list_own(stream.group()));
            }
        }
    }

    fn start_deliveries(&mut self, inputs: &mut Inputs, now: Instant) {
        while let Some(batch) = self.batcher.pop(|_| true, now) {
            self.flying_bytes += batch.load.bytes;
            let sink = Arc::clone(&self.sink);
            let deliver = async move {
                let delivery = sink.deliver(&batch).await;
                Box::new(Returned { batch, delivery, closed: now })
            };
            inputs.deliveries.push(deliver.boxed());
        }
    }

    /// A read is always under way, unless there is something older to do first, or too much at hand.
    fn start_reads(&mut self, inputs: &mut Inputs, now: Instant) {
        let held = self.bytes(inputs);
        let is_reader = self.is_reader();
        for stream in inputs.streams() {
            let (room, mine) = match stream.kind() {
                StreamKind::Critical => (self.settings.memory, true),
                // What is left belongs to critical events.
                StreamKind::Ordinary => (self.settings.memory / 4 * 3, is_reader),
            };
            let rested = stream.resting_until.is_none_or(|until| until <= now);
            let recovered = match stream.recovery {
                Recovery::None => true,
                // What was given up waits for its next try; new entries don't wait for it.
                Recovery::Wanted(at) => at > now,
                Recovery::Looking => false,
            };
            let up = self.watch.is_up(role_of_reader(stream.kind()));
            if up && mine && rested && recovered && held < room && self.draining.is_none() {
                let count = stream.count();
                stream.reader.begin(count);
            }
        }
    }

    /// Until when nothing needs to be started.
    fn due(&self, inputs: &Inputs, now: Instant) -> Instant {
        let mut due = self.batcher.deadline(|_| true).map_or(self.next_look, |deadline| deadline.min(self.next_look));
        if self.watch.is_up(CONTROL) {
            due = due.min(self.next_beat);
            due = [&inputs.critical, &inputs.ordinary].into_iter().filter_map(|stream| stream.due(now)).fold(due, Instant::min);
        }
        due
    }

    fn is_reader(&self) -> bool {
        self.company.as_ref().is_some_and(|beat| beat.holds_lease)
    }

    /// What the loop holds, in bytes.
    fn bytes(&self, inputs: &Inputs) -> usize {
        let lanes: usize = self.batcher.pending().iter().map(|load| load.bytes).sum();
        lanes + self.flying_bytes + inputs.critical.bytes() + inputs.ordinary.bytes()
    }
}

/// Applying steps.
impl State {
    fn apply(&mut self, step: Step, inputs: &mut Inputs, now: Instant) {
        match step {
            Step::Read(kind, Ok(entries)) => self.read(inputs.stream(kind), entries, now),
            Step::Read(kind, Err(fault)) => self.read_failed(inputs.stream(kind), &fault, now),
            Step::Returned(returned) => self.returned(*returned, inputs, now),
            Step::Done(done) => self.done(*done, inputs, now),
            Step::Called(Call::Request(Request::Deliver(deliver))) => self.asked(deliver, now),
            Step::Called(Call::Drain) => self.drain(inputs, now),
            Step::Due => {}
        }
    }

    fn read(&mut self, stream: &mut Stream, entries: Vec<Entry>, now: Instant) {
        stream.resting_until = None;
        self.stats.read(stream.kind(), entries.len() as u64);
        stream.weigh(entries.iter().map(size_of_entry).sum(), entries.len());
        for entry in entries {
            self.take_in(stream, entry, 1, false, now);
        }
    }

    fn read_failed(&mut self, stream: &mut Stream, fault: &Fault, now: Instant) {
        self.trouble("read", fault, now);
        stream.read_failed(now);
    }

    /// Takes an entry in, whether new or taken over, and passes it on to where it belongs.
    fn take_in(&mut self, stream: &mut Stream, entry: Entry, deliveries: u64, alone: bool, now: Instant) {
        if !stream.hold(entry.id, deliveries) {
            return;
        }
        let size = size_of_entry(&entry);
        let Some(fields) = entry.fields else {
            stream.owed.push(entry.id);
            return;
        };
        let grave = |state: &mut Self, fields, reasons| {
            let letter = Letter { stream: stream.group().stream().to_owned(), id: entry.id, fields, reasons, deliveries };
            state.graves.push((stream.kind(), Box::new(letter), Duration::ZERO));
        };
        if deliveries > self.settings.max_deliveries {
            let text = format!("delivered {} times, the last ones alone, and never finished: it seems to end the process", deliveries - 1);
            return grave(self, fields, vec![Reason::new(Code::Deliveries, text)]);
        }
        if size > self.settings.entry_bytes {
            self.stats.event(None, Outcome::DeadLettered);
            let text = format!("the entry has {size} bytes, more than limits.entry = {}", self.settings.entry_bytes);
            return grave(self, fields, vec![Reason::new(Code::TooLarge, text)]);
        }
        let event = match Event::decode(&fields) {
            Ok(event) => event,
            Err(reason) => {
                self.stats.event(None, Outcome::DeadLettered);
                return grave(self, fields, vec![reason]);
            }
        };
        let invalidation = &mut self.invalidation;
        invalidation.clear();
        self.router.route(&event, invalidation);
        if !invalidation.routed && self.settings.unrouted == Unrouted::DeadLetter {
            let text = format!("no route names the type {:?}", event.kind());
            invalidation.reasons.push(Reason::new(Code::Unrouted, text));
        }
        let outcome = match (invalidation.reasons.is_empty(), invalidation.routed) {
            (false, _) => Outcome::DeadLettered,
            (true, true) => Outcome::Routed,
            (true, false) => Outcome::Unrouted,
        };
        self.stats.event(invalidation.label, outcome);
        if invalidation.targets.is_empty() {
            if invalidation.reasons.is_empty() {
                return stream.owed.push(entry.id);
            }
            let reasons = std::mem::take(&mut invalidation.reasons);
            return grave(self, fields, reasons);
        }
        let dead = (!invalidation.reasons.is_empty())
            .then(|| Box::new(DeadLetter { reasons: std::mem::take(&mut invalidation.reasons), fields: fields.clone() }));
        self.stats.queued_all(invalidation.priority, &invalidation.targets);
        let item = Item {
            source: Source::Entry(stream.kind(), entry.id),
            priority: invalidation.priority,
            targets: &invalidation.targets,
            dead,
            correlation_id: event.correlation_id(),
            operation: invalidation.operation.as_deref(),
        };
        if alone {
            self.batcher.push_alone(item, now);
        } else {
            self.batcher.push(item, now);
        }
    }

    /// A request goes past the stream, in a batch of its own: its answer speaks of nothing else.
    fn asked(&mut self, deliver: Deliver, now: Instant) {
        let Deliver { invalidation, reply } = deliver;
        if invalidation.targets.is_empty() {
            // Nobody may wait for the answer any more; there is nothing to do about that.
            let _ = reply.send(Ok(DeliverReport { keys_deleted: 0 }));
            return;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.insert(ticket, reply);
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

    fn returned(&mut self, returned: Returned, inputs: &mut Inputs, now: Instant) {
        let Returned { batch, delivery, closed } = returned;
        self.flying_bytes -= batch.load.bytes;
        let settlement = batch.settle(&delivery.states);
        self.count(&batch, &delivery, &settlement.counts, settlement.done.iter().map(|(_, id)| *id), closed, now);
        journal::delivered(&batch, &delivery);
        for trouble in &delivery.errors {
            self.watch.missing(&trouble.fault, now);
        }
        for (kind, id) in settlement.done {
            inputs.stream(kind).owed.push(id);
        }
        for buried in settlement.dead {
            let stream = inputs.stream(buried.stream);
            let letter = Letter {
                stream: stream.group().stream().to_owned(),
                id: buried.id,
                fields: buried.fields.cloned().unwrap_or_default(),
                reasons: buried.reasons,
                deliveries: stream.deliveries(buried.id),
            };
            self.graves.push((buried.stream, Box::new(letter), Duration::ZERO));
        }
        for (ticket, verdict) in settlement.requests {
            self.answer(ticket, &verdict, &delivery);
        }
        if settlement.failed.is_empty() {
            inputs.streams().into_iter().for_each(|stream| stream.delivering(now));
        }
        give_up(settlement.failed, inputs, now);
    }

    fn answer(&mut self, ticket: u64, verdict: &Verdict, delivery: &unstale_sink::Delivery) {
        let Some(reply) = self.tickets.remove(&ticket) else { return };
        let why = || delivery.errors.last().map_or_else(|| "given up".to_owned(), |trouble| trouble.fault.to_string());
        let answer = match verdict {
            Verdict::Done => Ok(DeliverReport { keys_deleted: delivery.deleted.iter().sum() }),
            Verdict::Failed => Err(DeliverError::Failed(why())),
            Verdict::Dead(reasons) => Err(DeliverError::Failed(reasons.first().map_or_else(why, ToString::to_string))),
        };
        // Nobody may wait for the answer any more; the work is done nevertheless.
        let _ = reply.send(answer);
    }

    fn count(
        &mut self,
        batch: &Batch,
        delivery: &unstale_sink::Delivery,
        settled: &[unstale_batcher::Settled],
        done: impl Iterator<Item = EntryId>,
        closed: Instant,
        now: Instant,
    ) {
        let rows: Vec<_> = self
            .router
            .caches()
            .iter()
            .zip(batch.counts.iter().zip(settled))
            .filter(|(_, (count, _))| count.queued > 0)
            .map(|((cache, _), (count, settled))| Settled {
                cache,
                processed: settled.processed,
                coalesced: count.coalesced,
                failed: settled.failed,
                keys_deleted: delivery.deleted.get(cache.index()).copied().unwrap_or(0),
            })
            .collect();
        let errors: Vec<_> =
            delivery.errors.iter().map(|trouble| (trouble.stage.name(), trouble.fault.kind.name(), trouble.count)).collect();
        let delivered = Delivered {
            priority: batch.priority,
            caches: &rows,
            took: now.saturating_duration_since(closed),
            attempts: 1 + delivery.retries,
            errors: &errors,
            confirmed_ms: delivery.at_ms,
            round_trips: delivery.round_trips,
            notices: delivery.notices,
        };
        self.stats.delivered(&delivered, done, now);
    }
}

/// Applying what chores bring.
impl State {
    fn done(&mut self, done: Done, inputs: &mut Inputs, now: Instant) {
        match done {
            Done::Acked(kind, acked) => self.acked(inputs.stream(kind), acked, now),
            Done::Buried(kind, letter, buried) => self.buried(inputs.stream(kind), letter, buried, now),
            Done::Released(Ok(())) | Done::Tidied(Ok(())) => {}
            Done::Released(Err(fault)) => self.trouble("release", &fault, now),
            Done::Tidied(Err(fault)) => self.trouble("tidy", &fault, now),
            Done::Listed(kind, whose, listed) => self.listed(kind, whose, listed, inputs, now),
            Done::Claimed(kind, before, claimed) => self.claimed(inputs.stream(kind), &before, claimed, now),
            Done::Beaten(beat, took) => self.beaten(beat, took, now),
            Done::Surveyed(kind, survey) => self.surveyed(kind, survey, inputs, now),
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
                stream.owed.push(letter.id);
            }
            Err(fault) => {
                self.trouble("bury", &fault, now);
                self.graves.push((stream.kind(), letter, PAUSE));
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
        let quiet = if whose == Whose::Own { Duration::ZERO } else { QUIET };
        let (plain, suspect) = stream.choose(found);
        stream.looked(whose);
        let claims: Vec<_> = [plain, suspect.into_iter().collect()].into_iter().filter(|found| !found.is_empty()).collect();
        let group = stream.group().clone();
        inputs.chores.extend(claims.into_iter().map(|found| chores::claim(&group, found, quiet)));
    }

    fn claimed(&mut self, stream: &mut Stream, before: &[(EntryId, u64)], claimed: Result<Claimed, Fault>, now: Instant) {
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(fault) => {
                self.trouble("claim", &fault, now);
                stream.forget_suspect(before);
                // Whether it was carried out isn't known: if so, the entries are now this process's own.
                return stream.recover_later(now);
            }
        };
        journal::claimed(stream.kind(), &claimed);
        let deliveries: HashMap<EntryId, u64> = before.iter().copied().collect();
        if !claimed.entries.iter().any(|entry| stream.suspect == Some(entry.id)) {
            stream.forget_suspect(before);
        }
        self.stats.read(stream.kind(), claimed.entries.len() as u64);
        for entry in claimed.entries {
            let count = deliveries.get(&entry.id).map_or(1, |before| before + 1);
            let alone = stream.suspect == Some(entry.id);
            self.take_in(stream, entry, count, alone, now);
        }
    }

    fn beaten(&mut self, beat: Result<Beat, Fault>, took: Duration, now: Instant) {
        self.beating = false;
        match beat {
            Ok(beat) => {
                self.membership.heard(&beat);
                self.watch.answered(took);
                if beat.holds_lease != self.is_reader() {
                    tracing::info!(reader = beat.holds_lease, "{}", lease_text(beat.holds_lease));
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
            Err(fault) => return self.trouble("survey", &fault, now),
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
            chores.push(chores::list_others(stream.group(), dead, QUIET, self.settings.min_idle(kind)));
        }
    }

    /// A fault outside deliveries.
    fn trouble(&mut self, stage: &'static str, fault: &Fault, now: Instant) {
        self.stats.error(stage, fault.kind.name(), 1);
        self.watch.missing(fault, now);
        journal::trouble(stage, fault);
    }
}

/// Showing and ending.
impl State {
    fn show(&mut self, inputs: &mut Inputs, now: Instant) {
        let idle = inputs.deliveries.is_empty() && self.batcher.is_empty();
        if !idle && now.saturating_duration_since(self.shown) < SHOW {
            return;
        }
        self.shown = now;
        for (priority, load) in unstale_events::Priority::ALL.into_iter().zip(self.batcher.pending()) {
            self.stats.queue(priority, load.entries as u64);
        }
        inputs.seat.publish(&self.stats);
    }

    fn drain(&mut self, inputs: &mut Inputs, now: Instant) {
        tracing::info!(held = held(inputs), "draining: no more is read, what was read is finished");
        self.draining = Some(now);
        self.next_beat = now;
        self.batcher.close();
        inputs.seat.close();
        let Inputs { critical, ordinary, chores, .. } = inputs;
        chores.extend(
            [critical, ordinary].into_iter().filter(|stream| stream.reader.is_reading()).map(|stream| chores::unblock(&stream.reader)),
        );
        while let Some(Request::Deliver(deliver)) = inputs.seat.waiting_request() {
            self.asked(deliver, now);
        }
    }

    fn ended(&self, inputs: &Inputs, now: Instant) -> Option<Ended> {
        let since = self.draining?;
        let reading = inputs.critical.reader.is_reading() || inputs.ordinary.reader.is_reading();
        let left = held(inputs);
        if !reading && left == 0 && inputs.deliveries.is_empty() && self.batcher.is_empty() {
            return Some(Ended::Drained);
        }
        (now.saturating_duration_since(since) >= self.settings.drain).then_some(Ended::Deadline { left })
    }

    /// Tells the others that this instance is gone, so that they needn't find out; they would within seconds.
    async fn farewell(&mut self, inputs: &mut Inputs) {
        self.show(inputs, Instant::now());
        let goodbye = async {
            self.membership.goodbye().await?;
            for stream in inputs.streams() {
                let group = stream.group();
                group.remove_consumer(group.consumer(), &self.names.beats, u64::MAX >> 12).await?;
            }
            Ok::<_, Fault>(())
        };
        match tokio::time::timeout(PAUSE, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => tracing::warn!(%fault, "could not say goodbye; the others will find out"),
            Err(_) => tracing::warn!("could not say goodbye in time; the others will find out"),
        }
    }
}

/// Leaves entries pending, counted as often delivered as before this time.
fn give_up(failed: Vec<(StreamKind, EntryId)>, inputs: &mut Inputs, now: Instant) {
    let mut released: HashMap<(StreamKind, u64), Vec<EntryId>> = HashMap::new();
    for (kind, id) in failed {
        let deliveries = inputs.stream(kind).let_go(id);
        released.entry((kind, deliveries.saturating_sub(1))).or_default().push(id);
        inputs.stream(kind).recover_later(now);
    }
    for ((kind, deliveries), ids) in released {
        let chore = chores::release(inputs.stream(kind).group(), ids, deliveries);
        inputs.chores.push(chore);
    }
}

fn role_of_reader(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Ordinary => ROLES[0],
        StreamKind::Critical => ROLES[1],
    }
}

fn held(inputs: &Inputs) -> usize {
    inputs.critical.held() + inputs.ordinary.held()
}

fn size_of_entry(entry: &Entry) -> usize {
    entry.fields.iter().flatten().map(|(name, value)| name.len() + value.len()).sum()
}

fn lease_text(held: bool) -> &'static str {
    if held { "this instance reads the ordinary stream now" } else { "another instance reads the ordinary stream now" }
}
