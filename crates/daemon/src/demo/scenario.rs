//! The story that the demo plays: every row is changed in the database first, then its event is published, as an application would.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval};
use unstale_events::catalogue::llm_gateway::{SpendUpdated, VirtualKeyDeleted};
use unstale_events::publish::{Encoding, EventType, to_fields};
use unstale_events::{EntryId, Fields};

use super::readers::{Eye, Readers, Sight};
use super::screen::{Screen, thousands};
use super::stage::Stage;
use super::store::Store;
use super::{Trouble, plan};
use crate::web::Connection;

/// Between the beginnings of two waves.
const WAVE_EVERY: Duration = Duration::from_millis(300);
/// Updates that are committed, then published, together.
const TOGETHER: usize = 50;
/// What each update costs, in dollars.
const AMOUNT: f64 = 0.002;

/// What was played.
pub(super) struct Played {
    /// Events published.
    pub(super) events: u64,
    /// Reads by users meanwhile.
    pub(super) reads: u64,
    /// How long the publishing took.
    pub(super) took: Duration,
    pub(super) revoked: Revoked,
    pub(super) readers: Readers,
}

/// The key that was revoked: when, and who looks after it.
pub(super) struct Revoked {
    at: Instant,
    l2: Sight,
    apis: [Sight; 2],
}

impl Revoked {
    /// For how long after its event the key was still found in L2, and answered by each API.
    pub(super) fn lived(&self) -> [Duration; 3] {
        [&self.l2, &self.apis[0], &self.apis[1]].map(|sight| sight.lasted(self.at))
    }
}

/// Publishes the waves while users read.
pub(super) async fn play(stage: &Stage, updates: usize, screen: &mut Screen) -> Result<Played, Trouble> {
    let mut readers = Readers::new();
    let waves = plan::waves(updates);
    let order: Vec<usize> = waves.iter().flatten().copied().chain(0..plan::KEYS).collect();
    for api in stage.apis {
        readers.read(Connection::open(api).await?, order.clone());
    }
    let began = Instant::now();
    let mut clock = interval(WAVE_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut sent, mut revoked) = (0, None);
    for (number, wave) in waves.iter().enumerate() {
        clock.tick().await;
        let middle = if number == plan::REVOKED_IN { wave.len() / 2 } else { wave.len() };
        publish(stage, &wave[..middle], sent).await?;
        if number == plan::REVOKED_IN {
            revoked = Some(revoke(stage, &mut readers).await?);
            publish(stage, &wave[middle..], sent + middle).await?;
        }
        sent += wave.len();
        screen.progress(sent, updates, &format!("{} reads", thousands(readers.reads())));
    }
    screen.end_progress();
    let revoked = revoked.ok_or_else(|| Trouble("the story has no middle".to_owned()))?;
    Ok(Played { events: sent as u64 + 1, reads: readers.reads(), took: began.elapsed(), revoked, readers })
}

async fn publish(stage: &Stage, keys: &[usize], number: usize) -> Result<(), Trouble> {
    for (chunk, keys) in keys.chunks(TOGETHER).enumerate() {
        let hashes: Vec<String> = keys.iter().map(|&key| plan::hash(key)).collect();
        stage.database.bump(&hashes).await?;
        let events = keys.iter().zip(hashes).enumerate().map(|(i, (&key, hash))| spend(key, hash, number + chunk * TOGETHER + i));
        let events = events.collect::<Result<Vec<Fields>, Trouble>>()?;
        let entries: Vec<(&str, &Fields)> = events.iter().map(|fields| (stage.names.events.as_str(), fields)).collect();
        stage.main.client().xadd_many(&entries).await.into_iter().collect::<Result<Vec<EntryId>, _>>()?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a small number, and only for show")]
fn spend(key: usize, key_hash: String, number: usize) -> Result<Fields, Trouble> {
    let request_id = format!("request-{number}");
    fields(&SpendUpdated { key_id: plan::id(key), key_hash, amount: AMOUNT, new_total_spend: AMOUNT * (number + 1) as f64, request_id })
}

/// Revokes the key when it is surely cached everywhere.
async fn revoke(stage: &Stage, readers: &mut Readers) -> Result<Revoked, Trouble> {
    let hash = plan::hash(plan::REVOKED);
    let cache = Store::open(&stage.cache_url(), "demo-watch").await?;
    let mut l2 = readers.watch(Eye::Cache(cache, format!("vkey:{hash}")));
    let mut apis = [
        readers.watch(Eye::Api(Connection::open(stage.apis[0]).await?, hash.clone())),
        readers.watch(Eye::Api(Connection::open(stage.apis[1]).await?, hash.clone())),
    ];
    l2.cached().await?;
    for api in &mut apis {
        api.cached().await?;
    }
    stage.database.delete_row(&hash).await?;
    let event = VirtualKeyDeleted { key_id: plan::id(plan::REVOKED), key_hash: hash, key_name: "Research".to_owned() };
    let at = Instant::now();
    stage.main.client().xadd(&stage.names.critical, &fields(&event)?).await?;
    Ok(Revoked { at, l2, apis })
}

fn fields<E: EventType>(event: &E) -> Result<Fields, Trouble> {
    to_fields(event, Encoding::Json).map_err(|e| Trouble(e.to_string()))
}
