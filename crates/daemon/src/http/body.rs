//! Bodies: JSON by their own word, no larger than allowed, few at once, and not for ever on their way.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::error::Refusal;

/// How long a body may take to come in.
const PATIENCE: Duration = Duration::from_secs(10);

/// A body that was read, and its place among those held at once.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    #[expect(dead_code, reason = "given back when the body is dropped")]
    place: OwnedSemaphorePermit,
}

impl FromRequest<Shared> for Body {
    type Rejection = Refusal;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", "send JSON, with `Content-Type: application/json`"));
        }
        let busy = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many requests at once; try again later");
        let place = tokio::time::timeout(PATIENCE, Arc::clone(&shared.bodies).acquire_owned()).await;
        let place = place.ok().and_then(Result::ok).ok_or_else(busy)?;
        let read = tokio::time::timeout(PATIENCE, Bytes::from_request(request, &())).await;
        let slow = |_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body didn't come in time");
        let bytes = read.map_err(slow)?.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                let text = format!("the body has more than {} bytes (`http.body`); send less at once", shared.app.rules.body);
                Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
            }
            _ => Refusal::bad("bad_body", "the body could not be read to its end"),
        })?;
        Ok(Self { bytes, place })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}
