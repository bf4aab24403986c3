//! What the log of notices announces, as it comes: it is trimmed behind us.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use serde_json::Value as Json;
use unstale_testkit::{Redis, Resp};

use super::flow::Level;

const LOG: &str = "unstale:notices";
const PAUSE: Duration = Duration::from_millis(20);

/// What was announced.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    announced: Vec<bool>,
    at: String,
    /// The number of the last notice.
    pub(crate) seq: i64,
    /// Numbers that don't follow the one before.
    pub(crate) gaps: Vec<String>,
    /// Targets that were announced more than once: second deletes, and repetitions after kills.
    pub(crate) repeated: u64,
}

impl Ledger {
    /// Whether this event's targets were.
    pub(crate) fn has(&self, number: u64) -> bool {
        usize::try_from(number).is_ok_and(|number| self.announced.get(number).copied().unwrap_or_default())
    }

    fn read_on(&mut self, resp: &mut Resp) {
        loop {
            let from = if self.at.is_empty() { "-".to_owned() } else { format!("({}", self.at) };
            let page = resp.cmd(&["XRANGE", LOG, &from, "+", "COUNT", "1000"]);
            if page.array().is_empty() {
                return;
            }
            for entry in page.array() {
                let (id, fields) = (entry.array()[0].text(), &entry.array()[1]);
                let seq = fields.field("seq").map_or(0, unstale_testkit::Value::int);
                if seq != self.seq + 1 {
                    self.gaps.push(format!("{seq} ({id}) after {}", self.seq));
                }
                (self.seq, self.at) = (seq, id);
                self.note(&fields.field("notice").map(unstale_testkit::Value::text).unwrap_or_default());
            }
        }
    }

    fn note(&mut self, notice: &str) {
        let json: Json = serde_json::from_str(notice).unwrap_or_default();
        for drop in json["drop"].as_array().into_iter().flatten() {
            let targets = ["keys", "patterns"].into_iter().flat_map(|kind| drop[kind].as_array().into_iter().flatten());
            for number in targets.filter_map(|target| target.as_str()?.split(':').nth(1)?.parse::<usize>().ok()) {
                if self.announced.len() <= number {
                    self.announced.resize(number + 1, false);
                }
                self.repeated += u64::from(self.announced[number]);
                self.announced[number] = true;
            }
        }
    }
}

/// Reads until the flow is over, and then to the end of the log.
pub(crate) fn run(redis: &Redis, level: &Arc<Level>) -> Ledger {
    let (mut resp, mut ledger) = (redis.resp(), Ledger::default());
    while !level.over.load(Ordering::Relaxed) {
        ledger.read_on(&mut resp);
        thread::sleep(PAUSE);
    }
    ledger.read_on(&mut resp);
    ledger
}
