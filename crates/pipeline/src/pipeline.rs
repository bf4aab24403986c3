//! THE loop. One task owns the state; each turn starts what is due, waits for one step and applies it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;
use unstale_batcher::{Batch, Batcher, Source};
use unstale_connect::{Client, Fault};
use unstale_events::{Invalidation, StreamKind};
use unstale_notices::Hub;
use unstale_router::Router;
use unstale_sink::Sink;
use unstale_source::{Beat, Letter, Letters, Membership, Names, Read, Size};

use crate::chores;
use crate::handle::{Call, DeliverError, DeliverReport, Request, Seat};
use crate::inputs::{Inputs, Returned, Step};
use crate::journal::Summary;
use crate::loss::History;
use crate::metrics::Metrics;
use crate::outcome::give_up;
use crate::settings::{Parts, ROLES, Settings};
use crate::stats::Stats;
use crate::stream::Stream;
use crate::watch::Watch;

/// How often an instance says that it lives and tries for the lease.
const BEAT: Duration = Duration::from_millis(500);
/// How often the connections are looked at, the health report is made, and the metrics are tidied up.
const LOOK: Duration = Duration::from_millis(100);
/// How often while some are down: as soon as they are up there is work.
const LOOK_DOWN: Duration = Duration::from_millis(10);
/// The connection of all chores.
pub(crate) const CONTROL: &str = ROLES[6];
/// The connections without which nobody can read the ordinary stream and deliver what it brings.
const READING: [&str; 2] = [ROLES[0], ROLES[2]];
/// How often the holder of the lease looks at the streams.
const SURVEY: Duration = Duration::from_secs(1);
/// How often a stand-by does, for its metrics, and who has found nothing new.
const GLANCE: Duration = Duration::from_secs(3);
/// For so long after a critical event no read is sent ahead: what is under way then is what the next one has to wait for.
const URGENCY: Duration = Duration::from_secs(1);
/// The pause before a failed order to Redis is given again.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);
/// How many dead letters are written at a time.
const BURIALS: usize = 16;
/// How long after something happened the numbers are shown while there is work. To show them takes as long as to deliver an event, which comes
/// first.
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
        let (now, metrics) = (Instant::now(), seat.metrics());
        let replays = parts.sink.replayers().into_iter().map(|replayer| chores::replay(Box::new(replayer)));
        let inputs = Inputs {
            critical: Stream::new(parts.critical, now),
            ordinary: Stream::new(parts.ordinary, now),
            deliveries: FuturesUnordered::new(),
            repeats: FuturesUnordered::new(),
            chores: replays.collect(),
            seat,
            confirmed: parts.hub.confirmed(),
        };
        let owner = State {
            batcher: Batcher::new(settings.batching.clone()),
            router: parts.router,
            sink: parts.sink,
            membership: parts.membership,
            letters: parts.letters,
            names: parts.names,
            control: parts.control,
            hub: parts.hub,
            watch: Watch::new(parts.lines, settings.health, now),
            summary: Summary::default(),
            stats,
            metrics,
            settings,
            invalidation: Invalidation::default(),
            graves: VecDeque::new(),
            grave_bytes: 0,
            burials: 0,
            tickets: HashMap::new(),
            next_ticket: 0,
            flying_bytes: 0,
            company: None,
            ground: None,
            next_look: now,
            next_beat: now,
            beating: false,
            wanted_lease: false,
            surveyed: None,
            surveys: 0,
            show_at: None,
            urgent: None,
            history: History::Unknown,
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
pub(crate) struct State {
    pub(crate) settings: Settings,
    pub(crate) router: Arc<Router>,
    pub(crate) sink: Arc<Sink>,
    pub(crate) membership: Membership,
    pub(crate) letters: Letters,
    pub(crate) names: Names,
    pub(crate) control: Client,
    pub(crate) hub: Arc<Hub>,
    pub(crate) batcher: Batcher,
    pub(crate) watch: Watch,
    pub(crate) summary: Summary,
    pub(crate) stats: Stats,
    pub(crate) metrics: Arc<Metrics>,
    /// What the routes made of the event at hand; kept for its memory.
    pub(crate) invalidation: Invalidation,
    /// Dead letters that wait to be written.
    pub(crate) graves: VecDeque<Grave>,
    /// What these hold, in bytes.
    pub(crate) grave_bytes: usize,
    pub(crate) burials: usize,
    /// Requests that wait for their batch.
    pub(crate) tickets: HashMap<u64, Ticket>,
    pub(crate) next_ticket: u64,
    /// What the batches under way hold, in bytes.
    pub(crate) flying_bytes: usize,
    /// What the last beat found.
    pub(crate) company: Option<Beat>,
    /// What effects stand on, see [`Watch::ground`].
    pub(crate) ground: Option<u64>,
    pub(crate) next_look: Instant,
    pub(crate) next_beat: Instant,
    pub(crate) beating: bool,
    pub(crate) wanted_lease: bool,
    /// When the streams were looked at last; `None` if that is to be done at once.
    pub(crate) surveyed: Option<Instant>,
    pub(crate) surveys: usize,
    /// When the numbers are shown at the latest, if there are new ones.
    pub(crate) show_at: Option<Instant>,
    /// When a critical event was read last.
    pub(crate) urgent: Option<Instant>,
    pub(crate) history: History,
    /// Since when the process is ending.
    pub(crate) draining: Option<Instant>,
}

/// A request that waits for its batch.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) reply: oneshot::Sender<Result<DeliverReport, DeliverError>>,
    /// Whether somebody then waits for every instance.
    pub(crate) confirm: bool,
}

