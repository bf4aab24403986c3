//! What the cache costs: beside a plain moka, and beside plain GET and SET of the same Redis connection. They take turns, round by round, so that whatever
//! else the machine does befalls both; what is printed are medians, and the median of the rounds' ratios.
//!
//! `cargo run --release -p unstale-client --example bench`

use std::hint::black_box;
use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use unstale_client::{Bound, Settings, Site, Store, TieredCache};
use unstale_testkit::{Redis, wait_until};

type Trouble = Box<dyn std::error::Error + Send + Sync>;
type Moka = moka::sync::Cache<Arc<str>, Arc<Product>>;

const ROUNDS: usize = 41;
/// How many keys there are to hit.
const KEYS: u64 = 1000;
/// How many entries memory is measured with.
const MANY: u64 = 200_000;
const LIFE: Duration = Duration::from_secs(3600);

#[derive(Clone, Serialize, Deserialize)]
struct Product {
    id: u64,
    name: String,
    cents: u64,
}

fn product(id: u64) -> Product {
    Product { id, name: format!("a product of some kind, number {id}"), cents: 900 }
}

fn key(id: u64) -> String {
    format!("bench:product:{id}")
}

#[tokio::main]
async fn main() -> Result<(), Trouble> {
    if let Some(which) = std::env::args().nth(1) {
        println!("{}", bytes_for_each(&which).await?);
        return Ok(());
    }
    println!("| | plain | this cache | ratio |\n|---|---|---|---|");
    let (moka, local) = (moka(KEYS), TieredCache::local(roomy(KEYS)));
    fill(&moka, &local, KEYS).await?;
    for tasks in [1, 2] {
        let ops = 200_000;
        compare(&format!("a hit in the process, {tasks} at a time"), tasks, ops, &hits_of_moka(&moka, ops), &hits(&local, ops)).await?;
    }

    let redis = Redis::start().await;
    let store = Site::open(&redis.url().parse()?)?.store("bench")?;
    wait_until("Redis", Duration::from_secs(20), || async { store.get("none".into()).await.map_err(|fault| fault.to_string()) }).await;
    // Nothing stays in the process, so that every read goes to Redis.
    let shared = TieredCache::over(store.clone(), Settings { local_life: Duration::ZERO, ..Settings::default() });
    for id in 0..KEYS {
        shared.set(&key(id), product(id)).await?;
    }
    for tasks in [1, 64] {
        let ops = if tasks == 1 { 300 } else { 50 };
        compare(&format!("a hit in Redis, {tasks} at a time"), tasks, ops, &gets(&store, ops), &hits(&shared, ops)).await?;
    }
    for tasks in [1, 64] {
        let ops = if tasks == 1 { 200 } else { 30 };
        compare(&format!("a miss in both, {tasks} at a time"), tasks, ops, &gets_and_sets(&store, ops), &misses(&shared, ops)).await?;
    }

    let (plain, ours) = (bytes_in_child("moka")?, bytes_in_child("tiered")?);
    println!("| memory of an entry, key and value included | {plain} B | {ours} B | {:.2} |", float(ours) / float(plain));
    let tiered = TieredCache::over(store, Settings::default());
    let (loads, took) = stampede(&tiered).await?;
    println!("\n10,000 misses of one key at once: {loads} load, all answered after {took:.1?}");
    Ok(())
}

/// Does so many operations.
type Work = Arc<dyn Fn() -> BoxFuture<'static, Result<(), Trouble>> + Send + Sync>;

fn work<F: Future<Output = Result<(), Trouble>> + Send + 'static>(work: impl Fn() -> F + Send + Sync + 'static) -> Work {
    Arc::new(move || work().boxed())
}

/// Prints what one operation takes.
async fn compare(what: &str, tasks: usize, ops: u32, plain: &Work, ours: &Work) -> Result<(), Trouble> {
    let (mut plains, mut owns, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (plain, own) = if round % 2 == 0 {
            let plain = timed(tasks, plain).await?;
            (plain, timed(tasks, ours).await?)
        } else {
            let own = timed(tasks, ours).await?;
            (timed(tasks, plain).await?, own)
        };
        // The first warms up.
        if round > 0 {
            plains.push(plain);
            owns.push(own);
            ratios.push(own / plain);
        }
    }
    // What one of them waits for its own operation.
    let each = |total: f64| Duration::from_secs_f64(total / f64::from(ops));
    println!("| {what} | {:.1?} | {:.1?} | {:.2} |", each(median(plains)), each(median(owns)), median(ratios));
    Ok(())
}

