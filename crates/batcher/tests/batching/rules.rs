//! Every rule of batching as an example.

use crate::kit::{Bench, entry, item, ms, seqs, targets, targets_of, texts};
use unstale_batcher::{Count, Settings, Source};
use unstale_events::{CacheId, Priority, TargetKind};

use Priority::{Critical, High, Low, Normal};

#[test]
fn a_lane_flushes_when_its_window_has_passed() {
    let mut bench = Bench::busy(Settings::default());
    bench.push(Normal, &["a"]);
    bench.wait(60);
    bench.push(Normal, &["b"]);
    bench.wait(39);
    assert_eq!(bench.pop().len(), 0);
    bench.wait(1);
    let batches = bench.pop();
    assert_eq!(batches.iter().map(texts).collect::<Vec<_>>(), [["a", "b"]]);
}

#[test]
fn each_lane_has_its_window() {
    for (priority, window) in [(Critical, 0), (High, 25), (Normal, 100), (Low, 1000)] {
        let mut bench = Bench::busy(Settings::default());
        bench.push(priority, &["a"]);
        assert_eq!(bench.batcher.deadline(|_| true), Some(bench.now + ms(window)), "{priority:?}");
    }
}

#[test]
fn a_window_can_be_set_for_one_lane_but_not_for_critical() {
    let settings = Settings { windows: [Some(ms(7)), None, None, Some(ms(300))], ..Settings::default() };
    let windows = Priority::ALL.map(|priority| settings.window_of(priority));
    assert_eq!(windows, [ms(0), ms(25), ms(100), ms(300)]);
}

#[test]
fn no_window_is_so_long_that_a_sum_of_times_overflows() {
    let settings = Settings { window: std::time::Duration::MAX, ..Settings::default() };
    let mut bench = Bench::busy(settings);
    bench.push(Low, &["a"]);
    assert_eq!(bench.batcher.deadline(|_| true), Some(bench.now + Settings::MAX_WINDOW));
}

#[test]
fn the_first_event_after_silence_does_not_wait() {
    for (priority, window) in [(High, 25), (Normal, 100), (Low, 1000)] {
        let mut bench = Bench::busy(Settings::default());
        bench.wait(window - 1);
        bench.push(priority, &["a"]);
        assert_eq!(bench.pop().len(), 0, "{priority:?}: the lane was idle for less than a window");
        bench.wait(window);
        assert_eq!(bench.pop().len(), 1);
        bench.wait(window);
        bench.push(priority, &["b"]);
        assert_eq!(bench.pop().len(), 1, "{priority:?}: the lane was idle for a whole window");
    }
}

#[test]
fn the_very_first_event_does_not_wait_and_what_is_read_with_it_comes_along() {
    let mut bench = Bench::new(Settings::default());
    bench.push(Low, &["a"]);
    bench.push(Low, &["b"]);
    let batches = bench.pop();
    assert_eq!(batches.iter().map(seqs).collect::<Vec<_>>(), [[0, 1]]);
}

#[test]
fn a_lane_with_something_in_it_is_not_idle() {
    let mut bench = Bench::busy(Settings { max_size: 2, ..Settings::default() });
    bench.push(Normal, &["a"]);
    bench.push(Normal, &["b"]);
    bench.wait(500);
    bench.push(Normal, &["c"]);
    let popped = bench.pop();
    assert_eq!(popped.iter().map(texts).collect::<Vec<_>>(), [["a", "b"]], "the full batch was still here when c came");
}

#[test]
fn critical_goes_out_together_at_once() {
    let mut bench = Bench::busy(Settings::default());
    bench.push(Critical, &["a"]);
    bench.push(Critical, &["b"]);
    let batches = bench.pop();
    assert_eq!(batches.iter().map(texts).collect::<Vec<_>>(), [["a", "b"]]);
}