/// A dead letter that waits to be written.
#[derive(Debug)]
pub(crate) struct Grave {
    pub(crate) kind: StreamKind,
    pub(crate) letter: Box<Letter>,
    /// How long it waits, for it could not be written before.
    pub(crate) after: Duration,
}

/// Starting what is due.
impl State {
    fn start(&mut self, inputs: &mut Inputs, now: Instant) {
        self.look_around(inputs, now);
        // Before the ground is looked at: what comes up after that may be another process, and nothing is acknowledged there yet.
        let is_up = self.watch.is_up(CONTROL);
        self.check_ground(inputs, now);
        if is_up {
            self.start_chores(inputs, now);
        }
        self.start_deliveries(inputs, now);
        self.start_reads(inputs, now);
        // When all is delivered, at once: what is acknowledged has been shown.
        let is_idle = inputs.deliveries.is_empty() && self.batcher.is_empty();
        if self.show_at.is_some_and(|at| is_idle || at <= now) {
            self.show(inputs);
        }
    }

    fn look_around(&mut self, inputs: &mut Inputs, now: Instant) {
        if now >= self.next_look {
            if self.watch.links(&mut self.stats, now) {
                inputs.streams().into_iter().for_each(|stream| stream.recovery.reconnected(now));
            }
            self.next_look = now + if self.watch.all_up() { LOOK } else { LOOK_DOWN };
            if inputs.critical.has_caught_up() && inputs.ordinary.has_caught_up() {
                self.watch.all_delivered();
            }
            let health = self.watch.judge(&self.stats, self.draining.is_some(), now);
            inputs.seat.publish_health(health);
            self.summary.write(&self.stats, now);
            self.metrics.upkeep();
            self.show_at = Some(now);
        }
    }

    /// Whether what was done still stands. Where a server was replaced by another process, after a failover or a restart, what the one before
    /// confirmed last may be missing: what is not acknowledged yet is done again, for acknowledged there it would be lost.
    pub(crate) fn check_ground(&mut self, inputs: &mut Inputs, now: Instant) {
        let ground = self.watch.ground();
        if std::mem::replace(&mut self.ground, ground) != ground {
            let owed =
                inputs.streams().into_iter().flat_map(|stream| std::mem::take(&mut stream.owed).into_iter().map(|id| (stream.kind(), id)));
            let owed: Vec<_> = owed.collect();
            give_up(owed, inputs, now);
        }
    }

