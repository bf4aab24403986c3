//! The notices of a sidecar: `GET /v1/notices`, followed for ever.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use unstale_events::Notice;

use super::events::{Event, Events};
use super::{News, Step};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// After so long without a word the connection is dead: a sidecar says something every five seconds.
const SILENCE: Duration = Duration::from_secs(15);
/// The pause after the first attempt that failed, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];

/// A text that is no address of a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the address of a sidecar: expected for example `http://127.0.0.1:7863`")]
pub struct BadAddress(String);

pub(super) struct Sidecar {
    host: String,
    port: u16,
    token: Option<HeaderValue>,
    stream: Option<Stream>,
    /// The id of the last event.
    last: Option<String>,
    heard: VecDeque<Event>,
    /// Before the next attempt to connect.
    pause: Duration,
}

/// An answer that goes on and on; dropped, the connection is closed.
struct Stream {
    body: Incoming,
    events: Events,
    connection: AbortHandle,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Why there is no stream, or no more.
type Trouble = Box<dyn std::error::Error + Send + Sync>;

impl Sidecar {
    pub(super) fn new(address: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| bad())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http") && uri.path() == "/").ok_or_else(bad)?.to_owned();
        let port = uri.port_u16().unwrap_or(80);
        let (token, stream, last, heard) = Default::default();
        Ok(Self { host, port, token, stream, last, heard, pause: Duration::ZERO })
    }

    pub(super) fn set_token(&mut self, token: &str) {
        self.token = HeaderValue::from_str(&format!("Bearer {token}")).ok().map(|mut value| {
            value.set_sensitive(true);
            value
        });
    }

    /// Cancel-safe: what was not told is told the next time.
    pub(super) async fn step(&mut self) -> Step {
        if let Some(event) = self.heard.pop_front() {
            let news = read(&event);
            // Its place is kept with it, so that what was not told is told again.
            self.last = Some(event.id).filter(|id| !id.is_empty()).or(self.last.take());
            return Step::News(news);
        }
        let Err(trouble) = self.listen().await else { return Step::On };
        tracing::debug!(%trouble, host = self.host, port = self.port, "no notices from the sidecar");
        self.pause = (self.pause * 2).clamp(PAUSES[0], PAUSES[1]);
        if self.stream.take().is_some() { Step::Broke } else { Step::On }
    }

    /// Connects if need be, and waits for the next events. Cancel-safe: what was read stays.
    async fn listen(&mut self) -> Result<(), Trouble> {
        if self.stream.is_none() {
            sleep(self.pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            self.stream = Some(timeout(SILENCE, self.connect()).await??);
        }
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let frame = timeout(SILENCE, stream.body.frame()).await?.ok_or("the sidecar ended the stream")??;
        if let Some(bytes) = frame.data_ref() {
            stream.events.push(bytes).map_err(|_| "an event has no end")?;
        }
        while let Some(event) = stream.events.next() {
            self.heard.push_back(event);
            self.pause = Duration::ZERO;
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Stream, Trouble> {
        let name = self.host.trim_matches(['[', ']']);
        let socket = TcpStream::connect((name, self.port)).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let connection = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        let answer = sender.send_request(self.request()?).await;
        let answer = answer.inspect_err(|_| connection.abort())?;
        if !answer.status().is_success() {
            connection.abort();
            return Err(format!("the sidecar answered {}", answer.status()).into());
        }
        Ok(Stream { body: answer.into_body(), events: Events::default(), connection })
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
        let mut request = Request::get("/v1/notices").header(header::HOST, format!("{}:{}", self.host, self.port));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        if let Some(last) = &self.last {
            request = request.header(LAST_EVENT_ID, last);
        }
        request.body(Empty::new())
    }
}

/// What an event says. One that isn't known may say anything.
fn read(event: &Event) -> News {
    let is_resumed = || serde_json::from_str::<Hello>(&event.data).is_ok_and(|hello| hello.resumed);
    match event.kind.as_str() {
        "hello" if is_resumed() => News::Resumed,
        "drop" | "flush" => Notice::from_json(event.data.as_bytes()).map_or(News::Lost, |notice| News::Notice(Box::new(notice))),
        "beat" => News::Beat,
        _ => News::Lost,
    }
}

#[derive(serde::Deserialize)]
struct Hello {
    resumed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for address in ["http://127.0.0.1:7863", "http://localhost:1/", "http://[::1]:7863", "http://sidecar"] {
            assert!(Sidecar::new(address).is_ok(), "{address}");
        }
        for address in ["", "127.0.0.1:7863", "https://h", "http://", "http://h/v1/notices", "redis://h"] {
            assert!(Sidecar::new(address).is_err(), "{address}");
        }
    }

    #[test]
    fn what_is_not_known_means_that_anything_may_be_stale() {
        let event = |kind: &str, data: &str| Event { kind: kind.to_owned(), id: String::new(), data: data.to_owned() };
        assert_eq!(read(&event("hello", r#"{"resumed":true}"#)), News::Resumed);
        assert_eq!(read(&event("beat", "{}")), News::Beat);
        assert!(matches!(read(&event("drop", r#"{"v":1,"drop":[]}"#)), News::Notice(_)));
        for (kind, data) in [("hello", r#"{"resumed":false}"#), ("hello", "?"), ("drop", "?"), ("split", "{}"), ("", "")] {
            assert_eq!(read(&event(kind, data)), News::Lost, "{kind} {data}");
        }
    }
}
