//! `GET /`: the live page for people, and the list of paths for everybody else. The page asks [`super::overview`] once a second.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

/// What `GET /` shows to who asks for no HTML.
const INDEX: &str = "unstale: domain events in, stale cache keys gone

GET  /                 this list; in a browser, a live page
GET  /metrics          numbers, for Prometheus
GET  /healthz          200 while the loop turns        (?strict=1: 503 unless all is well)
GET  /readyz           200 from first connect to drain (?strict=1: 503 unless all is well)
GET  /v1/stats         the counts, as JSON
GET  /v1/overview      all that the live page shows, as JSON
POST /v1/events        publish one event, or an array of them: {\"type\": ..., ...}
POST /v1/invalidate    {\"keys\": [], \"patterns\": [], \"cache\": ..., \"operation\": ..., \"priority\": ...}  (?wait=deleted|everywhere: now)
POST /v1/explain       what an event would do; nothing is done
GET  /v1/notices       what to drop, as Server-Sent Events     (?cache=a,b: of these caches)
POST /v1/dead-letters/replay, /v1/dead-letters/drop    {\"ids\": [...]}
";

/// Nothing but what this server gives out itself, and no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    (header::VARY, HeaderValue::from_static("accept")),
];

/// What may be had without a token: it says nothing of this sidecar, and a browser can't show a token before it has the page that asks for it.
pub(super) const PATHS: [&str; 3] = ["/", "/page.css", "/page.js"];

/// `GET /`.
pub(super) async fn index(headers: HeaderMap) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepted.contains("text/html") {
        file("text/html; charset=utf-8", include_str!("page/index.html"))
    } else {
        file("text/plain; charset=utf-8", INDEX)
    }
}

/// `GET /page.css`.
pub(super) async fn style() -> Response {
    file("text/css; charset=utf-8", include_str!("page/page.css"))
}

/// `GET /page.js`.
pub(super) async fn script() -> Response {
    file("text/javascript; charset=utf-8", include_str!("page/page.js"))
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], HEADERS, text).into_response()
}
