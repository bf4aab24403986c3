//! What must hold whatever is pushed, popped and waited for, in any order.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use unstale_batcher::{Batch, Batcher, Settings, TargetState};
use unstale_events::{CacheId, Priority, Target, TargetKind, Targets};

use crate::kit::{item, ms, pop_all, seqs};

#[derive(Debug, Clone)]
enum Step {
    Push {
        priority: Priority,
        targets: Vec<(u16, TargetKind, String)>,
        alone: bool,
    },
    Wait(u64),
    /// Takes out what is due of the lanes with `true`.
    Pop([bool; 4]),
}

fn priority() -> impl Strategy<Value = Priority> {
    proptest::sample::select(Priority::ALL.to_vec())
}

/// Few and short texts, so that duplicates and matches are common.
fn target() -> impl Strategy<Value = (u16, TargetKind, String)> {
    let text = prop_oneof![
        8 => "[ab]{1,3}".prop_map(|text| (TargetKind::Key, text)),
        1 => r"[ab]{0,2}\*[ab]?".prop_map(|text| (TargetKind::Pattern, text)),
        1 => "[nm]".prop_map(|text| (TargetKind::Bump, text)),
    ];
    (0..3_u16, text).prop_map(|(cache, (kind, text))| (cache, kind, text))
}

fn step() -> impl Strategy<Value = Step> {
    let push = (priority(), vec(target(), 0..8), prop::bool::weighted(0.05)).prop_map(|(priority, targets, alone)| Step::Push {
        priority,
        targets,
        alone,
    });
    prop_oneof![10 => push, 3 => (0..150_u64).prop_map(Step::Wait), 2 => any::<[bool; 4]>().prop_map(Step::Pop)]
}

fn settings() -> impl Strategy<Value = Settings> {
    let unfolded = prop_oneof![Just(vec![]), Just(vec![CacheId(1)])];
    (prop::bool::weighted(0.9), 0..200_u64, 1..20_usize, any::<bool>(), unfolded).prop_map(
        |(enabled, window, max_size, coalescing, unfolded)| Settings {
            enabled,
            window: ms(window),
            max_size,
            coalescing,
            unfolded,
            ..Settings::default()
        },
    )
}

/// What was pushed as entry number `n` stands at position `n`.
struct Pushed {
    priority: Priority,
    targets: Targets,
}

/// What went in and what came out.
struct Run {
    pushed: Vec<Pushed>,
    popped: Vec<Batch>,
}

fn run(settings: &Settings, steps: &[Step]) -> Run {
    let mut batcher = Batcher::new(settings.clone());
    let mut now = Instant::now();
    let mut run = Run { pushed: Vec::new(), popped: Vec::new() };
    for step in steps {
        match step {
            Step::Push { priority, targets, alone } => {
                let pushed = Pushed { priority: *priority, targets: list(targets) };
                let item = item(run.pushed.len() as u64, *priority, &pushed.targets);
                match alone {
                    true => batcher.push_alone(item, now),
                    false => batcher.push(item, now),
                }
                run.pushed.push(pushed);
            }
            Step::Wait(time) => now += ms(*time),
            Step::Pop(lanes) => {
                let due = std::iter::from_fn(|| batcher.pop(|priority| lanes[priority.index()], now));
                run.popped.extend(due);
            }
        }
        assert_loads(&batcher, &run);
    }
    batcher.close();
    run.popped.extend(pop_all(&mut batcher, now));
    assert!(batcher.is_empty());
    assert_eq!(batcher.deadline(|_| true), None);
    run
}

fn list(targets: &[(u16, TargetKind, String)]) -> Targets {
    let mut list = Targets::default();
    for (cache, kind, text) in targets {
        list.push(Target { cache: CacheId(*cache), kind: *kind, text });
    }
    list
}

/// What waits is what was pushed and not yet popped.
fn assert_loads(batcher: &Batcher, run: &Run) {
    let pending = batcher.pending();
    let entries = run.pushed.len() - run.popped.iter().map(|batch| batch.entries.len()).sum::<usize>();
    let pushed: usize = run.pushed.iter().map(|pushed| countable(&pushed.targets).count()).sum();
    let popped: usize = run.popped.iter().map(|batch| batch.load.targets).sum();
    assert_eq!(pending.iter().map(|load| load.entries).sum::<usize>(), entries);
    assert_eq!(pending.iter().map(|load| load.targets).sum::<usize>(), pushed - popped);
}

fn countable(targets: &Targets) -> impl Iterator<Item = Target<'_>> {
    targets.iter().filter(|target| target.kind != TargetKind::Bump)
}

/// Whether doing `done` does what was `asked` for.
fn does(done: Target<'_>, asked: Target<'_>) -> bool {
    let matches = || done.kind == TargetKind::Pattern && asked.kind == TargetKind::Key && star_matches(done.text, asked.text);
    done == asked || done.cache == asked.cache && matches()
}

