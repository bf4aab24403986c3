//! `GET /v1/notices`: what receivers hear, as Server-Sent Events.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use unstale_notices::{Filter, Frame, Hello, Kind, Receiver, Unheard};

use super::Shared;
use super::error::Refusal;

/// The header that an `EventSource` sends when it comes back.
const LAST_EVENT_ID: &str = "last-event-id";

/// What a receiver wants to hear.
#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    /// Names of caches, with commas between them.
    cache: Option<String>,
}

/// The handler.
pub(super) async fn follow(State(shared): State<Shared>, Query(wish): Query<Wish>, headers: HeaderMap) -> Result<Response, Refusal> {
    let (hub, log) = (Arc::clone(&shared.app.hub), shared.app.log.clone());
    // What is no text is no position either.
    let last = headers.get(LAST_EVENT_ID).map(|last| last.to_str().unwrap_or_default());
    let opened = Receiver::open(hub, log, last, wish.filter()).await;
    let (hello, receiver) = opened.map_err(|unheard| refusal(&unheard, shared.app.rules.subscribers))?;
    let first = stream::iter([Ok(greeting(&hello))]);
    let then = stream::unfold(receiver, async |mut receiver| {
        let frames = receiver.next().await?;
        Some((Ok::<_, Infallible>(text(&frames)), receiver))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies of the nginx kind hold answers back unless told not to.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(stream::StreamExt::chain(first, then))).into_response())
}

impl Wish {
    fn filter(&self) -> Filter {
        let names = |list: &str| Filter::only(list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
        self.cache.as_deref().map_or_else(Filter::all, names)
    }
}

fn refusal(unheard: &Unheard, subscribers: usize) -> Refusal {
    match unheard {
        Unheard::Full => {
            let text = format!("{subscribers} receivers are connected, and `http.subscribers` allows no more");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_subscribers", text)
        }
        Unheard::Blind(_) => Refusal::redis_down(format!("{unheard}; until it can, don't trust what you have")),
    }
}

fn greeting(hello: &Hello) -> Bytes {
    format!("event: hello\nid: {}\ndata: {{\"resumed\":{}}}\n\n", hello.at, hello.resumed).into()
}

fn text(frames: &[Frame]) -> Bytes {
    let mut text = Vec::with_capacity(frames.iter().map(|frame| frame.json.len() + 64).sum());
    for frame in frames {
        let mut head = String::new();
        // Writing to a String can't fail.
        let _ = write!(head, "event: {}\nid: {}\ndata: ", name(frame.kind), frame.at);
        text.extend_from_slice(head.as_bytes());
        text.extend_from_slice(&frame.json);
        text.extend_from_slice(b"\n\n");
    }
    text.into()
}

fn name(kind: Option<Kind>) -> &'static str {
    match kind {
        Some(Kind::Drop) => "drop",
        Some(Kind::Flush) => "flush",
        None => "beat",
    }
}

#[cfg(test)]
mod tests {
    use unstale_events::{EntryId, Position};

    use super::*;

    const AT: Position = Position { id: EntryId { ms: 5, seq: 1 }, seq: 7 };

    #[test]
    fn frames_are_server_sent_events() {
        let frame = |kind| Frame { at: AT, kind, json: Bytes::from_static(b"{}") };
        let sent = text(&[frame(Some(Kind::Drop)), frame(Some(Kind::Flush)), frame(None)]);
        let expected = "event: drop\nid: 5-1/7\ndata: {}\n\nevent: flush\nid: 5-1/7\ndata: {}\n\nevent: beat\nid: 5-1/7\ndata: {}\n\n";
        assert_eq!(sent, expected);
        assert_eq!(greeting(&Hello { resumed: true, at: AT }), "event: hello\nid: 5-1/7\ndata: {\"resumed\":true}\n\n");
    }

    #[test]
    fn a_filter_is_a_list_of_names() {
        let filter = |cache: Option<&str>| Wish { cache: cache.map(str::to_owned) }.filter();
        assert_eq!(filter(Some("a, b,")), Filter::only(["a".to_owned(), "b".to_owned()]));
        assert_eq!(filter(None), Filter::all());
    }
}
