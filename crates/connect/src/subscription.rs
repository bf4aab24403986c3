//! Listening to channels, for tools and tests: nothing in the product rests on messages of channels, which get lost without a trace.

use bytes::Bytes;
use fred::interfaces::{EventInterface, PubsubInterface};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::client::{Role, plan};
use crate::fault::{Fault, FaultKind};
use crate::link::Connection;
use crate::server::Server;
use crate::site::{Aim, Site};

/// A message of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The channel.
    pub channel: String,
    /// What was published.
    pub payload: Bytes,
}

/// Some channels on a connection of their own, until it breaks.
pub struct Subscription {
    messages: Receiver<fred::types::Message>,
    connection: Connection,
}

impl Subscription {
    /// Connects, on a cluster to any node, and subscribes; when it returns, the server has confirmed it.
    pub async fn open(server: &Server, channels: &[&str]) -> Result<Self, Fault> {
        let mut plan = plan(server, Role::Commands, "unstale-subscription")?;
        // The default of 32 loses messages in the first burst.
        plan.performance.broadcast_channel_capacity = 4096;
        let address = Site::open(server)?.locate(&Aim::Any, 0).await?;
        let connection = Connection::open_in_time(&plan, &address).await?;
        let messages = connection.client.message_rx();
        let channels: Vec<_> = channels.iter().map(|channel| (*channel).to_owned()).collect();
        connection.client.subscribe(channels).await?;
        // SUBSCRIBE is confirmed out of band; the answer to what follows it on the same connection comes after it.
        let () = fred::interfaces::ClientLike::ping(&connection.client, None).await?;
        Ok(Self { messages, connection })
    }

    /// The next message.
    ///
    /// # Errors
    /// [`FaultKind::Unreachable`] if the connection ended or messages were lost: what came since is unknown, so subscribe anew.
    pub async fn next(&mut self) -> Result<Message, Fault> {
        tokio::select! {
            biased;
            message = self.messages.recv() => match message {
                Ok(message) => Ok(Message { channel: message.channel.to_string(), payload: message.value.into_bytes().unwrap_or_default() }),
                Err(RecvError::Lagged(lost)) => Err(Fault::new(FaultKind::Unreachable, format!("{lost} messages were lost"))),
                Err(RecvError::Closed) => Err(Fault::new(FaultKind::Unreachable, "the connection was closed")),
            },
            fault = self.connection.end() => Err(fault),
        }
    }
}
