//! `POST /v1/dead-letters/replay` and `…/drop`: what `unstale dead-letters` does, for the page.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use unstale_events::EntryId;

use super::body::Body;
use super::error::Refusal;
use super::{App, Shared};
use crate::letters::{Letters, Replayed};

/// How many letters one request may name.
const MOST: usize = 100;

#[derive(Deserialize)]
struct Named {
    ids: Vec<String>,
}

/// Gives letters back to their streams.
pub(super) async fn replay(State(shared): State<Shared>, body: Body) -> Result<Response, Refusal> {
    let (ids, letters) = (read(&body)?, letters(&shared.app));
    let (mut replayed, mut missing, mut refused) = (Vec::<Value>::new(), Vec::<String>::new(), Vec::<Value>::new());
    for id in ids {
        match letters.replay(id).await? {
            Replayed::Added { stream, id: added } => replayed.push(json!({ "letter": id, "stream": stream, "id": added })),
            Replayed::Missing => missing.push(id.to_string()),
            Replayed::Refused(why) => refused.push(json!({ "letter": id, "message": why })),
        }
    }
    Ok(Json(json!({ "replayed": replayed, "missing": missing, "refused": refused })).into_response())
}

/// Takes letters away for good.
pub(super) async fn drop(State(shared): State<Shared>, body: Body) -> Result<Response, Refusal> {
    let ids = read(&body)?;
    let mut missing = Vec::<String>::new();
    for id in &ids {
        if letters(&shared.app).drop(&[*id]).await? == 0 {
            missing.push(id.to_string());
        }
    }
    Ok(Json(json!({ "dropped": ids.len() - missing.len(), "missing": missing })).into_response())
}

fn letters(app: &App) -> Letters {
    Letters::new(app.publisher.clone(), app.names.clone())
}

fn read(body: &Body) -> Result<Vec<EntryId>, Refusal> {
    let bad = |error: serde_json::Error| Refusal::bad("bad_body", format!("the body must be {{\"ids\": [\"…\"]}}: {error}"));
    let Named { ids } = serde_json::from_slice(&body.bytes).map_err(bad)?;
    if ids.len() > MOST {
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_ids", format!("more than {MOST} ids at once")));
    }
    let id = |(index, text): (usize, &String)| {
        text.parse()
            .map_err(|error: unstale_events::entry::BadEntryId| Refusal::bad("bad_id", error.to_string()).at(format!("ids[{index}]")))
    };
    ids.iter().enumerate().map(id).collect()
}
