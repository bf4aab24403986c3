//! One kept-alive HTTP connection for GETs: to a sidecar, for the tools and for the demo's APIs, and to those as an impatient user would hold it.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::http::request::Builder;
use axum::http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use unstale_connect::Secret;

/// Why there was no answer, or not the one that was asked for: a sentence with the address in it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoAnswer(String);

/// A connection to one address.
pub(crate) struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
    address: SocketAddr,
    token: Option<Secret>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, NoAnswer> {
        let unreachable = |why: &dyn std::fmt::Display| NoAnswer(format!("can't reach http://{address}: {why}"));
        let stream = TcpStream::connect(address).await.map_err(|e| unreachable(&e))?;
        stream.set_nodelay(true).map_err(|e| unreachable(&e))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(&e))?;
        // Ends with the connection; its fault also reaches whoever waits for an answer.
        tokio::spawn(async { drop(connection.await) });
        Ok(Self { sender, address, token: None })
    }

    /// Shows this token with every request.
    pub(crate) fn with_token(mut self, token: Option<Secret>) -> Self {
        self.token = token;
        self
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<(StatusCode, Bytes), NoAnswer> {
        let answer = self.send(Request::get(path)).await.map_err(|e| self.failed(path, e))?;
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED {
            return Err(NoAnswer(format!("http://{} answered {status}: set `http.token_file` as that sidecar has it", self.address)));
        }
        let body = answer.into_body().collect().await.map_err(|e| self.failed(path, e))?;
        Ok((status, body.to_bytes()))
    }

    async fn send(&mut self, request: Builder) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
        let mut request = request.header(header::HOST, self.address.to_string());
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        // The connection needs a moment after an answer; without this wait the next request would be refused.
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(Empty::new())?).await?)
    }

    fn failed(&self, path: &str, why: impl std::fmt::Display) -> NoAnswer {
        NoAnswer(format!("GET http://{}{path} failed: {why}", self.address))
    }

    /// Follows Server-Sent Events, from where the event with this id was the last.
    pub(crate) async fn follow(mut self, path: &str, last: Option<&str>) -> Result<Events, NoAnswer> {
        let request = last.into_iter().fold(Request::get(path), |request, last| request.header("last-event-id", last));
        let answer = self.send(request).await.map_err(|e| self.failed(path, e))?;
        match answer.status() {
            StatusCode::OK => Ok(Events { from: format!("http://{}{path}", self.address), body: answer.into_body(), bytes: Vec::new() }),
            other => Err(NoAnswer(format!("GET http://{}{path} answered {other}", self.address))),
        }
    }

    /// The JSON behind a path that answers 200.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, NoAnswer> {
        let (status, body) = self.get(path).await?;
        if status != StatusCode::OK {
            return Err(NoAnswer(format!("GET http://{}{path} answered {status}", self.address)));
        }
        serde_json::from_slice(&body)
            .map_err(|e| NoAnswer(format!("GET http://{}{path} answered no JSON that is understood: {e}", self.address)))
    }
}

/// Server-Sent Events of a sidecar.
pub(crate) struct Events {
    from: String,
    body: Incoming,
    /// What has come and wasn't read.
    bytes: Vec<u8>,
}

/// One of them: a line each of `event`, `id` and `data`.
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) data: String,
}

impl Events {
    /// The next one. An end is an error, too.
    pub(crate) async fn next(&mut self) -> Result<Event, NoAnswer> {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|two| two == b"\n\n") {
                let event = self.bytes.drain(..end + 2).collect::<Vec<_>>();
                let text = String::from_utf8_lossy(&event);
                let value = |line: &str, name: &str| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned());
                let field = |name: &str| text.lines().find_map(|line| value(line, name)).unwrap_or_default();
                return Ok(Event { kind: field("event"), id: field("id"), data: field("data") });
            }
            let frame = self.body.frame().await.ok_or_else(|| NoAnswer(format!("{} ended", self.from)))?;
            let frame = frame.map_err(|e| NoAnswer(format!("{} broke off: {e}", self.from)))?;
            self.bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        }
    }
}
