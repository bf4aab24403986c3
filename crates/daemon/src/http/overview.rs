//! `GET /v1/overview`: all that the page and `unstale top` show, in one answer: what this sidecar counts, and what is shared in Redis.
//!
//! What is shared is asked for at most once a second, however many look. Keys are fingerprints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::try_join;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use unstale_connect::{Client, Fault, FaultKind, Reply};
use unstale_events::{Entry, EntryId, Notice, Position, Priority, StreamKind, fingerprint};
use unstale_pipeline::metrics::SECONDS;
use unstale_pipeline::stats::Stats;
use unstale_source::Names;

use super::{App, Shared};
use crate::letters::Letters;

/// How old an answer about what is shared may be.
const FRESH: Duration = Duration::from_secs(1);
/// How many notices and dead letters are shown.
const NEWEST: usize = 10;
/// How many keys of a notice are named, and how many of its other texts.
const NAMED: usize = 6;

/// What looks at what the sidecars share.
#[derive(Debug)]
pub struct Lookout {
    client: Client,
    names: Names,
    last: Mutex<Option<(Instant, Value)>>,
}

impl Lookout {
    /// Looks at these names over a connection on which nothing blocks.
    pub fn new(client: Client, names: Names) -> Self {
        Self { client, names, last: Mutex::new(None) }
    }

    /// What is shared, a second old at most; `anew` asks again in any case.
    async fn look(&self, anew: bool) -> Result<Value, Fault> {
        let mut last = self.last.lock().await;
        if let Some((_, known)) = last.as_ref().filter(|(at, _)| !anew && at.elapsed() < FRESH) {
            return Ok(known.clone());
        }
        let seen = Box::pin(self.ask()).await?;
        *last = Some((Instant::now(), seen.clone()));
        Ok(seen)
    }

    async fn ask(&self) -> Result<Value, Fault> {
        let (client, names) = (&self.client, &self.names);
        let letters = Letters::new(client.clone(), names.clone());
        let raw = |words: &[&str]| client.raw(words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect());
        let (now, beats, positions, holder, log, total, newest) = try_join!(
            client.time(),
            raw(&["ZRANGE", &names.beats, "0", "-1", "WITHSCORES"]),
            raw(&["HGETALL", &names.positions]),
            raw(&["GET", &names.lease]),
            client.xrevrange(&names.notices, None, EntryId::ZERO, NEWEST),
            letters.count(),
            letters.newest(None, NEWEST),
        )?;
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let log: Vec<Notice> = log.iter().filter_map(notice).collect();
        let seq = log.first().and_then(|notice| notice.seq);
        Ok(json!({
            "time": now,
            "instances": instances(now, pairs(beats)?, &pairs(positions)?, holder.text().ok(), seq),
            "notices": log.iter().map(shown).collect::<Vec<_>>(),
            "dead_letters": { "total": total, "newest": newest },
        }))
    }
}

