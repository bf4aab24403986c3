//! The tier in Redis: looking up, and storing behind fences, each step one command or one script on one key.
//!
//! A fence is a random token under the key itself, set where nothing stands before the value is fetched. The fetched value is stored only where the
//! fence still stands. Every delete of the key, by whomever, removes the fence with it, so what was fetched before a delete finds none. Nobody but the
//! readers and writers of the value has to know about fences.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join;
use unstale_connect::{Fault, Link, Script, Store};

use super::SharedHealth;
use super::form::{self, Fence, Found, Look, Purpose};
use super::stats::Size;

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("claim.lua")));
static HOLD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("hold.lua")));
static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("settle.lua")));

/// What becomes of a key whose fence is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Otherwise {
    /// Whatever stands there is newer.
    Keep,
    /// Whatever stands there may be older.
    Remove,
}

pub(crate) struct Shared {
    store: Store,
    /// How long a fence stands.
    fence_life: Duration,
    /// As it was last seen.
    size: Mutex<Option<Size>>,
}

impl Shared {
    pub(crate) fn new(store: Store, fence_life: Duration) -> Self {
        Self { store, fence_life, size: Mutex::default() }
    }

    /// What Redis held when its health was last asked for.
    pub(crate) fn size(&self) -> Option<Size> {
        *self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn health(&self) -> SharedHealth {
        let down = match &*self.store.link().borrow() {
            Link::Down { why, .. } => Some(why.clone()),
            Link::Up { .. } => None,
        };
        let asked = match down {
            Some(why) => Err(why),
            None => try_join(self.store.ping(), self.store.holdings()).await,
        };
        let (ping, size, trouble) = match asked {
            Ok((ping, held)) => (Some(ping), held.keys.map(|entries| Size { entries, bytes: held.memory }), None),
            Err(fault) => (None, None, Some(fault)),
        };
        *self.size.lock().unwrap_or_else(PoisonError::into_inner) = size;
        SharedHealth { ping, size, trouble }
    }

    /// What stands under a key, if anything.
    pub(crate) async fn look(&self, key: &str) -> Result<Option<Look>, Fault> {
        Ok(self.store.get(owned(key)).await?.as_ref().map(form::read))
    }

    /// The same, with how long it has yet to live.
    pub(crate) async fn look_at_life(&self, key: &str) -> Result<(Option<Look>, Option<Duration>), Fault> {
        let (look, life) = futures_util::try_join!(self.look(key), self.store.pttl(owned(key)))?;
        Ok((look, life))
    }

    /// What stands under a key; a fence of one's own if nothing did. What can't be read is deleted first.
    pub(crate) async fn claim(&self, key: &str) -> Result<Look, Fault> {
        let look = self.claim_once(key).await?;
        if look.found != Found::Unreadable {
            return Ok(look);
        }
        self.remove(key).await?;
        self.claim_once(key).await
    }

    async fn claim_once(&self, key: &str) -> Result<Look, Fault> {
        let args = vec![Fence::new(Purpose::Fetch).bytes(), millis(self.fence_life)];
        let held = self.store.eval(&CLAIM, owned(key), args).await?;
        Ok(form::read(&held.bytes()?))
    }

    /// A fence around the value that stands there, unless one does already.
    pub(crate) async fn hold(&self, key: &str) -> Result<Option<Fence>, Fault> {
        let fence = Fence::new(Purpose::Refresh);
        let held = self.store.eval(&HOLD, owned(key), vec![fence.bytes()]).await?.int()? == 1;
        Ok(held.then_some(fence))
    }

    /// A writer's fence in place of whatever stands there.
    pub(crate) async fn close(&self, key: &str) -> Result<Fence, Fault> {
        let fence = Fence::new(Purpose::Write);
        self.store.set(owned(key), fence.bytes(), self.fence_life).await?;
        Ok(fence)
    }

    /// A writer's fence with the value that will be written.
    pub(crate) async fn close_with(&self, key: &str, stored: &Bytes, life: Duration) -> Result<Fence, Fault> {
        let fence = Fence::new(Purpose::WriteLater);
        self.store.set(owned(key), fence.holding(stored), life).await?;
        Ok(fence)
    }

    /// Stores what was fetched or written, or nothing, if the fence still stands. Says whether it does.
    pub(crate) async fn settle(
        &self,
        key: &str,
        fence: &Fence,
        stored: Option<(Bytes, Duration)>,
        otherwise: Otherwise,
    ) -> Result<bool, Fault> {
        let (stored, life) = stored.map_or((Bytes::new(), Bytes::from_static(b"0")), |(stored, life)| (stored, millis(life)));
        let otherwise = if otherwise == Otherwise::Remove { "remove" } else { "keep" };
        let args = vec![fence.bytes(), stored, life, Bytes::from_static(otherwise.as_bytes())];
        Ok(self.store.eval(&SETTLE, owned(key), args).await?.int()? == 1)
    }

    /// Stores a value whatever stands there.
    pub(crate) async fn set(&self, key: &str, stored: Bytes, life: Duration) -> Result<(), Fault> {
        self.store.set(owned(key), stored, life).await
    }

    /// Deletes a key, its fence with it. Says whether there was one.
    pub(crate) async fn remove(&self, key: &str) -> Result<bool, Fault> {
        let answers = self.store.unlink(vec![owned(key)]).await;
        Ok(answers.into_iter().map(|answer| answer.outcome).sum::<Result<u64, _>>()? > 0)
    }
}

fn owned(key: &str) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

fn millis(life: Duration) -> Bytes {
    Bytes::from(life.as_millis().max(1).to_string())
}
