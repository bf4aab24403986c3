//! `unstale tail`: notices, events or dead letters as they happen, straight from their streams and without a consumer group, so that nothing is taken from
//! anybody.
//!
//! It shows what it sees; it vouches for nothing. Who must miss nothing follows the log of notices as `docs/notices.md` says.

use futures_util::future::try_join_all;
use unstale_events::Entry;

use super::Bus;
use super::follow::{End, follow, show_line};
use super::shown::{self, Reveal};
use crate::cli::{Exit, Followed, Tail};
use crate::commands::{complain, fail};
use crate::config::Loaded;
use crate::letters::Letter;
use crate::terminal::Paint;

/// The command. Ends with an error, or when nobody reads what it prints.
pub async fn run(loaded: &Loaded, args: &Tail) -> Exit {
    let bus = match Bus::open(loaded).await {
        Ok(bus) => bus,
        Err(error) => return fail(error),
    };
    let streams = streams(&bus, args);
    let followed =
        streams.iter().map(|(what, stream)| follow(loaded, &bus, stream, args.last, move |entry| show(*what, stream, entry, args)));
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
    show_line(&line)
}
