//! One kept-alive HTTP connection for GETs: to a sidecar, for the tools, and to the demo's APIs as an impatient user would hold it.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
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
        let fault = |e: &dyn std::fmt::Display| NoAnswer(format!("GET http://{}{path} failed: {e}", self.address));
        let mut request = Request::get(path).header(header::HOST, self.address.to_string());
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        let request = request.body(Empty::new()).map_err(|e| fault(&e))?;
        // The connection needs a moment after an answer; without this wait the next request would be refused.
        self.sender.ready().await.map_err(|e| fault(&e))?;
        let answer = self.sender.send_request(request).await.map_err(|e| fault(&e))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|e| fault(&e))?;
        Ok((status, body.to_bytes()))
    }

    /// The JSON behind a path that answers 200.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, NoAnswer> {
        let (status, body) = self.get(path).await?;
        if status == StatusCode::UNAUTHORIZED {
            return Err(NoAnswer(format!("http://{} answered {status}: set `http.token_file` as that sidecar has it", self.address)));
        }
        if status != StatusCode::OK {
            return Err(NoAnswer(format!("GET http://{}{path} answered {status}", self.address)));
        }
        serde_json::from_slice(&body)
            .map_err(|e| NoAnswer(format!("GET http://{}{path} answered no JSON that is understood: {e}", self.address)))
    }
}