/// Patterns here have one star and nothing else.
fn star_matches(pattern: &str, key: &str) -> bool {
    pattern.split_once('*').is_some_and(|(start, end)| key.strip_prefix(start).is_some_and(|rest| rest.ends_with(end)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_entry_is_in_exactly_one_batch_of_its_lane(settings in settings(), steps in vec(step(), 0..60)) {
        let run = run(&settings, &steps);
        let mut entries: Vec<u64> = Vec::new();
        for batch in &run.popped {
            for seq in seqs(batch) {
                prop_assert_eq!(run.pushed[usize::try_from(seq).unwrap()].priority, batch.priority);
                entries.push(seq);
            }
        }
        entries.sort_unstable();
        prop_assert_eq!(entries, (0..run.pushed.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn entries_of_a_lane_keep_their_order(settings in settings(), steps in vec(step(), 0..60)) {
        let run = run(&settings, &steps);
        for priority in Priority::ALL {
            let lane: Vec<u64> = run.popped.iter().filter(|batch| batch.priority == priority).flat_map(seqs).collect();
            prop_assert!(lane.is_sorted());
        }
    }

    #[test]
    fn every_target_of_every_entry_is_covered_by_its_batch(settings in settings(), steps in vec(step(), 0..60)) {
        let run = run(&settings, &steps);
        for batch in &run.popped {
            for (entry, seq) in batch.entries.iter().zip(seqs(batch)) {
                let asked = &run.pushed[usize::try_from(seq).unwrap()].targets;
                let wanted = batch.wanted_by(entry);
                prop_assert_eq!(wanted.len(), asked.len());
                for (asked, position) in asked.iter().zip(wanted) {
                    let done = batch.targets.get(*position as usize).unwrap();
                    prop_assert!(does(done, asked), "{:?} does not do {:?}", done, asked);
                }
            }
        }
    }

    #[test]
    fn a_batch_holds_nothing_that_nobody_asked_for(settings in settings(), steps in vec(step(), 0..60)) {
        for batch in run(&settings, &steps).popped {
            let wanted: HashSet<u32> = batch.entries.iter().flat_map(|entry| batch.wanted_by(entry)).copied().collect();
            prop_assert_eq!(wanted.len(), batch.targets.len());
        }
    }

    #[test]
    fn no_batch_is_too_big_unless_it_is_one_entry(settings in settings(), steps in vec(step(), 0..60)) {
        for batch in run(&settings, &steps).popped {
            let one = batch.entries.len() == 1;
            prop_assert!(one || countable(&batch.targets).count() <= settings.max_size);
            prop_assert!(batch.entries.len() <= 10 * settings.max_size);
            prop_assert!(one || settings.enabled && !batch.alone);
        }
    }

    #[test]
    fn with_coalescing_no_target_is_twice_in_a_batch_without_it_all_are_kept(settings in settings(), steps in vec(step(), 0..60)) {
        let run = run(&settings, &steps);
        for batch in &run.popped {
            let distinct: HashSet<Target<'_>> = batch.targets.iter().collect();
            let kept = countable(&batch.targets).count();
            if settings.coalescing {
                prop_assert_eq!(distinct.len(), batch.targets.len());
            } else {
                prop_assert_eq!(kept, batch.load.targets);
            }
            let counters = batch.targets.iter().filter(|target| target.kind == TargetKind::Bump);
            prop_assert_eq!(counters.clone().collect::<HashSet<_>>().len(), counters.count());
        }
    }

    #[test]
    fn keys_fold_into_patterns_only_where_they_may(settings in settings(), steps in vec(step(), 0..60)) {
        for batch in run(&settings, &steps).popped {
            let patterns: Vec<Target<'_>> = batch.targets.iter().filter(|target| target.kind == TargetKind::Pattern).collect();
            let folds = |key: &Target<'_>| patterns.iter().any(|pattern| does(*pattern, *key)) && !settings.unfolded.contains(&key.cache);
            let redundant = batch.targets.iter().filter(|target| target.kind == TargetKind::Key).filter(folds).count();
            prop_assert!(redundant == 0 || !settings.coalescing || batch.priority == Priority::Critical);
        }
    }

    #[test]
    fn where_nothing_may_fold_every_target_is_itself(settings in settings(), steps in vec(step(), 0..60)) {
        let run = run(&settings, &steps);
        for batch in &run.popped {
            for (entry, seq) in batch.entries.iter().zip(seqs(batch)) {
                let asked = &run.pushed[usize::try_from(seq).unwrap()].targets;
                for (asked, position) in asked.iter().zip(batch.wanted_by(entry)) {
                    let may_fold = settings.coalescing && batch.priority != Priority::Critical && !settings.unfolded.contains(&asked.cache);
                    prop_assert!(may_fold || batch.targets.get(*position as usize) == Some(asked));
                }
            }
        }
    }

    #[test]
    fn counts_add_up(settings in settings(), steps in vec(step(), 0..60), outcomes in vec(0..3_u8, 1..10)) {
        let run = run(&settings, &steps);
        let mut queued: HashMap<usize, u64> = HashMap::new();
        for target in run.pushed.iter().flat_map(|pushed| countable(&pushed.targets)) {
            *queued.entry(target.cache.index()).or_default() += 1;
        }
        let mut counted: HashMap<usize, u64> = HashMap::new();
        for batch in &run.popped {
            let states: Vec<TargetState> = (0..batch.targets.len()).map(|position| state(outcomes[position % outcomes.len()])).collect();
            let settlement = batch.settle(&states);
            prop_assert_eq!(settlement.done.len() + settlement.dead.len() + settlement.failed.len(), batch.entries.len());
            for (cache, (count, settled)) in batch.counts.iter().zip(&settlement.counts).enumerate() {
                prop_assert_eq!(count.queued, count.coalesced + settled.processed + settled.failed);
                *counted.entry(cache).or_default() += count.queued;
            }
        }
        counted.retain(|_, count| *count > 0);
        prop_assert_eq!(counted, queued);
    }

    #[test]
    fn only_entries_whose_targets_are_all_done_are_acknowledged(settings in settings(), steps in vec(step(), 0..60), outcomes in vec(0..3_u8, 1..10)) {
        for batch in run(&settings, &steps).popped {
            let outcome = |position: usize| outcomes[position % outcomes.len()];
            let states: Vec<TargetState> = (0..batch.targets.len()).map(|position| state(outcome(position))).collect();
            let settlement = batch.settle(&states);
            for (entry, seq) in batch.entries.iter().zip(seqs(&batch)) {
                let worst = batch.wanted_by(entry).iter().map(|position| outcome(*position as usize)).max().unwrap_or(0);
                prop_assert_eq!(settlement.done.iter().any(|(_, id)| id.seq == seq), worst == 0);
                prop_assert_eq!(settlement.dead.iter().any(|buried| buried.id.seq == seq), worst == 1);
                prop_assert_eq!(settlement.failed.iter().any(|(_, id)| id.seq == seq), worst == 2);
            }
        }
    }

    /// A loop that sleeps until the deadline and takes out all that is due then: nobody waits longer than the window of his lane.
    #[test]
    fn whoever_keeps_the_deadlines_keeps_the_windows(settings in settings(), steps in vec(step(), 0..60)) {
        let mut batcher = Batcher::new(settings.clone());
        let mut now = Instant::now();
        let mut pushed: Vec<(Priority, Instant)> = Vec::new();
        for step in &steps {
            match step {
                Step::Push { priority, targets, .. } => {
                    batcher.push(item(pushed.len() as u64, *priority, &list(targets)), now);
                    pushed.push((*priority, now));
                }
                Step::Wait(time) => {
                    let until = now + ms(*time);
                    while let Some(deadline) = batcher.deadline(|_| true).filter(|deadline| *deadline <= until) {
                        now = now.max(deadline);
                        let batches = pop_all(&mut batcher, now);
                        prop_assert!(!batches.is_empty(), "a deadline at which nothing is due");
                        for seq in batches.iter().flat_map(seqs) {
                            let (priority, at) = pushed[usize::try_from(seq).unwrap()];
                            prop_assert!(now - at <= settings.window_of(priority));
                        }
                    }
                    now = until;
                }
                Step::Pop(_) => {}
            }
        }
    }

    /// Silence and windows are the same length: but for full batches, a lane sends no more than one a window.
    #[test]
    fn batches_of_a_lane_that_are_not_full_are_a_window_apart(steps in vec(step(), 0..60)) {
        let settings = Settings { max_size: 10_000, ..Settings::default() };
        let mut batcher = Batcher::new(settings.clone());
        let mut now = Instant::now();
        let mut last: [Option<Instant>; 4] = [None; 4];
        for (seq, step) in (0..).zip(&steps) {
            match step {
                Step::Push { priority, targets, .. } => batcher.push(item(seq, *priority, &list(targets)), now),
                Step::Wait(time) => now += ms(*time),
                Step::Pop(lanes) => {
                    while let Some(batch) = batcher.pop(|priority| lanes[priority.index()], now) {
                        let before = last[batch.priority.index()].replace(now);
                        prop_assert!(before.is_none_or(|before| now - before >= settings.window_of(batch.priority)));
                    }
                    let next = batcher.deadline(|priority| lanes[priority.index()]);
                    prop_assert!(next.is_none_or(|next| next > now), "what is due was taken out");
                }
            }
        }
    }

    #[test]
    fn the_most_urgent_due_batch_comes_first(settings in settings(), steps in vec(step(), 0..60)) {
        let mut batcher = Batcher::new(settings);
        let mut now = Instant::now();
        for (seq, step) in (0..).zip(&steps) {
            match step {
                Step::Push { priority, targets, .. } => batcher.push(item(seq, *priority, &list(targets)), now),
                Step::Wait(time) => now += ms(*time),
                Step::Pop(_) => {
                    let order: Vec<Priority> = pop_all(&mut batcher, now).iter().map(|batch| batch.priority).collect();
                    prop_assert!(order.is_sorted());
                }
            }
        }
    }
}

/// Done, permanent or failed: the greater number is the graver.
fn state(outcome: u8) -> TargetState {
    match outcome {
        0 => TargetState::Done,
        1 => TargetState::Permanent(unstale_events::Reason::new(unstale_events::Code::CommandFailed, "no")),
        _ => TargetState::Failed,
    }
}
