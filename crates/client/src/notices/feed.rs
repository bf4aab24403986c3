//! From news to caches: what is dropped, and when they may be trusted.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use unstale_events::Notice;

use super::{News, Notices};
use crate::TieredCache;

/// After a break what was missed comes at once, and then a heartbeat, unless there is always something new. After so long what comes is new.
const CATCHING_UP: Duration = Duration::from_secs(1);

/// Whoever holds copies.
pub trait Receiver: Send + Sync + 'static {
    /// News are going to be heard.
    fn begin(&self) {}
    /// Drop what it names.
    fn notice(&self, notice: &Notice);
    /// Drop everything.
    fn flush(&self);
    /// Nothing was missed until now.
    fn vouch(&self) {}
    /// From now on something is missed.
    fn doubt(&self) {}
}

impl Receiver for TieredCache {
    fn begin(&self) {
        self.expect_notices();
    }

    fn notice(&self, notice: &Notice) {
        self.hear(notice);
    }

    fn flush(&self) {
        TieredCache::flush(self);
    }

    fn vouch(&self) {
        TieredCache::vouch(self);
    }

    fn doubt(&self) {
        TieredCache::doubt(self);
    }
}

/// A task that passes news on to caches; dropped, it ends, and the caches go by their posture.
#[derive(Debug)]
pub struct Feed {
    task: JoinHandle<()>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Notices {
    /// Passes everything on to these caches, for as long as the result is kept. Needs a tokio runtime.
    pub fn feed(self, receivers: impl IntoIterator<Item = Arc<dyn Receiver>>) -> Feed {
        let receivers: Vec<_> = receivers.into_iter().collect();
        for receiver in &receivers {
            receiver.begin();
        }
        Feed { task: tokio::spawn(pass_on(self, receivers)) }
    }
}

async fn pass_on(mut notices: Notices, receivers: Vec<Arc<dyn Receiver>>) {
    let mut trust = Trust::default();
    loop {
        let news = notices.next().await;
        for receiver in &receivers {
            match &news {
                News::Notice(notice) => receiver.notice(notice),
                News::Lost => receiver.flush(),
                News::Broken => receiver.doubt(),
                News::Resumed | News::Beat => {}
            }
        }
        if trust.after(&news, Instant::now()) {
            for receiver in &receivers {
                receiver.vouch();
            }
        }
    }
}

/// Whether what has been heard is all that there is.
#[derive(Debug, Default)]
struct Trust {
    resumed: Option<Instant>,
}

impl Trust {
    fn after(&mut self, news: &News, now: Instant) -> bool {
        match news {
            News::Broken => return false,
            News::Lost | News::Beat => self.resumed = None,
            News::Resumed => self.resumed = Some(now),
            News::Notice(_) => self.resumed = self.resumed.filter(|resumed| now.duration_since(*resumed) < CATCHING_UP),
        }
        self.resumed.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_heard_before_anybody_vouches() {
        let (mut trust, now) = (Trust::default(), Instant::now());
        let notice = News::Notice(Box::default());
        let seconds = Duration::from_secs;
        assert!(trust.after(&News::Lost, now), "what is read from now on is new");
        assert!(trust.after(&notice, now));
        assert!(!trust.after(&News::Resumed, now));
        assert!(!trust.after(&notice, now));
        assert!(trust.after(&News::Beat, now));
        assert!(trust.after(&notice, now));
        assert!(!trust.after(&News::Resumed, now));
        assert!(trust.after(&notice, now + seconds(1)), "there is always something new");
        assert!(!trust.after(&News::Broken, now + seconds(2)));
    }
}
