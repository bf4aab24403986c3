//! What there is to see: metrics, health, stats, and what an event would do.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router as Paths};
use serde::Deserialize;
use unstale_pipeline::handle::Handle;
use unstale_pipeline::health::{Health, Status};
use unstale_pipeline::metrics;

use super::Shared;
use super::body::Body;
use super::error::Refusal;

/// The paths that `http.probe_bind` has, too.
pub(super) fn probes(handle: Handle) -> Paths {
    Paths::new().route("/metrics", get(metrics_page)).route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(handle)
}

/// `GET /v1/stats`.
pub(super) async fn stats(State(shared): State<Shared>) -> Response {
    Json(shared.app.handle.stats().report()).into_response()
}

/// `POST /v1/explain`.
pub(super) async fn explain(State(shared): State<Shared>, body: Body) -> Result<Response, Refusal> {
    if let Err(error) = serde_json::from_slice::<&serde_json::value::RawValue>(&body.bytes) {
        return Err(Refusal::bad("not_json", format!("the body is no JSON: {error}")));
    }
    Ok(Json(crate::explain::explain(&shared.app.router, &shared.app.names, &body.bytes)).into_response())
}

async fn metrics_page(State(handle): State<Handle>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], handle.metrics_page()).into_response()
}

/// How a probe wants to be answered.
#[derive(Debug, Deserialize)]
struct Manner {
    strict: Option<String>,
}

impl Manner {
    fn is_strict(&self) -> bool {
        self.strict.as_deref().is_some_and(|strict| strict != "0" && strict != "false")
    }
}

async fn healthz(State(handle): State<Handle>, Query(manner): Query<Manner>) -> Response {
    answer(handle.is_alive(), &handle.health(), &manner)
}

async fn readyz(State(handle): State<Handle>, Query(manner): Query<Manner>) -> Response {
    let health = handle.health();
    answer(health.ready, &health, &manner)
}

fn answer(is_fine: bool, health: &Arc<Health>, manner: &Manner) -> Response {
    let is_fine = is_fine && (health.status == Status::Ok || !manner.is_strict());
    let status = if is_fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(&**health)).into_response()
}
