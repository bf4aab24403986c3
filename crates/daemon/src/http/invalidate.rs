//! `POST /v1/invalidate`: keys and patterns named by the caller, through the stream or, with `wait=deleted`, at once.

use std::time::Instant;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use unstale_events::{Event, Invalidation, Priority, Reason};

use super::body::Body;
use super::error::{Refusal, Refused};
use super::publish::{self, Planned};
use super::{App, Shared, entry, events};

/// The event that carries an invalidation over the stream.
const KIND: &str = "CacheInvalidationRequested";

/// What to wait for.
#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    wait: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    success: bool,
    keys_deleted: u64,
    duration_ms: f64,
}

/// The handler.
pub(super) async fn invalidate(State(shared): State<Shared>, Query(wish): Query<Wish>, body: Body) -> Result<Response, Refusal> {
    let is_urgent = is_urgent(&wish)?;
    let event = read(&body.bytes)?;
    drop(body);
    let asked = judge(&shared.app, &event)?;
    if is_urgent {
        return deliver(&shared.app, asked).await;
    }
    let fields = entry::fields(&event.to_string()).map_err(|reason| Refusal::bad(reason.code.name(), reason.text))?;
    publish::add(&shared.app, vec![Planned { stream: events::stream(asked.priority), fields }]).await
}

fn is_urgent(wish: &Wish) -> Result<bool, Refusal> {
    match wish.wait.as_deref() {
        None => Ok(false),
        Some("deleted") => Ok(true),
        Some(_) => Err(Refusal::bad("bad_wait", "`wait` may be `deleted`, or absent to answer as soon as the stream has it").at("wait")),
    }
}

/// The body as an event, its members checked; unknown ones are left out.
fn read(body: &[u8]) -> Result<Value, Refusal> {
    let bad = |error: serde_json::Error| Refusal::bad("bad_body", format!("the body must be a JSON object: {error}"));
    let members: Map<String, Value> = serde_json::from_slice(body).map_err(bad)?;
    let (keys, patterns) = (texts(&members, "keys")?, texts(&members, "patterns")?);
    if keys.is_empty() && patterns.is_empty() {
        return Err(Refusal::bad("no_targets", "name at least one key or pattern").at("keys"));
    }
    let mut event =
        Map::from_iter([("type".to_owned(), KIND.into()), ("keys".to_owned(), keys.into()), ("patterns".to_owned(), patterns.into())]);
    for name in ["cache", "operation", "priority", "correlation_id"] {
        if let Some(text) = text(&members, name)? {
            event.insert(name.to_owned(), text.into());
        }
    }
    if event.get("priority").and_then(Value::as_str).is_some_and(|name| Priority::from_name(name).is_none()) {
        return Err(Refusal::bad("bad_priority", "`priority` must be `critical`, `high`, `normal` or `low`").at("priority"));
    }
    Ok(Value::Object(event))
}

fn text<'m>(members: &'m Map<String, Value>, name: &str) -> Result<Option<&'m str>, Refusal> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refusal::bad("bad_type", format!("`{name}` must be a text")).at(name)),
    }
}

fn texts(members: &Map<String, Value>, name: &str) -> Result<Vec<Value>, Refusal> {
    let elements = match members.get(name) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(elements)) => elements,
        Some(_) => return Err(Refusal::bad("bad_type", format!("`{name}` must be an array of texts")).at(name)),
    };
    let is_text = |element: &Value| element.as_str().is_some_and(|text| !text.is_empty());
    match elements.iter().position(|element| !is_text(element)) {
        Some(index) => {
            Err(Refusal::bad("bad_type", format!("`{name}[{index}]` must be a text, and not empty")).at(format!("{name}[{index}]")))
        }
        None => Ok(elements.clone()),
    }
}

/// What the request asks for, if all of it may be done.
fn judge(app: &App, event: &Value) -> Result<Invalidation, Refusal> {
    let (text, mut asked) = (event.to_string(), Invalidation::default());
    let request = Event::from_json(text.as_bytes()).map_err(|reason| Refusal::bad(reason.code.name(), reason.text))?;
    app.router.route(&request, &mut asked);
    if asked.reasons.is_empty() {
        Ok(asked)
    } else {
        Err(Refusal::unprocessable(asked.reasons.iter().map(|reason| refused(event, reason)).collect()))
    }
}

/// The router begins the reason with the target's place: `` `keys[2]` lies in no declared cache ``.
fn refused(event: &Value, reason: &Reason) -> Refused {
    let place = reason.text.strip_prefix('`').and_then(|text| text.split_once('`')).map_or("", |(place, _)| place);
    let target = place.strip_suffix(']').and_then(|place| place.split_once('[')).and_then(|(list, index)| {
        let index: usize = index.parse().ok()?;
        event.get(list)?.get(index)?.as_str().map(str::to_owned)
    });
    let field = if target.is_some() { place } else { "" };
    Refused { field: field.to_owned(), target, code: reason.code.name(), message: reason.text.clone() }
}

async fn deliver(app: &App, asked: Invalidation) -> Result<Response, Refusal> {
    let begun = Instant::now();
    let report = app.handle.deliver(asked).await?;
    let duration_ms = (begun.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    Ok(Json(Answer { success: true, keys_deleted: report.keys_deleted, duration_ms }).into_response())
}
