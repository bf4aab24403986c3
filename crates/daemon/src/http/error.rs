//! Refusals: every answer that isn't what was asked for, as `{"error":{"code","message","field"}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use unstale_connect::{Fault, FaultKind};
use unstale_pipeline::handle::DeliverError;

/// Why a request wasn't carried out.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: Error,
}

#[derive(Debug, Serialize)]
struct Error {
    /// One of a closed set, for programs.
    code: &'static str,
    /// What is wrong and what would be right, for people.
    message: String,
    /// Where in the body, as in `[2].type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Each part that was refused, if parts were judged one by one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refused: Vec<Refused>,
    /// Each instance that has yet to tell its receivers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    behind: Vec<Value>,
}

/// A part of a body that was refused.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    /// Where it stands in the body.
    pub(super) field: String,
    /// The key or pattern as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
    /// The code that the dead letter would have.
    pub(super) code: &'static str,
    /// Why.
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, error: Error { code, message: message.into(), field: None, refused: Vec::new(), behind: Vec::new() } }
    }

    /// The body isn't what it must be.
    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Says where in the body.
    pub(super) fn at(mut self, field: impl Into<String>) -> Self {
        self.error.field = Some(field.into()).filter(|field| !field.is_empty());
        self
    }

    /// The body says what can't be carried out; all of it was left alone.
    pub(super) fn unprocessable(refused: Vec<Refused>) -> Self {
        let first = refused.first().map_or(("refused_target", String::new()), |first| (first.code, first.field.clone()));
        let each = refused.iter().map(|one| [one.field.as_str(), one.message.as_str()].join(if one.field.is_empty() { "" } else { ": " }));
        let message = format!("nothing was done: {}", each.collect::<Vec<_>>().join("; "));
        let mut refusal = Self::new(StatusCode::UNPROCESSABLE_ENTITY, first.0, message).at(first.1);
        refusal.error.refused = refused;
        refusal
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here; GET / lists what there is")
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "not with this method; GET / lists what there is")
    }

    /// Too much is asked for at once.
    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    /// It was done, but not everybody has heard of it in time.
    pub(super) fn behind(message: String, behind: Vec<Value>) -> Self {
        let mut refusal = Self::new(StatusCode::GATEWAY_TIMEOUT, "behind", message);
        refusal.error.behind = behind;
        refusal
    }

    pub(super) fn redis_down(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "redis_down", message)
    }
}

/// Nothing was added, as far as Redis answered.
impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let unavailable = |code, message| Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message);
        match fault.kind {
            FaultKind::Unreachable | FaultKind::Timeout => Self::redis_down(format!(
                "no answer from Redis: it may have been added or not; send it again, for a repetition does no harm ({fault})"
            )),
            FaultKind::Denied => unavailable("missing_right", format!("Redis refused, nothing was added; see `unstale check` ({fault})")),
            kind => unavailable(kind.name(), format!("Redis refused, nothing was added ({fault})")),
        }
    }
}

impl From<DeliverError> for Refusal {
    fn from(error: DeliverError) -> Self {
        let code = match error {
            DeliverError::Busy => "busy",
            DeliverError::Draining => "draining",
            DeliverError::Failed(_) => "not_delivered",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: Error,
        }
        let mut response = (self.status, Json(Body { error: self.error })).into_response();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
            StatusCode::UNAUTHORIZED => response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
            _ => None,
        };
        response
    }
}
