//! `POST /v1/events`: one event or an array of them, each to the stream that the routes say.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::value::RawValue;
use unstale_events::{Code, Event, Fields, Invalidation, Priority, Reason, StreamKind};
use unstale_router::Router;

use super::body::Body;
use super::error::{Refusal, Refused};
use super::publish::{self, Planned};
use super::{Rules, Shared, entry};

/// How many events one request may have: adding them holds Redis up for some milliseconds.
const MOST: usize = 10_000;

/// The handler.
pub(super) async fn add(State(shared): State<Shared>, body: Body) -> Result<Response, Refusal> {
    let planned = plan(&shared.app.router, &shared.app.rules, &body.bytes)?;
    drop(body);
    publish::add(&shared.app, planned).await
}

/// The stream that events of a priority belong on.
pub(super) fn stream(priority: Priority) -> StreamKind {
    if priority == Priority::Critical { StreamKind::Critical } else { StreamKind::Ordinary }
}

/// Checks every event before any is added.
pub(super) fn plan(router: &Router, rules: &Rules, body: &[u8]) -> Result<Vec<Planned>, Refusal> {
    let events = split(body)?;
    if events.len() > MOST {
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_events", format!("more than {MOST} events at once")));
    }
    let (mut planned, mut refused, mut asked) = (Vec::with_capacity(events.len()), Vec::new(), Invalidation::default());
    for (place, text) in &events {
        let fields = entry::fields(text.get()).map_err(|reason| no_event(place, text, reason))?;
        match judge(router, rules, &fields, &mut asked) {
            Ok(()) => planned.push(Planned { stream: stream(asked.priority), fields }),
            Err(reason) => refused.push(Refused { field: place.clone(), target: None, code: reason.code.name(), message: reason.text }),
        }
    }
    if refused.is_empty() { Ok(planned) } else { Err(Refusal::unprocessable(refused)) }
}

/// The events of a body, each with its place in it: `[2]`, or nothing if the body is a single one.
fn split(body: &[u8]) -> Result<Vec<(String, &RawValue)>, Refusal> {
    let bad = |error: serde_json::Error| Refusal::bad("not_json", format!("the body is no JSON: {error}"));
    if body.trim_ascii_start().first() == Some(&b'[') {
        let events: Vec<&RawValue> = serde_json::from_slice(body).map_err(bad)?;
        return Ok(events.into_iter().enumerate().map(|(index, event)| (format!("[{index}]"), event)).collect());
    }
    Ok(vec![(String::new(), serde_json::from_slice(body).map_err(bad)?)])
}

fn no_event(place: &str, text: &RawValue, reason: Reason) -> Refusal {
    let field = if lacks_type(text) { format!("{place}.type") } else { place.to_owned() };
    Refusal::bad(reason.code.name(), reason.text).at(field.trim_start_matches('.'))
}

fn lacks_type(event: &RawValue) -> bool {
    let members = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(event.get());
    members.is_ok_and(|members| members.get("type").and_then(serde_json::Value::as_str).is_none_or(str::is_empty))
}

/// Refuses what could only become a dead letter; `asked` is what the event asks for.
fn judge(router: &Router, rules: &Rules, fields: &Fields, asked: &mut Invalidation) -> Result<(), Reason> {
    let size: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > rules.entry {
        let text = format!("the event has {size} bytes, `limits.entry` is {}", rules.entry);
        return Err(Reason::new(Code::TooLarge, text));
    }
    router.route(&Event::decode(fields)?, asked);
    if !asked.routed && rules.unrouted_is_dead {
        return Err(Reason::new(Code::Unrouted, "no route names this type, and `bus.unrouted` is `dead-letter`"));
    }
    match asked.reasons.first() {
        Some(reason) if asked.targets.is_empty() => Err(reason.clone()),
        _ => Ok(()),
    }
}
