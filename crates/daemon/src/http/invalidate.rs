//! `POST /v1/invalidate`: keys and patterns named by the caller, through the stream or, with `wait`, at once: until they are deleted, or until every
//! instance has told its receivers.

use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use unstale_events::{Event, Invalidation, Position, Priority, Reason};
use unstale_notices::{Behind, Company, Late, everywhere};
use unstale_router::Router;

use super::body::Body;
use super::error::{Refusal, Refused};
use super::publish::{self, Planned};
use super::{App, Shared, entry, events};

/// The event that carries an invalidation over the stream.
const KIND: &str = "CacheInvalidationRequested";

/// How long is waited for every instance, unless the caller says otherwise.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest that a caller may say.
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);
/// How many wait for every instance at once; each looks at Redis again and again.
pub(super) const WAITING: usize = 64;

/// What to wait for.
#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    wait: Option<String>,
    timeout: Option<String>,
}

/// The same, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// Redis has it in the stream.
    Added,
    /// It is deleted in Redis.
    Deleted,
    /// Every instance has told its receivers, or this has passed.
    Everywhere(Duration),
}

#[derive(Serialize)]
struct Answer {
    success: bool,
    keys_deleted: u64,
    duration_ms: f64,
    /// How many instances have told their receivers, if all have.
    #[serde(skip_serializing_if = "Option::is_none")]
    instances: Option<usize>,
}

/// The handler.
pub(super) async fn invalidate(State(shared): State<Shared>, Query(wish): Query<Wish>, body: Body) -> Result<Response, Refusal> {
    let until = wish.until()?;
    let event = read(&body.bytes)?;
    drop(body);
    let asked = judge(&shared.app.router, &event)?;
    match until {
        Until::Added => {}
        Until::Deleted => return deliver(&shared.app, asked).await,
        Until::Everywhere(patience) => return deliver_everywhere(&shared, asked, patience).await,
    }
    let fields = entry::fields(&event.to_string()).map_err(|reason| Refusal::bad(reason.code.name(), reason.text))?;
    publish::add(&shared.app, vec![Planned { stream: events::stream(asked.priority), fields }]).await
}

impl Wish {
    fn until(&self) -> Result<Until, Refusal> {
        match self.wait.as_deref() {
            None => Ok(Until::Added),
            Some("deleted") => Ok(Until::Deleted),
            Some("everywhere") => self.patience().map(Until::Everywhere),
            Some(_) => {
                let text = "`wait` may be `deleted` or `everywhere`, or absent to answer as soon as the stream has it";
                Err(Refusal::bad("bad_wait", text).at("wait"))
            }
        }
    }

    fn patience(&self) -> Result<Duration, Refusal> {
        let Some(timeout) = &self.timeout else { return Ok(PATIENCE) };
        let patience = humantime::parse_duration(timeout).ok().filter(|patience| *patience <= LONGEST_PATIENCE);
        patience.ok_or_else(|| Refusal::bad("bad_timeout", "`timeout` must be a duration of at most a minute, such as `2s`").at("timeout"))
    }
}

/// The body as an event, its members checked; unknown ones are left out.
pub(super) fn read(body: &[u8]) -> Result<Value, Refusal> {
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
pub(super) fn judge(router: &Router, event: &Value) -> Result<Invalidation, Refusal> {
    let (text, mut asked) = (event.to_string(), Invalidation::default());
    let request = Event::from_json(text.as_bytes()).map_err(|reason| Refusal::bad(reason.code.name(), reason.text))?;
    router.route(&request, &mut asked);
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
    Ok(done(report.keys_deleted, begun, None))
}

async fn deliver_everywhere(shared: &Shared, asked: Invalidation, patience: Duration) -> Result<Response, Refusal> {
    let begun = Instant::now();
    let _place = shared.waiting.try_acquire().map_err(|_| Refusal::busy("too many wait for every instance; try again later"))?;
    let app = &shared.app;
    let report = app.handle.deliver_confirmed(asked).await?;
    let Some(notice) = report.notice else { return Ok(done(report.keys_deleted, begun, Some(0))) };
    let company = Company { beats: &app.names.beats, positions: &app.names.positions };
    match everywhere(app.log.client(), company, notice, begun + patience).await {
        Ok(instances) => Ok(done(report.keys_deleted, begun, Some(instances))),
        Err(late) => Err(not_everywhere(&late, notice, patience)),
    }
}

fn done(keys_deleted: u64, begun: Instant, instances: Option<usize>) -> Response {
    let duration_ms = (begun.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    Json(Answer { success: true, keys_deleted, duration_ms, instances }).into_response()
}

fn not_everywhere(late: &Late, notice: Position, patience: Duration) -> Refusal {
    let how = match &late.blind {
        Some(fault) => format!("who is behind can't be told: {fault}"),
        None => format!("{} of the instances have yet to pass notice {notice} on", late.behind.len()),
    };
    let text = format!("deleted in Redis and announced, but not heard everywhere within {}: {how}", humantime::format_duration(patience));
    Refusal::behind(text, late.behind.iter().map(shown).collect())
}

/// An instance that is behind, and how far.
pub(crate) fn shown(behind: &Behind) -> Value {
    let Behind { instance, position, notices } = behind;
    json!({ "instance": instance, "position": position.map(|position| position.to_string()), "notices": notices })
}
