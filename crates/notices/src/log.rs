//! The log's commands.

use std::time::Duration;

use unstale_connect::{Client, Fault, FaultKind, Link};
use unstale_events::{Entry, EntryId, Position};

use crate::course::Sight;
use crate::told;

/// The log of one namespace, by one connection.
#[derive(Debug, Clone)]
pub struct Log {
    client: Client,
    key: String,
}

impl Log {
    /// The log with this key. A connection for [`crate::Follower::waiting`] must be one that may block.
    pub fn new(client: Client, key: &str) -> Self {
        Self { client, key: key.to_owned() }
    }

    /// The connection.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Which connection it is, once it is up.
    pub(crate) async fn ready(&self, within: Duration) -> Result<u64, Fault> {
        self.client.ready(within).await
    }

    /// Which connection it is now.
    pub(crate) fn generation(&self) -> Result<u64, Fault> {
        match &*self.client.link().borrow() {
            Link::Up { generation, .. } => Ok(*generation),
            Link::Down { why, .. } => Err(Fault::new(FaultKind::Unreachable, why.text.clone())),
        }
    }

    /// What there is at a position, and where the log ends if that isn't the position's own entry.
    pub(crate) async fn look(&self, at: Position) -> Result<Sight, Fault> {
        let to = (at != Position::START).then_some(at.id);
        let found = self.client.xrange(&self.key, at.id, to, 1).await?.first().map(told::position);
        let newest = if found == Some(at) { at } else { self.newest().await? };
        Ok(Sight { found, newest })
    }

    /// The newest notice; [`Position::START`] if there is none.
    pub async fn newest(&self) -> Result<Position, Fault> {
        let newest = self.client.xrevrange(&self.key, None, EntryId::ZERO, 1).await?;
        Ok(newest.first().map_or(Position::START, told::position))
    }

    /// The entries after one, waiting for the first if there is `patience`.
    pub(crate) async fn read(&self, after: EntryId, count: usize, patience: Option<Duration>) -> Result<Vec<Entry>, Fault> {
        self.client.xread(&self.key, after, count, patience).await
    }
}
