//! Adding entries to the streams: all of a request's, or none.

use std::sync::LazyLock;

use axum::Json;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use unstale_connect::{Fault, Link, Script};
use unstale_events::{EntryId, Fields, StreamKind};

use super::App;
use super::error::Refusal;

/// Several entries in one step. A stream that can't take any is found before the first is added; a script that may not add, or has no memory to, ends
/// at the first.
static ADD_ALL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "for _, stream in ipairs(KEYS) do redis.call('XLEN', stream) end
local ids, at = {}, 1
while at <= #ARGV do
  local stream, last = KEYS[tonumber(ARGV[at])], at + 1 + tonumber(ARGV[at + 1])
  ids[#ids + 1] = redis.call('XADD', stream, '*', unpack(ARGV, at + 2, last))
  at = last + 1
end
return ids",
    )
});

/// An entry to be added.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) stream: StreamKind,
    pub(super) fields: Fields,
}

#[derive(Serialize)]
struct Answer<'a> {
    entries: Vec<Added<'a>>,
}

#[derive(Serialize)]
struct Added<'a> {
    stream: &'a str,
    id: String,
}

/// Adds the entries and answers with their ids, in their order.
pub(super) async fn add(app: &App, planned: Vec<Planned>) -> Result<Response, Refusal> {
    if let Link::Down { why, .. } = &*app.publisher.link().borrow() {
        return Err(Refusal::redis_down(format!("Redis can't be reached, nothing was added: {why}")));
    }
    let ids = match &planned[..] {
        [] => Vec::new(),
        [one] => vec![app.publisher.xadd(app.names.stream(one.stream), &one.fields).await?],
        _ => add_all(app, &planned).await?,
    };
    let added = planned.iter().zip(ids).map(|(planned, id)| Added { stream: app.names.stream(planned.stream), id: id.to_string() });
    Ok((StatusCode::ACCEPTED, Json(Answer { entries: added.collect() })).into_response())
}

async fn add_all(app: &App, planned: &[Planned]) -> Result<Vec<EntryId>, Fault> {
    let used: Vec<_> = StreamKind::ALL.into_iter().filter(|kind| planned.iter().any(|one| one.stream == *kind)).collect();
    let keys = used.iter().map(|kind| Bytes::copy_from_slice(app.names.stream(*kind).as_bytes())).collect();
    let number = |number: usize| Bytes::from(number.to_string());
    let mut args = Vec::with_capacity(planned.len() * 6);
    for Planned { stream, fields } in planned {
        let place = used.iter().position(|kind| kind == stream).unwrap_or_default();
        args.extend([number(place + 1), number(fields.len() * 2)]);
        args.extend(fields.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
    }
    let reply = app.publisher.eval(&ADD_ALL, keys, args).await?;
    reply.array()?.iter().map(unstale_connect::Reply::entry_id).collect()
}
