//! Which instances have yet to pass a notice on to their receivers.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use unstale_connect::{Client, Fault, FaultKind, Reply, Script};
use unstale_events::Position;

/// The silence after which a receiver doesn't trust what he has. An instance that stopped beating without a goodbye is waited for as long:
/// its receivers may be connected to it still.
pub const SILENCE: Duration = Duration::from_secs(15);

/// The pauses between two looks.
const PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

static SCRIPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
return { time[1] * 1000 + math.floor(time[2] / 1000), redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), redis.call('HGETALL', KEYS[2]) }",
    )
});

/// Where the sidecars of a namespace say how far they are.
#[derive(Debug, Clone, Copy)]
pub struct Company<'a> {
    /// The key of their beats.
    pub beats: &'a str,
    /// The key of their positions.
    pub positions: &'a str,
}

/// An instance that has yet to pass a notice on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// Its name.
    pub instance: String,
    /// The last notice that all its receivers have; `None` if it doesn't say.
    pub position: Option<Position>,
    /// How many notices they lack.
    pub notices: u64,
}

/// Not everybody has passed a notice on in time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Late {
    /// Who hasn't, at the last look.
    pub behind: Vec<Behind>,
    /// Why nobody could look, if that is so.
    pub blind: Option<Fault>,
}

/// Waits until every instance has passed a notice on, and returns how many there are.
///
/// # Errors
/// Who hasn't when the time is up.
pub async fn everywhere(client: &Client, company: Company<'_>, notice: Position, until: Instant) -> Result<usize, Late> {
    let mut late = Late::default();
    let mut pause = PAUSE;
    loop {
        match behind(client, company, notice).await {
            Ok((behind, all)) if behind.is_empty() => return Ok(all),
            Ok((behind, _)) => late = Late { behind, blind: None },
            Err(fault) => late.blind = Some(fault),
        }
        let next = Instant::now() + pause;
        if next > until {
            return Err(late);
        }
        sleep_until(next).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The instances that haven't passed this notice on, of those that said no goodbye and have beaten within [`SILENCE`], and how many
/// these are in all.
pub async fn behind(client: &Client, company: Company<'_>, notice: Position) -> Result<(Vec<Behind>, usize), Fault> {
    let keys = [company.beats, company.positions].map(|key| Bytes::copy_from_slice(key.as_bytes())).to_vec();
    let malformed = |_| Fault::new(FaultKind::Protocol, "expected the time, beats and positions");
    let [now, beats, positions]: [Reply; 3] = client.eval(&SCRIPT, keys, Vec::new()).await?.array()?.try_into().map_err(malformed)?;
    let now = Duration::from_millis(now.count()?);
    let positions = pairs(positions)?.into_iter().collect::<HashMap<_, _>>();
    let instances: Vec<_> = pairs(beats)?.into_iter().filter(|(_, at)| counts(at, now)).map(|(instance, _)| instance).collect();
    let all = instances.len();
    let position = |instance: String| {
        let position = positions.get(&instance).and_then(|text| text.parse().ok());
        Behind { notices: notice.seq.saturating_sub(position.map_or(0, |position: Position| position.seq)), instance, position }
    };
    let has = |behind: &Behind| behind.position.is_some_and(|own| own.id >= notice.id && own.seq >= notice.seq);
    Ok((instances.into_iter().map(position).filter(|behind| !has(behind)).collect(), all))
}

/// Whether an instance that has beaten at this time may have receivers that trust it.
fn counts(beat: &str, now: Duration) -> bool {
    let beat = beat.parse().ok().and_then(|ms: f64| Duration::try_from_secs_f64(ms / 1000.0).ok());
    beat.is_some_and(|beat| now.saturating_sub(beat) <= SILENCE)
}

fn pairs(reply: Reply) -> Result<Vec<(String, String)>, Fault> {
    let texts = reply.array()?;
    texts.chunks_exact(2).map(|pair| Ok((pair[0].text()?.to_owned(), pair[1].text()?.to_owned()))).collect()
}
