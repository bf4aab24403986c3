//! One kept-alive HTTP connection for GETs, as an impatient user of the demo's APIs would hold it.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::Trouble;

/// A connection to one address.
pub(super) struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
    address: SocketAddr,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Self, Trouble> {
        let unreachable = |why: &dyn std::fmt::Display| Trouble(format!("can't reach http://{address}: {why}"));
        let stream = TcpStream::connect(address).await.map_err(|e| unreachable(&e))?;
        stream.set_nodelay(true).map_err(|e| unreachable(&e))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(&e))?;
        // Ends with the connection; its fault also reaches whoever waits for an answer.
        tokio::spawn(async { drop(connection.await) });
        Ok(Self { sender, address })
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<(StatusCode, Bytes), Trouble> {
        let fault = |e: &dyn std::fmt::Display| Trouble(format!("GET http://{}{path} failed: {e}", self.address));
        let request = Request::get(path).header(header::HOST, self.address.to_string()).body(Empty::new()).map_err(|e| fault(&e))?;
        // The connection needs a moment after an answer; without this wait the next request would be refused.
        self.sender.ready().await.map_err(|e| fault(&e))?;
        let answer = self.sender.send_request(request).await.map_err(|e| fault(&e))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|e| fault(&e))?;
        Ok((status, body.to_bytes()))
    }

    /// The JSON behind a path that answers 200.
    pub(super) async fn json<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Trouble> {
        let (status, body) = self.get(path).await?;
        if status != StatusCode::OK {
            return Err(Trouble(format!("GET http://{}{path} answered {status}", self.address)));
        }
        serde_json::from_slice(&body)
            .map_err(|e| Trouble(format!("GET http://{}{path} answered no JSON that is understood: {e}", self.address)))
    }
}