async fn timed(tasks: usize, work: &Work) -> Result<f64, Trouble> {
    let began = Instant::now();
    let all = (0..tasks).map(|_| tokio::spawn(work()));
    try_join_all(all).await?.into_iter().collect::<Result<(), _>>()?;
    Ok(began.elapsed().as_secs_f64())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// A moka with a lifetime, as caches have.
fn moka(entries: u64) -> Moka {
    moka::sync::Cache::builder().max_capacity(2 * entries).time_to_live(LIFE).build()
}

fn roomy(entries: u64) -> Settings {
    Settings { local_bound: Bound::Entries(2 * entries), local_life: LIFE, ..Settings::default() }
}

async fn fill(moka: &Moka, cache: &TieredCache, entries: u64) -> Result<(), Trouble> {
    for id in 0..entries {
        moka.insert(key(id).into(), Arc::new(product(id)));
        cache.set(&key(id), product(id)).await?;
    }
    Ok(())
}

fn keys() -> Vec<String> {
    (0..KEYS).map(key).collect()
}

fn hits_of_moka(moka: &Moka, ops: u32) -> Work {
    let (moka, keys) = (moka.clone(), Arc::new(keys()));
    work(move || {
        let (moka, keys) = (moka.clone(), Arc::clone(&keys));
        async move {
            for key in keys.iter().cycle().take(ops as usize) {
                black_box(moka.get(key.as_str()).ok_or("a miss")?);
            }
            Ok(())
        }
    })
}

fn hits(cache: &TieredCache, ops: u32) -> Work {
    let (cache, keys) = (cache.clone(), Arc::new(keys()));
    work(move || {
        let (cache, keys) = (cache.clone(), Arc::clone(&keys));
        async move {
            for key in keys.iter().cycle().take(ops as usize) {
                let unread = || async { Err::<Option<Product>, _>("a miss") };
                black_box(cache.get_or_load(key, unread).await?);
            }
            Ok(())
        }
    })
}

/// As caches are read everywhere.
async fn got(store: &Store, key: &str) -> Result<Option<Product>, Trouble> {
    let stored = store.get(Bytes::copy_from_slice(key.as_bytes())).await?;
    Ok(stored.map(|stored| serde_json::from_slice(&stored)).transpose()?)
}

fn gets(store: &Store, ops: u32) -> Work {
    let (store, keys) = (store.clone(), Arc::new(keys()));
    work(move || {
        let (store, keys) = (store.clone(), Arc::clone(&keys));
        async move {
            for key in keys.iter().cycle().take(ops as usize) {
                black_box(got(&store, key).await?.ok_or("a miss")?);
            }
            Ok(())
        }
    })
}

/// A key that nobody has used.
fn new_key() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("bench:new:{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// As caches are filled everywhere.
fn gets_and_sets(store: &Store, ops: u32) -> Work {
    let store = store.clone();
    work(move || {
        let store = store.clone();
        async move {
            for id in 0..ops {
                let key = new_key();
                if got(&store, &key).await?.is_none() {
                    let product = product(id.into());
                    store.set(key.into(), serde_json::to_vec(&product)?.into(), LIFE).await?;
                    black_box(product);
                }
            }
            Ok(())
        }
    })
}

fn misses(cache: &TieredCache, ops: u32) -> Work {
    let cache = cache.clone();
    work(move || {
        let cache = cache.clone();
        async move {
            for id in 0..ops {
                let source = move || async move { Ok::<_, io::Error>(Some(product(id.into()))) };
                black_box(cache.get_or_load(&new_key(), source).await?);
            }
            Ok(())
        }
    })
}

/// In a process of its own, so that nothing else is counted.
fn bytes_in_child(which: &str) -> Result<u64, Trouble> {
    let output = Command::new(std::env::current_exe()?).arg(which).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

async fn bytes_for_each(which: &str) -> Result<u64, Trouble> {
    let (moka, cache) = (moka(MANY), TieredCache::local(roomy(MANY)));
    let before = resident()?;
    match which {
        "moka" => (0..MANY).for_each(|id| moka.insert(key(id).into(), Arc::new(product(id)))),
        _ => {
            for id in 0..MANY {
                cache.set(&key(id), product(id)).await?;
            }
        }
    }
    moka.run_pending_tasks();
    assert_eq!(moka.entry_count() + cache.stats().local.size.map_or(0, |size| size.entries), MANY, "all are there");
    Ok((resident()? - before) / MANY)
}

/// The memory that this process has in use, in bytes.
fn resident() -> Result<u64, Trouble> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    Ok(kib.ok_or("no VmRSS")?.parse::<u64>()? * 1024)
}

/// How often the source was asked, and how long it took until all had their answer.
async fn stampede(cache: &TieredCache) -> Result<(u64, Duration), Trouble> {
    const READERS: u64 = 10_000;
    let (gate, began) = (Arc::new(Semaphore::new(0)), Instant::now());
    let reader = |_| {
        let (cache, gate) = (cache.clone(), Arc::clone(&gate));
        tokio::spawn(async move {
            // The source answers nobody before all have asked.
            let load = move || async move {
                gate.acquire().await.map_err(io::Error::other)?.forget();
                Ok::<_, io::Error>(Some(product(1)))
            };
            cache.get_or_load("bench:stampede", load).await
        })
    };
    let readers: Vec<_> = (0..READERS).map(reader).collect();
    wait_until("all to have asked", Duration::from_secs(60), || async {
        let asked = cache.stats().local.misses;
        if asked == READERS { Ok(()) } else { Err(format!("{asked} have")) }
    })
    .await;
    gate.add_permits(1);
    for answer in try_join_all(readers).await? {
        answer?.ok_or("no value")?;
    }
    Ok((cache.stats().loads, began.elapsed()))
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn float(bytes: u64) -> f64 {
    bytes as f64
}
