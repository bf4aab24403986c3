//! `unstale tail`: notices, events or dead letters as they happen, straight from their streams and without a consumer group, so that nothing is taken from
//! anybody.
//!
//! It shows what it sees; it vouches for nothing. Who must miss nothing follows the log of notices as `docs/notices.md` says.

use std::io::Write;
use std::time::Duration;

use futures_util::future::try_join_all;
use unstale_connect::{Client, Fault, Place, Role, Site};
use unstale_events::{Entry, EntryId};

use super::shown::{self, Reveal};
use super::{Bus, said};
use crate::cli::{Exit, Followed, Tail};
use crate::commands::{complain, fail};
use crate::config::Loaded;
use crate::letters::Letter;
use crate::terminal::Paint;

/// How long a read waits: also how soon it is seen that a stream was made anew.
const BLOCK: Duration = Duration::from_secs(2);
/// How many entries one read brings.
const PAGE: usize = 100;

/// The command. Ends with an error, or when nobody reads what it prints.
pub async fn run(loaded: &Loaded, args: &Tail) -> Exit {
    let bus = match Bus::open(loaded).await {
        Ok(bus) => bus,
        Err(error) => return fail(error),
    };
    let streams = streams(&bus, args);
    let followed = streams.iter().map(|(what, stream)| follow(loaded, &bus, args, *what, stream));
    match try_join_all(followed).await {
        Err(End::Closed) | Ok(_) => Exit::Done,
        Err(End::Failed(why)) => fail(why),
    }
}

fn streams(bus: &Bus, args: &Tail) -> Vec<(Followed, String)> {
    let mut wanted = if args.what.is_empty() { vec![Followed::Notices] } else { args.what.clone() };
    wanted.dedup();
    let of = |what: Followed| match what {
        Followed::Notices => vec![(what, bus.names.notices.clone())],
        Followed::Events => vec![(what, bus.names.critical.clone()), (what, bus.names.events.clone())],
        Followed::DeadLetters => vec![(what, bus.names.dead.clone())],
    };
    wanted.into_iter().flat_map(of).collect()
}

/// Why nothing more is shown.
enum End {
    /// Nobody reads standard output.
    Closed,
    Failed(String),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Failed(said(&fault))
    }
}

async fn follow(loaded: &Loaded, bus: &Bus, args: &Tail, what: Followed, stream: &str) -> Result<(), End> {
    let server = loaded.config.redis.get(&loaded.config.bus.redis).and_then(|redis| redis.server().ok());
    let server = server.ok_or_else(|| End::Failed("the server of the streams isn't configured".to_owned()))?;
    let reader = Site::open(&server)?.client(Place::Key(stream), Role::Reader { block: BLOCK }, "unstale-tail")?;
    reader.ready(server.connect_timeout).await?;
    let show = |entry: &Entry| show(what, stream, entry, args);
    let mut last = newest(&bus.client, stream, args.last, show).await?;
    loop {
        match reader.xread(stream, last, PAGE, Some(BLOCK)).await {
            Ok(entries) if entries.is_empty() => last = anew(&bus.client, stream, last).await?,
            Ok(entries) => {
                entries.iter().try_for_each(show)?;
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
async fn newest(client: &Client, stream: &str, count: usize, show: impl Fn(&Entry) -> Result<(), End>) -> Result<EntryId, End> {
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

fn show(what: Followed, stream: &str, entry: &Entry, args: &Tail) -> Result<(), End> {
    let (reveal, paint) = (Reveal(args.reveal), Paint::stdout());
    let line = match (what, args.json) {
        (Followed::Notices, as_json) => match shown::notice(entry) {
            Ok(notice) if as_json => shown::notice_json(&notice, reveal).to_string(),
            Ok(notice) => shown::notice_line(&notice, reveal, paint),
            Err(why) => {
                complain(why);
                return Ok(());
            }
        },
        (Followed::DeadLetters, true) => shown::letter_json(&Letter::read(entry.clone()), reveal).to_string(),
        (Followed::DeadLetters, false) => shown::letter_line(&Letter::read(entry.clone()).head, paint),
        (Followed::Events, true) => shown::event_json(stream, entry, reveal).to_string(),
        (Followed::Events, false) => shown::event_line(stream, entry, reveal, paint),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|_| End::Closed)
}