#[test]
fn critical_is_bounded_by_the_size_too() {
    let mut bench = Bench::busy(Settings { max_size: 2, ..Settings::default() });
    for key in ["a", "b", "c"] {
        bench.push(Critical, &[key]);
    }
    let batches = bench.pop();
    assert_eq!(batches.iter().map(|batch| batch.targets.len()).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn a_full_batch_does_not_wait_for_its_window() {
    let mut bench = Bench::busy(Settings { max_size: 3, ..Settings::default() });
    bench.push(Normal, &["a", "b"]);
    assert_eq!(bench.pop().len(), 0);
    bench.push(Normal, &["c"]);
    assert_eq!(bench.pop().len(), 1);
}

#[test]
fn a_hundred_and_fifty_keys_at_fifty_a_batch() {
    let mut bench = Bench::busy(Settings { max_size: 50, ..Settings::default() });
    for number in 0..150 {
        bench.push(Normal, &[&format!("key:{number}")]);
    }
    let batches = bench.pop();
    assert_eq!(batches.iter().map(|batch| batch.targets.len()).collect::<Vec<_>>(), [50, 50, 50]);
}

#[test]
fn a_batch_holds_ten_entries_for_each_place() {
    let mut bench = Bench::busy(Settings { max_size: 5, ..Settings::default() });
    for _ in 0..49 {
        bench.push(Normal, &["same"]);
    }
    assert_eq!(bench.pop().len(), 0);
    bench.push(Normal, &["same"]);
    let batches = bench.pop();
    assert_eq!((batches.len(), batches[0].entries.len(), batches[0].targets.len()), (1, 50, 1));
}

#[test]
fn what_would_make_a_batch_too_big_opens_the_next() {
    let mut bench = Bench::busy(Settings { max_size: 4, ..Settings::default() });
    bench.push(Normal, &["a", "b", "c"]);
    bench.push(Normal, &["d", "e"]);
    bench.wait(100);
    let batches = bench.pop();
    assert_eq!(batches.iter().map(seqs).collect::<Vec<_>>(), [[0], [1]], "an entry is never split");
}

#[test]
fn only_new_targets_need_a_place() {
    let mut bench = Bench::busy(Settings { max_size: 4, ..Settings::default() });
    bench.push(Normal, &["a", "b", "c"]);
    bench.push(Normal, &["a", "b", "d"]);
    let batches = bench.pop();
    assert_eq!(batches.iter().map(texts).collect::<Vec<_>>(), [["a", "b", "c", "d"]]);
}

#[test]
fn an_entry_with_too_many_targets_is_a_batch_of_its_own() {
    let mut bench = Bench::busy(Settings { max_size: 2, ..Settings::default() });
    bench.push(Normal, &["a"]);
    bench.push(Normal, &["b", "c", "d"]);
    bench.push(Normal, &["e"]);
    bench.wait(100);
    let batches = bench.pop();
    assert_eq!(batches.iter().map(seqs).collect::<Vec<_>>(), [[0], [1], [2]]);
    assert_eq!(texts(&batches[1]), ["b", "c", "d"]);
}

#[test]
fn duplicates_are_dropped_and_every_source_is_kept() {
    let mut bench = Bench::busy(Settings::default());
    for _ in 0..3 {
        bench.push(Normal, &["a"]);
    }
    bench.push(Normal, &["b"]);
    bench.wait(100);
    let batch = bench.pop().remove(0);
    assert_eq!(texts(&batch), ["a", "b"]);
    assert_eq!(seqs(&batch), [0, 1, 2, 3]);
    assert_eq!(batch.counts, [Count { queued: 4, coalesced: 2 }], "4 requests, 3 of one key: 2 processed, 2 coalesced");
}

#[test]
fn without_coalescing_duplicates_are_targets_of_their_own() {
    let mut bench = Bench::busy(Settings { coalescing: false, max_size: 4, ..Settings::default() });
    bench.push(Normal, &["a", "a"]);
    bench.push(Normal, &["a", "a*"]);
    let batch = bench.pop().remove(0);
    assert_eq!(texts(&batch), ["a", "a", "a", "a*"]);
    assert_eq!(batch.counts, [Count { queued: 4, coalesced: 0 }]);
}

#[test]
fn equal_texts_of_different_caches_or_kinds_are_different_targets() {
    let mut bench = Bench::busy(Settings::default());
    bench.push_targets(Critical, &targets_of(CacheId(0), &["a", "+a"]));
    bench.push_targets(Critical, &targets_of(CacheId(2), &["a"]));
    let batch = bench.pop().remove(0);
    assert_eq!(batch.targets.len(), 3);
    let one = Count { queued: 1, coalesced: 0 };
    assert_eq!(batch.counts, [one, Count::default(), one]);
}

#[test]
fn a_key_that_a_pattern_of_its_batch_matches_needs_no_delete_of_its_own() {
    let mut bench = Bench::busy(Settings::default());
    bench.push(Normal, &["list:1", "other", "list:2"]);
    bench.push(Normal, &["list:*"]);
    bench.push(Normal, &["list:2"]);
    bench.wait(100);
    let batch = bench.pop().remove(0);
    assert_eq!(texts(&batch), ["other", "list:*"]);
    assert_eq!(batch.counts, [Count { queued: 5, coalesced: 3 }]);
    let wanted: Vec<&[u32]> = batch.entries.iter().map(|entry| batch.wanted_by(entry)).collect();
    assert_eq!(wanted, [&[1, 0, 1][..], &[1], &[1]], "who asked for a folded key waits for the pattern");
}

#[test]
fn a_key_that_the_pattern_does_not_match_stays_itself() {
    let mut bench = Bench::busy(Settings::default());
    bench.push(Normal, &["list:1:long", "list:*:short"]);
    bench.wait(100);
    assert_eq!(texts(&bench.pop()[0]), ["list:1:long", "list:*:short"]);
}

#[test]
fn in_critical_a_key_never_waits_for_a_pattern() {
    let mut bench = Bench::busy(Settings::default());
    bench.push(Critical, &["list:1", "list:*"]);
    assert_eq!(texts(&bench.pop()[0]), ["list:1", "list:*"]);
}

#[test]
fn a_pattern_of_another_cache_deletes_nothing_here() {
    let mut bench = Bench::busy(Settings::default());
    bench.push_targets(Normal, &targets_of(CacheId(0), &["list:1"]));
    bench.push_targets(Normal, &targets_of(CacheId(1), &["list:*"]));
    bench.wait(100);
    assert_eq!(texts(&bench.pop()[0]), ["list:1", "list:*"]);
}

#[test]
fn keys_of_a_cache_with_a_second_delete_stay_themselves() {
    let mut bench = Bench::busy(Settings { unfolded: vec![CacheId(0)], ..Settings::default() });
    bench.push(Normal, &["list:1", "list:*"]);
    bench.wait(100);
    assert_eq!(texts(&bench.pop()[0]), ["list:1", "list:*"]);
}

#[test]
fn a_counter_is_never_folded() {
    let mut bench = Bench::busy(Settings::default());
    bench.push(Normal, &["+list:n", "list:*"]);
    bench.wait(100);
    assert_eq!(texts(&bench.pop()[0]), ["list:n", "list:*"]);
}

#[test]
fn where_matching_would_cost_too_much_keys_stay_themselves() {
    let mut bench = Bench::busy(Settings::default());
    let long = "a".repeat(5000);
    bench.push(Normal, &[&format!("p:{long}b"), &format!("p:*{long}b")]);
    bench.wait(100);
    assert_eq!(bench.pop()[0].targets.len(), 2, "25 million steps at worst, to save one delete");
}

#[test]
fn counters_are_bumped_once_a_batch_and_are_no_targets() {
    for coalescing in [true, false] {
        let mut bench = Bench::busy(Settings { max_size: 2, coalescing, ..Settings::default() });
        bench.push(Normal, &["+n", "+m"]);
        bench.push(Normal, &["+n", "a"]);
        assert_eq!(bench.pop().len(), 0, "three counters and a key don't fill two places");
        bench.wait(100);
        let batch = bench.pop().remove(0);
        assert_eq!(batch.targets.iter().filter(|target| target.kind == TargetKind::Bump).count(), 2);
        assert_eq!(batch.counts, [Count { queued: 1, coalesced: 0 }]);
    }
}

#[test]
fn a_closed_batch_never_grows() {
    let mut bench = Bench::busy(Settings { max_size: 1, ..Settings::default() });
    bench.push(Normal, &["a"]);
    bench.push(Normal, &["a"]);
    let batches = bench.pop();
    assert_eq!(batches.iter().map(texts).collect::<Vec<_>>(), [["a"], ["a"]], "the later event has a delete of its own");
}

#[test]
fn disabled_means_batches_of_one_event_at_once() {
    let mut bench = Bench::busy(Settings { enabled: false, ..Settings::default() });
    bench.push(Low, &["a", "a", "b"]);
    bench.push(Low, &["a"]);
    let batches = bench.pop();
    assert_eq!(batches.iter().map(texts).collect::<Vec<_>>(), [vec!["a", "b"], vec!["a"]]);
    assert!(batches.iter().all(|batch| !batch.alone));
}

#[test]
fn a_suspect_travels_alone() {
    let mut bench = Bench::busy(Settings::default());
    bench.push(Normal, &["a"]);
    bench.batcher.push_alone(item(7, Normal, &targets(&["a"])), bench.now);
    bench.push(Normal, &["a"]);
    bench.wait(100);
    let batches = bench.pop();
    assert_eq!(batches.iter().map(seqs).collect::<Vec<_>>(), [[0], [7], [1]]);
    assert_eq!(batches.iter().map(|batch| batch.alone).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn the_most_urgent_lane_comes_first_whatever_came_first() {
    let mut bench = Bench::new(Settings::default());
    for priority in [Low, Normal, High, Critical] {
        bench.push(priority, &["a"]);
    }
    let order: Vec<Priority> = bench.pop().iter().map(|batch| batch.priority).collect();
    assert_eq!(order, Priority::ALL);
}

#[test]
fn a_lane_that_is_not_allowed_is_passed_over_and_sets_no_deadline() {
    let mut bench = Bench::new(Settings::default());
    bench.push(High, &["a"]);
    let not_high = |priority| priority != High;
    assert!(bench.batcher.pop(not_high, bench.now).is_none());
    assert_eq!(bench.batcher.deadline(not_high), None);
    assert_eq!(bench.batcher.deadline(|_| true), Some(bench.now));
}

#[test]
fn a_due_batch_takes_more_until_it_is_taken_out() {
    let mut bench = Bench::new(Settings::default());
    bench.push(Normal, &["a"]);
    bench.wait(5000);
    bench.push(Normal, &["b"]);
    assert_eq!(bench.pop().iter().map(texts).collect::<Vec<_>>(), [["a", "b"]]);
}

#[test]
fn when_draining_nothing_waits() {
    let mut bench = Bench::busy(Settings::default());
    bench.push(Low, &["a"]);
    bench.batcher.close();
    assert_eq!(bench.batcher.deadline(|_| true), Some(bench.now));
    assert_eq!(bench.pop().len(), 1);
    bench.push(Low, &["b"]);
    assert_eq!(bench.pop().len(), 1);
    assert!(bench.batcher.is_empty());
}

#[test]
fn pending_tells_what_waits_in_each_lane() {
    let mut bench = Bench::busy(Settings::default());
    bench.push(Normal, &["a", "b", "+n"]);
    bench.push(Normal, &["a"]);
    let load = bench.batcher.pending()[Normal.index()];
    assert_eq!((load.entries, load.targets), (2, 3));
    assert!(load.bytes > 100 && load.bytes < 1000, "{load:?}");
    bench.wait(100);
    assert_eq!(bench.pop()[0].load, load);
    assert!(bench.batcher.pending().iter().all(|load| load.bytes == 0 && load.entries == 0 && load.targets == 0));
}

#[test]
fn correlation_ids_and_operations_come_along_once_each_and_at_most_a_hundred() {
    let mut bench = Bench::busy(Settings { max_size: 1000, ..Settings::default() });
    let none = targets(&[]);
    for number in 0..300 {
        let id = format!("c{}", number / 2);
        let correlated = item(number, Normal, &none);
        bench.batcher.push(unstale_batcher::Item { correlation_id: Some(&id), operation: Some("op"), ..correlated }, bench.now);
    }
    bench.wait(100);
    let batch = bench.pop().remove(0);
    assert_eq!(batch.operations.iter().collect::<Vec<_>>(), ["op"]);
    assert_eq!(batch.correlation_ids.iter().collect::<Vec<_>>(), (0..100).map(|number| format!("c{number}")).collect::<Vec<_>>());
}

#[test]
fn a_long_correlation_id_is_cut_between_characters() {
    let mut bench = Bench::new(Settings::default());
    let (none, long) = (targets(&[]), "x".to_owned() + &"é".repeat(1000));
    bench.batcher.push(unstale_batcher::Item { correlation_id: Some(&long), ..item(0, Critical, &none) }, bench.now);
    let batch = bench.pop().remove(0);
    assert_eq!(batch.correlation_ids.iter().next(), Some(&long[..255]));
}

#[test]
fn a_request_is_in_its_batch_by_its_ticket() {
    let mut bench = Bench::new(Settings::default());
    let keys = targets(&["a"]);
    bench.batcher.push(unstale_batcher::Item { source: Source::Request(9), ..item(0, High, &keys) }, bench.now);
    bench.batcher.push(item(1, High, &keys), bench.now);
    let batch = bench.pop().remove(0);
    assert_eq!(batch.entries.iter().map(|entry| entry.source).collect::<Vec<_>>(), [Source::Request(9), entry(1)]);
    assert_eq!(texts(&batch), ["a"]);
}
