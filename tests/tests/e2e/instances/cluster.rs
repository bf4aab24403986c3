//! The fourth system: entities, lists and counts in both tiers, on a cluster of three masters, two of which die one after the other with fetches under way.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use unstale_client::{Entities, Feed, Notices, Publisher, PublisherSettings, Settings, Site, TieredCache};
use unstale_testkit::{Cluster, slot_of, wait_until};
use unstale_tests::{Bus, PATIENCE, Setup, Sidecar};

use super::trusted;

const PREFIX: &str = "atp:cache:";
const NAMESPACE: &str = "{unstale}";
/// Enough for each master to have some.
const USERS: u64 = 24;
/// So many of them, from the first, are being fetched while the master dies.
const SLOW: u64 = 12;
/// How often everything is compared in the end.
const ROUNDS: usize = 20;

type Users = Entities<u64>;

/// A version for each user; a list of all is their versions, and a count the sum.
#[derive(Clone)]
struct Database(Arc<Vec<AtomicU64>>);

impl Database {
    fn user(&self, id: u64) -> u64 {
        self.0[usize::try_from(id).expect("a small number")].load(Ordering::SeqCst)
    }

    fn all(&self) -> Vec<u64> {
        (0..USERS).map(|id| self.user(id)).collect()
    }

    fn commit(&self) {
        for version in self.0.iter() {
            version.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Two instances with a sidecar each, all of whose Redis is the cluster.
struct Stage {
    cluster: Cluster,
    sidecars: Vec<Sidecar>,
    caches: Vec<TieredCache>,
    users: Vec<Users>,
    database: Database,
    publisher: Publisher,
    _feeds: Vec<Feed>,
}

impl Stage {
    async fn start() -> Self {
        let cluster = Cluster::start(3, 1).await;
        let mut bus = bus(&cluster);
        let sidecar = |_| {
            let mut sidecar = Setup::at(cluster.url()).preset("entity-repository").namespace(NAMESPACE).spawn();
            sidecar.ready(&mut bus);
            sidecar
        };
        let sidecars: Vec<_> = (0..2).map(sidecar).collect();
        // A fence outlives a failover.
        let settings = Settings { fence_life: Duration::from_secs(60), ..Settings::default() };
        let cache = |_| TieredCache::connect(&cluster.url(), settings.clone()).expect("a URL");
        let caches: Vec<_> = sidecars.iter().map(cache).collect();
        let hear = |(cache, sidecar): (&TieredCache, &Sidecar)| {
            Notices::of_sidecar(&sidecar.http()).expect("an address").feed([Arc::new(cache.clone()) as _])
        };
        let feeds = caches.iter().zip(&sidecars).map(hear).collect();
        let users = caches.iter().map(|cache| Users::new(cache, PREFIX, "user")).collect();
        let settings = PublisherSettings { namespace: NAMESPACE.to_owned(), patience: PATIENCE * 2, ..PublisherSettings::default() };
        let site = Site::open(&cluster.url().parse().expect("a URL")).expect("no files");
        let publisher = Publisher::over(&site, settings, None).expect("no files");
        let database = Database(Arc::new((0..USERS).map(|_| AtomicU64::new(0)).collect()));
        join_all(caches.iter().map(trusted)).await;
        Self { cluster, sidecars, caches, users, database, publisher, _feeds: feeds }
    }

    /// What an instance serves of a user, of the list and of the count, and what the database has; an error if they differ.
    async fn compare(&self, users: &Users) -> Result<(), String> {
        for id in 0..USERS {
            let (database, wanted) = (self.database.clone(), self.database.user(id));
            let served = users.get_or_load(id, move || at_once(Some(database.user(id)))).await.expect("no source fails");
            same(&users.key(id), served.as_deref(), &wanted)?;
        }
        let (list, count) = (self.database.clone(), self.database.clone());
        let listed = users.list("all", move || at_once(list.all())).await.expect("no source fails");
        same("the list", Some(&*listed), &self.database.all())?;
        let counted = users.count("all", move || at_once(count.all().iter().sum())).await.expect("no source fails");
        same("the count", Some(&counted), &self.database.all().iter().sum())
    }

    /// The same of Redis: whatever is there is a value as it is now.
    fn compare_shared(&self) -> Result<(), String> {
        let users = &self.users[0];
        let stored = |key: &str, wanted: String| {
            let held = self.cluster.cmd(key, &["GET", key]);
            if held.is_nil() { Ok(()) } else { same(key, Some(&held.text()), &wanted) }
        };
        (0..USERS).try_for_each(|id| stored(&users.key(id), self.database.user(id).to_string()))?;
        let all = self.database.all();
        stored(&users.list_key("all"), format!("{all:?}").replace(' ', ""))?;
        stored(&users.count_key("all"), all.iter().sum::<u64>().to_string())
    }

    async fn agree(&self) -> Result<(), String> {
        for users in &self.users {
            self.compare(users).await?;
        }
        self.compare_shared()
    }

    /// Begins to fetch what the first instance hasn't got, and the list on the other; returns when all have read the database and none has stored.
    async fn begin_fetches(&self) -> Fetches {
        let (go, has_read) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (first, second) = (&self.users[0], &self.users[1]);
        let keys = (0..SLOW).map(|id| first.key(id)).chain([first.list_key("all")]);
        for key in keys {
            self.cluster.cmd(&key, &["UNLINK", &key]);
            self.caches.iter().for_each(|cache| cache.drop_key(&key));
        }
        let mut answers = Vec::new();
        for id in 0..SLOW {
            let (users, load) = (first.clone(), slow(self.database.user(id), &has_read, &go));
            let load = move || async move { load().await.map(Some) };
            answers.push(tokio::spawn(async move { users.get_or_load(id, load).await.map(drop).expect("no source fails") }));
        }
        let (users, load) = (second.clone(), slow(self.database.all(), &has_read, &go));
        answers.push(tokio::spawn(async move { users.list("all", load).await.map(drop).expect("no source fails") }));
        has_read.acquire_many(u32::try_from(answers.len()).expect("few")).await.expect("it isn't closed").forget();
        Fetches { go, answers }
    }

    /// The master that has this key dies while fetches are under way, and everything changes before another takes over.
    async fn lose_master_of(&mut self, key: &str) {
        let fetches = self.begin_fetches().await;
        let lost = self.cluster.owner_of(key);
        self.cluster.node_mut(lost).kill();
        self.database.commit();
        let (publisher, users) = (self.publisher.clone(), self.users[0].clone());
        let sending = tokio::spawn(async move { try_join_all((0..USERS).map(|id| publisher.send(users.updated(id)))).await });
        fetches.go.add_permits(fetches.answers.len() / 2);
        self.cluster.replaced(lost, slot_of(key)).await;
        fetches.end().await;
        sending.await.expect("no panic").expect("all are published");
        bus(&self.cluster).wait_done();
        wait_until("both tiers of both instances to have what the database has", PATIENCE * 2, || self.agree()).await;
        for _ in 0..ROUNDS {
            self.agree().await.expect("nothing stale comes back");
            self.caches.iter().for_each(TieredCache::flush);
        }
    }
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(what: &str, found: Option<&T>, wanted: &T) -> Result<(), String> {
    if found == Some(wanted) { Ok(()) } else { Err(format!("{what} is {found:?}, and {wanted:?} in the database")) }
}

fn at_once<T>(value: T) -> std::future::Ready<io::Result<T>> {
    std::future::ready(Ok(value))
}

/// A source that has read this value, says so, and waits before it tells it.
fn slow<T: Send + 'static>(value: T, has_read: &Arc<Semaphore>, go: &Arc<Semaphore>) -> impl FnOnce() -> SlowAnswer<T> + Send + use<T> {
    let (has_read, go) = (Arc::clone(has_read), Arc::clone(go));
    move || {
        Box::pin(async move {
            has_read.add_permits(1);
            go.acquire().await.expect("it isn't closed").forget();
            Ok(value)
        })
    }
}

type SlowAnswer<T> = std::pin::Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Fetches that have read the database and wait to be let go.
struct Fetches {
    go: Arc<Semaphore>,
    answers: Vec<JoinHandle<()>>,
}

impl Fetches {
    async fn end(self) {
        self.go.add_permits(self.answers.len());
        try_join_all(self.answers).await.expect("no fetch panics");
    }
}

/// The streams, on the node that has them now.
fn bus(cluster: &Cluster) -> Bus {
    let owner = cluster.owner_of(format!("{NAMESPACE}:events"));
    Bus::new(cluster.node(owner)).in_namespace(NAMESPACE)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_tiers_agree_after_each_failover_whatever_was_being_fetched() {
    let mut stage = Stage::start().await;
    stage.agree().await.expect("everything is read for the first time");
    let streams = slot_of(format!("{NAMESPACE}:events"));
    let of_streams = stage.cluster.owner(streams);
    let elsewhere = (0..SLOW).map(|id| stage.users[0].key(id)).find(|key| stage.cluster.owner_of(key) != of_streams);
    stage.lose_master_of(&elsewhere.expect("keys are spread over all masters")).await;
    stage.lose_master_of(&format!("{NAMESPACE}:events")).await;
    assert!(stage.sidecars.iter_mut().all(|sidecar| sidecar.ended().is_none()));
}