/// A flat list of names and values.
fn pairs(reply: Reply) -> Result<Vec<(String, String)>, Fault> {
    let texts = reply.array()?.iter().map(|text| text.text().map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
    Ok(texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
}

/// Who has a beat, when it was, who reads, and how many notices are written that he hasn't passed on.
fn instances(now: u64, beats: Vec<(String, String)>, positions: &[(String, String)], holder: Option<&str>, seq: Option<u64>) -> Value {
    let position = |name: &str| positions.iter().find(|(known, _)| known == name)?.1.parse::<Position>().ok();
    let instance = |(name, score): (String, String)| {
        let beat = score.parse::<f64>().ok().and_then(whole).unwrap_or(0);
        let behind = position(&name).map(|position| seq.unwrap_or(0).saturating_sub(position.seq));
        json!({ "beat_ms": now.saturating_sub(beat), "reader": holder == Some(&name), "behind": behind, "name": name })
    };
    beats.into_iter().map(instance).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time in milliseconds")]
fn whole(score: f64) -> Option<u64> {
    (score >= 0.0).then_some(score as u64)
}

fn notice(entry: &Entry) -> Option<Notice> {
    let field = |name: &str| entry.fields.iter().flatten().find(|(known, _)| known == name).map(|(_, value)| value);
    let seq = std::str::from_utf8(field("seq")?).ok()?.parse().ok()?;
    Notice::from_log(Position { id: entry.id, seq }, field("notice")?).ok()
}

/// A notice in short, without keys.
fn shown(notice: &Notice) -> Value {
    let few = |texts: &[String]| texts.iter().take(NAMED).map(|text| fingerprint(text)).collect::<Vec<_>>();
    let drop = |drop: &unstale_events::notice::Drop| {
        let more = drop.keys.len().saturating_sub(NAMED) + drop.patterns.len().saturating_sub(NAMED);
        json!({ "cache": drop.cache, "keys": few(&drop.keys), "patterns": few(&drop.patterns), "more": more })
    };
    let position = notice.position().unwrap_or_default();
    json!({
        "id": position.id, "seq": position.seq, "at": position.id.ms, "priority": notice.priority, "flush": notice.flush, "origin": notice.origin,
        "drop": notice.drop.iter().map(drop).collect::<Vec<_>>(), "events_total": notice.events_total,
        "correlation_ids": notice.correlation_ids.iter().take(NAMED).collect::<Vec<_>>(),
        "operations": notice.operations.iter().take(NAMED).collect::<Vec<_>>(),
    })
}

/// The handler.
pub(super) async fn overview(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let app = &shared.app;
    let stats = app.handle.stats();
    let (seen, why) = match app.lookout.look(query.as_deref() == Some("fresh")).await {
        Ok(seen) => (seen, None),
        Err(fault) => (Value::Null, Some(said(&fault))),
    };
    let mut answer = own(app, &stats);
    answer["shared"] = seen;
    answer["why"] = why.into();
    Json(answer).into_response()
}

fn said(fault: &Fault) -> String {
    match fault.kind {
        FaultKind::Denied => format!("the Redis user lacks a right, see `unstale check` ({fault})"),
        _ => format!("Redis: {fault}"),
    }
}

/// What this sidecar knows of itself.
fn own(app: &App, stats: &Arc<Stats>) -> Value {
    let events = stats.events().fold([0; 3], |sum, (_, counts)| std::array::from_fn(|outcome| sum[outcome] + counts[outcome]));
    json!({
        "instance": app.instance, "namespace": app.names.group, "version": stats.labels().version, "routes": stats.labels().routes,
        "reader": stats.is_reader(), "health": *app.handle.health(), "stats": stats.report(),
        "events": { "routed": events[0], "unrouted": events[1], "dead_lettered": events[2] },
        "age_bounds": SECONDS, "lanes": lanes(app, stats), "streams": streams(app, stats),
        "links": stats.links().map(|(role, up)| json!({ "role": role, "up": up })).collect::<Vec<_>>(),
    })
}

fn lanes(app: &App, stats: &Stats) -> Value {
    let lane = |(priority, ages): (Priority, Vec<u64>)| {
        (priority.name().to_owned(), json!({ "waiting": stats.queue_depth(priority), "ages": ages }))
    };
    Priority::ALL.into_iter().zip(app.handle.ages()).map(lane).collect::<Map<_, _>>().into()
}

fn streams(app: &App, stats: &Stats) -> Value {
    let stream = |kind: StreamKind| {
        let known = stats.stream(kind);
        json!({
            "stream": kind.name(), "key": app.names.stream(kind), "read": known.read, "lag": known.lag, "pending": known.pending,
            "oldest_pending_ms": u64::try_from(known.oldest_pending.as_millis()).unwrap_or(u64::MAX),
        })
    };
    StreamKind::ALL.into_iter().map(stream).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_behind_by_what_it_has_not_passed_on() {
        let text = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
        let beats = text(&[("a", "9000"), ("b", "8.5e3"), ("c", "rubbish")]);
        let seen = instances(10_000, beats, &text(&[("a", "5-0/7"), ("b", "x")]), Some("b"), Some(9));
        let row = |name: &str, beat: u64, reader: bool, behind: Option<u64>| json!({"name": name, "beat_ms": beat, "reader": reader, "behind": behind});
        assert_eq!(seen, json!([row("a", 1000, false, Some(2)), row("b", 1500, true, None), row("c", 10_000, false, None)]));
    }
}