    fn start_chores(&mut self, inputs: &mut Inputs, now: Instant) {
        if self.history == History::Unknown {
            self.history = History::Asked;
            inputs.chores.push(chores::recall(&self.control, &self.names.notices, Duration::ZERO));
        }
        let wants_lease = self.can_read();
        if (now >= self.next_beat || wants_lease != self.wanted_lease) && !self.beating {
            self.beating = true;
            self.wanted_lease = wants_lease;
            self.next_beat = now + BEAT;
            inputs.chores.push(chores::beat(&self.membership, wants_lease, self.hub.position()));
        }
        let is_busy = self.is_reader() && (inputs.critical.is_stirred || inputs.ordinary.is_stirred);
        let pause = if is_busy { SURVEY } else { GLANCE };
        if self.surveyed.is_none_or(|last| now >= last + pause) && self.surveys == 0 {
            let at_once = self.surveyed.replace(now).is_none();
            self.surveys = 2;
            let Inputs { critical, ordinary, chores, .. } = inputs;
            for stream in [critical, ordinary] {
                let is_stirred = std::mem::replace(&mut stream.is_stirred, false);
                chores.push(chores::survey(stream.group(), is_stirred || at_once));
            }
        }
        while self.burials < BURIALS
            && let Some(grave) = self.graves.pop_front()
        {
            self.burials += 1;
            let chore = chores::bury(inputs.stream(grave.kind).group(), &self.letters, grave, self.settings.entry, self.ground);
            inputs.chores.push(chore);
        }
        self.start_recovering(inputs, now);
    }

    fn start_recovering(&mut self, inputs: &mut Inputs, now: Instant) {
        let held = self.bytes(inputs);
        let calm = inputs.deliveries.is_empty() && self.batcher.is_empty();
        let Inputs { critical, ordinary, chores, .. } = inputs;
        for stream in [&mut *critical, &mut *ordinary] {
            if let Some(owed) = stream.begin_ack(calm, now) {
                chores.push(chores::ack(stream.group(), owed, self.ground));
            }
            chores.extend(stream.keep(self.settings.min_idle(stream.kind()), now));
            chores.extend(stream.recover(held, self.room(stream.kind()), self.settings.entry, now));
        }
        // One suspect at a time, of both streams, or nobody could say which of two has ended the process.
        if !critical.recovery.has_suspect() && !ordinary.recovery.has_suspect() {
            let at_work = critical.is_taking_up() || ordinary.is_taking_up();
            let mut streams = [critical, ordinary].into_iter();
            chores.extend(streams.find_map(|stream| stream.try_suspect(at_work, self.settings.entry, now)));
        }
    }

    fn start_deliveries(&mut self, inputs: &mut Inputs, now: Instant) {
        while let Some(batch) = self.batcher.pop(|_| true, now) {
            self.flying_bytes += weight(&batch);
            let (sink, ground) = (Arc::clone(&self.sink), self.ground);
            let confirm = self.is_awaited_everywhere(&batch);
            let deliver = async move {
                let delivery = if confirm { sink.deliver_confirmed(&batch).await } else { sink.deliver(&batch).await };
                Box::new(Returned { batch, delivery, closed: now, ground })
            };
            inputs.deliveries.push(deliver.boxed());
        }
    }

    /// Whether somebody waits for every instance to pass its notices on: who asked for it, or a prober for its canary.
    fn is_awaited_everywhere(&self, batch: &Batch) -> bool {
        if batch.counts.get(self.router.caches().canary().index()).is_some_and(|canaries| canaries.queued > 0) {
            return true;
        }
        let is_awaited = |ticket: &u64| self.tickets.get(ticket).is_some_and(|ticket| ticket.confirm);
        batch.entries.iter().any(|entry| matches!(&entry.source, Source::Request(ticket) if is_awaited(ticket)))
    }

    /// A read is always under way, unless there is something older to do first, or too much at hand.
    fn start_reads(&mut self, inputs: &mut Inputs, now: Instant) {
        if self.draining.is_some() || !matches!(self.history, History::Known(_)) {
            return;
        }
        let held = self.bytes(inputs);
        let is_reader = self.is_reader();
        let is_calm = self.urgent.is_none_or(|last| now >= last + URGENCY);
        for stream in inputs.streams() {
            let kind = stream.kind();
            let mine = kind == StreamKind::Critical || is_reader;
            let rested = stream.resting_until.is_none_or(|until| until <= now);
            let up = self.watch.is_up(role_of_reader(kind));
            if up && mine && rested && stream.recovery.lets_read(now) && held < self.room(kind) {
                stream.read(self.settings.entry, is_calm);
            }
        }
    }

    /// How much the loop may hold before it takes in no more of a stream, in bytes: the last quarter belongs to critical events.
    fn room(&self, kind: StreamKind) -> usize {
        match kind {
            StreamKind::Critical => self.settings.memory,
            StreamKind::Ordinary => self.settings.memory / 4 * 3,
        }
    }

