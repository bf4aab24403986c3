//! Whether anything is stale: once all is quiet, every key is read through both L1s and in L2, and compared with the database.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use unstale_notices::Log;

use super::api::{Level, Stats};
use super::readers::ask;
use super::stage::Stage;
use super::{Trouble, plan};
use crate::web::Connection;

/// How long it may take from the last event until nothing is left to do.
const QUIET_WITHIN: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What the last look at every key showed.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Where a value differs from the database, in words.
    pub(super) stale: Vec<String>,
    /// Comparisons made.
    pub(super) compared: u64,
    /// Answers that came from an in-process cache.
    pub(super) from_l1: u64,
}

/// Waits until every entry is acknowledged (second deletes included) and every notice was heard by both APIs.
pub(super) async fn quiet(stage: &Stage) -> Result<(), Trouble> {
    let deadline = Instant::now() + QUIET_WITHIN;
    while let Some(left) = unfinished(stage).await? {
        if Instant::now() > deadline {
            return Err(Trouble(format!("{} s after the last event: {left}", QUIET_WITHIN.as_secs())));
        }
        sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// What is still to be done, if anything.
async fn unfinished(stage: &Stage) -> Result<Option<String>, Trouble> {
    for stream in [&stage.names.events, &stage.names.critical] {
        let newest = stage.main.client().xinfo_stream(stream).await?.last_generated;
        for group in stage.main.client().xinfo_groups(stream).await? {
            if group.last_delivered < newest || group.pending != 0 {
                let at = group.last_delivered;
                return Ok(Some(format!("{stream} is read up to {at} of {newest}, and {} are pending", group.pending)));
            }
        }
    }
    let newest = Log::new(stage.main.client().clone(), &stage.names.notices).newest().await?;
    for api in stage.apis {
        let heard = stats(api).await?.seq;
        if heard != newest.seq {
            return Ok(Some(format!("http://{api} has heard notice {heard} of {}", newest.seq)));
        }
    }
    Ok(None)
}

/// What an API says of itself.
pub(super) async fn stats(api: std::net::SocketAddr) -> Result<Stats, Trouble> {
    Ok(Connection::open(api).await?.json("/stats").await?)
}

/// Compares everything. Each key is read twice, so that the second answer comes from the L1, filled with whatever L2 held.
pub(super) async fn compare(stage: &Stage) -> Result<Verdict, Trouble> {
    let mut verdict = Verdict::default();
    let mut apis = [Connection::open(stage.apis[0]).await?, Connection::open(stage.apis[1]).await?];
    for key in 0..plan::KEYS {
        let hash = plan::hash(key);
        let row = stage.database.row(&hash).await?;
        let cached = stage.main.get(&format!("vkey:{hash}")).await?;
        verdict.add(cached.is_none() || cached == row, || {
            format!("L2 holds version {} of {hash}, the database has {}", say(cached), say(row))
        });
        for (name, api) in ["API a", "API b"].into_iter().zip(&mut apis) {
            ask(api, &hash).await?;
            let answer = ask(api, &hash).await?;
            verdict.from_l1 += u64::from(answer.as_ref().is_some_and(|answer| answer.from == Level::L1));
            let version = answer.map(|answer| answer.version);
            verdict.add(version == row, || format!("{name} answers {hash} with version {}, the database has {}", say(version), say(row)));
        }
    }
    Ok(verdict)
}

impl Verdict {
    fn add(&mut self, fresh: bool, stale: impl FnOnce() -> String) {
        self.compared += 1;
        if !fresh {
            self.stale.push(stale());
        }
    }
}

fn say(version: Option<u64>) -> String {
    version.map_or_else(|| "none".to_owned(), |version| version.to_string())
}
