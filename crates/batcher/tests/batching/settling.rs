//! From what became of the targets to what becomes of the entries.

use crate::kit::{Bench, id, item, targets, targets_of};
use unstale_batcher::{Batch, DeadLetter, Item, Settings, Settled, Source, TargetState, Verdict};
use unstale_events::{CacheId, Code, Priority, Reason, StreamKind};

use StreamKind::Ordinary;
use TargetState::{Done, Failed, Permanent};

/// Entries 0 → a, 1 → a b, 2 → c, in one batch with the targets a, b, c.
fn batch() -> Batch {
    let mut bench = Bench::new(Settings::default());
    for texts in [&["a"][..], &["a", "b"], &["c"]] {
        bench.push(Priority::Normal, texts);
    }
    bench.pop().remove(0)
}

fn reason(text: &str) -> Reason {
    Reason::new(Code::CommandFailed, text)
}

#[test]
fn all_done_is_all_acknowledged() {
    let batch = batch();
    let settlement = batch.settle(&[Done, Done, Done]);
    assert_eq!(settlement.done, [0, 1, 2].map(|seq| (Ordinary, id(seq))));
    assert_eq!(settlement.counts, [Settled { processed: 3, failed: 0 }]);
    assert!(settlement.failed.is_empty() && settlement.dead.is_empty() && settlement.requests.is_empty());
}

#[test]
fn a_failed_target_leaves_pending_whoever_asked_for_it_and_nobody_else() {
    let batch = batch();
    let settlement = batch.settle(&[Done, Failed, Done]);
    assert_eq!(settlement.done, [(Ordinary, id(0)), (Ordinary, id(2))]);
    assert_eq!(settlement.failed, [(Ordinary, id(1))]);
    assert_eq!(settlement.counts, [Settled { processed: 2, failed: 1 }]);
}

#[test]
fn a_shared_target_that_fails_leaves_all_who_share_it_pending() {
    let batch = batch();
    assert_eq!(batch.settle(&[Failed, Done, Done]).failed, [(Ordinary, id(0)), (Ordinary, id(1))]);
}

#[test]
fn a_target_without_a_state_counts_as_failed() {
    let batch = batch();
    let settlement = batch.settle(&[Done]);
    assert_eq!(settlement.done, [(Ordinary, id(0))]);
    assert_eq!(settlement.failed, [(Ordinary, id(1)), (Ordinary, id(2))]);
    assert_eq!(settlement.counts, [Settled { processed: 1, failed: 2 }]);
}

#[test]
fn a_permanent_fault_buries_the_entry_with_its_reason() {
    let batch = batch();
    let settlement = batch.settle(&[Done, Permanent(reason("WRONGTYPE")), Done]);
    assert_eq!(settlement.done, [(Ordinary, id(0)), (Ordinary, id(2))]);
    assert_eq!(settlement.dead.len(), 1);
    assert_eq!((settlement.dead[0].id, settlement.dead[0].fields), (id(1), None));
    assert_eq!(settlement.dead[0].reasons, [reason("WRONGTYPE")]);
    assert_eq!(settlement.counts, [Settled { processed: 2, failed: 1 }]);
}

#[test]
fn a_failure_outweighs_a_permanent_fault() {
    let batch = batch();
    let settlement = batch.settle(&[Failed, Permanent(reason("WRONGTYPE")), Done]);
    assert_eq!(settlement.failed, [(Ordinary, id(0)), (Ordinary, id(1))]);
    assert!(settlement.dead.is_empty());
}

#[test]
fn an_entry_with_refused_targets_is_buried_after_the_others_were_carried_out() {
    let mut bench = Bench::new(Settings::default());
    let keys = targets(&["a", "b"]);
    let fields = vec![("type".into(), "T".into())];
    let dead = DeadLetter { reasons: vec![Reason::new(Code::RefusedTarget, "x")], fields: fields.clone() };
    bench.batcher.push(Item { dead: Some(Box::new(dead)), ..item(0, Priority::High, &keys) }, bench.now);
    let batch = bench.pop().remove(0);

    let failed = batch.settle(&[Done, Failed]);
    assert_eq!((failed.failed.len(), failed.dead.len()), (1, 0), "it isn't buried before the others are done");

    let same = Permanent(reason("y"));
    let settlement = batch.settle(&[same.clone(), same]);
    assert_eq!(settlement.dead[0].reasons, [Reason::new(Code::RefusedTarget, "x"), reason("y")], "each reason once");
    assert_eq!(settlement.dead[0].fields, Some(&fields));
}

#[test]
fn requests_are_answered_and_never_acknowledged() {
    let mut bench = Bench::new(Settings::default());
    for (ticket, key) in [(1, "a"), (2, "b"), (3, "c")] {
        let keys = targets(&[key]);
        bench.batcher.push(Item { source: Source::Request(ticket), ..item(0, Priority::High, &keys) }, bench.now);
    }
    let batch = bench.pop().remove(0);
    let settlement = batch.settle(&[Done, Failed, Permanent(reason("no"))]);
    assert_eq!(settlement.requests, [(1, Verdict::Done), (2, Verdict::Failed), (3, Verdict::Dead(vec![reason("no")]))]);
    assert!(settlement.done.is_empty() && settlement.failed.is_empty() && settlement.dead.is_empty());
}

#[test]
fn a_counter_decides_over_its_entry_but_is_not_counted() {
    let mut bench = Bench::new(Settings::default());
    bench.push_targets(Priority::High, &targets_of(CacheId(1), &["a", "+n"]));
    let batch = bench.pop().remove(0);
    let settlement = batch.settle(&[Done, Permanent(reason("not an integer"))]);
    assert_eq!(settlement.dead.len(), 1);
    assert_eq!(settlement.counts, [Settled::default(), Settled { processed: 1, failed: 0 }]);
}

#[test]
fn an_entry_without_targets_is_done() {
    let mut bench = Bench::new(Settings::default());
    bench.push(Priority::High, &[]);
    let batch = bench.pop().remove(0);
    assert_eq!(batch.settle(&[]).done, [(Ordinary, id(0))]);
}
