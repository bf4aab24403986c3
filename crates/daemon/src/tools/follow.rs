//! Following a stream of Redis as anybody may: without a consumer group, from entries that are there already, through outages, and from the beginning
//! again if the stream is made anew.
//!
//! For looking only: what was trimmed before it was read is not missed. Receivers of notices follow their log with `unstale_notices`.

use std::io::Write;
use std::time::Duration;

use unstale_connect::{Client, Fault, Place, Role, Site};
use unstale_events::{Entry, EntryId};

use super::{Bus, said};
use crate::commands::complain;
use crate::config::Loaded;

/// How long a read waits: also how soon it is seen that a stream was made anew.
const BLOCK: Duration = Duration::from_secs(2);
/// How many entries one read brings.
const PAGE: usize = 100;

/// Why nothing more is shown.
pub(super) enum End {
    /// Nobody reads standard output.
    Closed,
    Failed(String),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Failed(said(&fault))
    }
}

/// Shows the last entries that are there, and each that comes. Ends only with an error.
pub(super) async fn follow<S>(loaded: &Loaded, bus: &Bus, stream: &str, last: usize, mut show: S) -> Result<(), End>
where
    S: FnMut(&Entry) -> Result<(), End>,
{
    let server = loaded.config.redis.get(&loaded.config.bus.redis).and_then(|redis| redis.server().ok());
    let server = server.ok_or_else(|| End::Failed("the server of the streams isn't configured".to_owned()))?;
    let reader = Site::open(&server)?.client(Place::Key(stream), Role::Reader { block: BLOCK }, "unstale-tail")?;
    reader.ready(server.connect_timeout).await?;
    let mut last = newest(&bus.client, stream, last, &mut show).await?;
    loop {
        match reader.xread(stream, last, PAGE, Some(BLOCK)).await {
            Ok(entries) if entries.is_empty() => last = anew(&bus.client, stream, last).await?,
            Ok(entries) => {
                entries.iter().try_for_each(&mut show)?;
                last = entries.last().map_or(last, |entry| entry.id);
            }
            Err(fault) if fault.is_transient() => {
                complain(format_args!("{stream}: {fault}; waiting for Redis"));
                while reader.ready(BLOCK).await.is_err() {}
            }
            Err(fault) => return Err(fault.into()),
        }
    }
}

/// Shows the last entries that are there, and returns where to go on.
async fn newest(client: &Client, stream: &str, count: usize, show: impl FnMut(&Entry) -> Result<(), End>) -> Result<EntryId, End> {
    let mut entries = client.xrevrange(stream, None, EntryId::ZERO, count.max(1)).await?;
    let last = entries.first().map_or(EntryId::ZERO, |entry| entry.id);
    entries.truncate(count);
    entries.iter().rev().try_for_each(show)?;
    Ok(last)
}

/// Where to go on after silence: at the beginning, if the stream was lost and begins again with lower ids.
async fn anew(client: &Client, stream: &str, last: EntryId) -> Result<EntryId, End> {
    match client.xrevrange(stream, None, EntryId::ZERO, 1).await {
        Ok(newest) if newest.first().is_some_and(|newest| newest.id < last) => {
            complain(format_args!("{stream} begins anew: its history was lost"));
            Ok(EntryId::ZERO)
        }
        Ok(_) => Ok(last),
        Err(fault) if fault.is_transient() => Ok(last),
        Err(fault) => Err(fault.into()),
    }
}

/// One line on standard output.
pub(super) fn show_line(line: &str) -> Result<(), End> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|_| End::Closed)
}