    /// Until when nothing needs to be started.
    fn due(&self, inputs: &Inputs, now: Instant) -> Instant {
        let mut due = [self.batcher.deadline(|_| true), self.show_at].into_iter().flatten().fold(self.next_look, Instant::min);
        if self.watch.is_up(CONTROL) {
            due = due.min(self.next_beat);
            due = [&inputs.critical, &inputs.ordinary].into_iter().filter_map(|stream| stream.due(now)).fold(due, Instant::min);
        }
        due
    }

    /// Whether this process is able to do the reader's work; if not, another should have the lease.
    fn can_read(&self) -> bool {
        self.draining.is_none() && READING.iter().all(|role| self.watch.is_up(role))
    }

    pub(crate) fn is_reader(&self) -> bool {
        self.company.as_ref().is_some_and(|beat| beat.holds_lease)
    }

    /// What the loop holds, in bytes.
    fn bytes(&self, inputs: &Inputs) -> usize {
        let lanes: usize = self.batcher.pending().iter().map(|load| load.bytes).sum();
        lanes + self.flying_bytes + self.grave_bytes + inputs.critical.bytes() + inputs.ordinary.bytes()
    }
}

/// Applying steps.
impl State {
    fn apply(&mut self, step: Step, inputs: &mut Inputs, now: Instant) {
        if !matches!(step, Step::Due) {
            self.show_at.get_or_insert(now + SHOW);
        }
        match step {
            Step::Read(kind, Ok(Read::Entries(entries))) => {
                if kind == StreamKind::Critical && !entries.is_empty() {
                    self.urgent = Some(now);
                }
                let fields = entries.iter().filter_map(|entry| entry.fields.as_ref());
                inputs.stream(kind).has_read(fields.map(|fields| Size::of(fields).weight()).sum(), entries.len());
                // Redis works on the next read while this one is taken in.
                self.start_reads(inputs, now);
                self.read(inputs.stream(kind), entries, now);
            }
            Step::Arrived(kind) => self.take_slice(inputs.stream(kind), now),
            Step::Read(kind, Ok(Read::Delivered(delivered))) => inputs.stream(kind).delivered(delivered, now),
            Step::Read(kind, Ok(Read::Remade { stream_was_gone })) => self.remade(kind, stream_was_gone, inputs),
            Step::Read(kind, Err(fault)) => self.read_failed(inputs.stream(kind), &fault, now),
            Step::Returned(returned) => self.returned(returned, inputs, now),
            Step::Repeated(repeated) => self.repeated(&repeated, inputs, now),
            Step::Done(done) => self.done(*done, inputs, now),
            Step::Called(Call::Request(Request::Deliver(deliver))) => {
                let has_room = self.bytes(inputs) < self.settings.memory;
                self.asked(deliver, has_room, now);
            }
            Step::Called(Call::Drain) => self.drain(inputs, now),
            Step::Confirmed => self.next_beat = now,
            Step::Due => {}
        }
    }
}

/// Showing and ending.
impl State {
    fn show(&mut self, inputs: &mut Inputs) {
        self.show_at = None;
        for (priority, load) in unstale_events::Priority::ALL.into_iter().zip(self.batcher.pending()) {
            self.stats.queue(priority, load.entries as u64);
        }
        self.stats.heard(&self.hub.counts());
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
        inputs.streams().into_iter().for_each(|stream| stream.recovery.leave_to_others());
        while let Some(Request::Deliver(deliver)) = inputs.seat.waiting_request() {
            self.asked(deliver, true, now);
        }
    }

    fn ended(&self, inputs: &Inputs, now: Instant) -> Option<Ended> {
        let since = self.draining?;
        let finished = inputs.critical.is_finished() && inputs.ordinary.is_finished();
        let delivering = !inputs.deliveries.is_empty() || !inputs.repeats.is_empty();
        if finished && !delivering && self.batcher.is_empty() {
            return Some(Ended::Drained);
        }
        let left = inputs.critical.unfinished() + inputs.ordinary.unfinished();
        (now.saturating_duration_since(since) >= self.settings.drain).then_some(Ended::Deadline { left })
    }

    /// Tells the others that this instance is gone, so that they needn't find out; they would within seconds.
    async fn farewell(&mut self, inputs: &mut Inputs) {
        self.show(inputs);
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

/// What a batch under way takes, in bytes: itself, and as much again for its plan, its states and its notice (by the resident memory of a
/// process full of batches that wait for their second delete).
pub(crate) fn weight(batch: &Batch) -> usize {
    2 * batch.load.bytes
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
