//! Critical events behind a long backlog of others.

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup};

use super::kit::{added_at, publish, routes};

const BACKLOG: usize = 100_000;
const URGENT: usize = 50;

#[test]
fn p4_4_a_backlog_of_a_hundred_thousand_does_not_delay_the_critical_stream() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    for chunk in 0..BACKLOG / 5000 {
        // A hundred keys: coalescing makes the work light for Redis and leaves it heavy for the sidecar.
        let stream = bus.key("events");
        bus.cmd(&["MULTI"]);
        for number in 0..5000 {
            bus.cmd(&["XADD", &stream, "*", "type", "Changed", "id", &((chunk * 5000 + number) % 1000).to_string()]);
        }
        bus.cmd(&["EXEC"]);
    }
    let _sidecar = Setup::on(&redis).config(&routes()).start(&redis);
    bus.wait_notice("of the backlog", |notice| notice.priority() == "normal");
    let mut waits = Vec::new();
    for number in 0..URGENT {
        let id = publish(&mut bus, "events:critical", "Revoked", BACKLOG + number..BACKLOG + number + 1).remove(0);
        let at = wait_until_sync("the critical event to be announced", PATIENCE, || {
            // The newest few are enough, and the log is long.
            let log = bus.cmd(&["XREVRANGE", "unstale:notices", "+", "-", "COUNT", "50"]);
            let told = log.array().iter().map(|entry| entry.array()[1].array()[3].text()).find(|notice| notice.contains(&id));
            let at = told
                .as_deref()
                .and_then(|notice| notice.split("\"at\":").nth(1))
                .and_then(|rest| rest.split(',').next()?.parse::<i64>().ok());
            at.ok_or_else(|| "not yet".to_owned())
        });
        waits.push(at - added_at(&id));
    }
    let left = bus.standing("events").expect("the stream is there");
    waits.sort_unstable();
    let percentile = |share: usize| waits[(waits.len() * share / 100).min(waits.len() - 1)];
    eprintln!("XADD to confirmed delete behind {BACKLOG}: p50 {} ms, p99 {} ms, all {waits:?}", percentile(50), percentile(99));
    assert!(!left.is_done(), "the backlog was gone before the critical events were");
    // The worst of fifty is the machine's, if it has other things to do.
    assert!(percentile(90) <= 50, "{waits:?}");
}
