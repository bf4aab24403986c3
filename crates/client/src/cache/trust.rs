//! Whether the tier in the process can be trusted: as long as somebody vouches that every drop was heard.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::settings::Posture;

/// What a reader may do with the tier in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Use,
    /// Drop everything in it, then use it.
    FlushFirst,
    Bypass,
}

/// Times are milliseconds since `begin`, so that they fit into an atomic.
pub(crate) struct Trust {
    posture: Posture,
    silence: Duration,
    begin: Instant,
    /// Whether anybody listens to notices at all.
    watched: AtomicBool,
    /// Until when what was vouched for holds; 0 if nobody has vouched.
    until: AtomicU64,
    flushed: AtomicU64,
}

impl Trust {
    pub(crate) fn new(posture: Posture, silence: Duration) -> Self {
        let (watched, until, flushed) = Default::default();
        Self { posture, silence, begin: Instant::now(), watched, until, flushed }
    }

    /// From now on notices are expected, and nobody has vouched yet.
    pub(crate) fn watch(&self) {
        self.watched.store(true, Ordering::SeqCst);
    }

    /// Every drop until now was heard.
    pub(crate) fn vouch(&self, now: Instant) {
        self.until.store(self.millis(now + self.silence), Ordering::SeqCst);
    }

    /// From now on drops are not heard.
    pub(crate) fn doubt(&self, now: Instant) {
        self.until.fetch_min(self.millis(now), Ordering::SeqCst);
    }

    /// Since when nobody has vouched any more; `None` while somebody does, or if notices aren't heard at all.
    pub(crate) fn silent_since(&self, now: Instant) -> Option<Instant> {
        if !self.watched.load(Ordering::SeqCst) {
            return None;
        }
        let end = self.begin + Duration::from_millis(self.until.load(Ordering::SeqCst));
        (now >= end).then_some(end)
    }

    pub(crate) fn verdict(&self, now: Instant) -> Verdict {
        if self.posture == Posture::Serve || self.silent_since(now).is_none() {
            return Verdict::Use;
        }
        match self.posture {
            Posture::Flush if self.takes_the_flush(now) => Verdict::FlushFirst,
            Posture::Flush => Verdict::Use,
            Posture::Bypass | Posture::Serve => Verdict::Bypass,
        }
    }

    /// One flush for each stretch of silence: whoever comes first does it.
    fn takes_the_flush(&self, now: Instant) -> bool {
        let (now, last) = (self.millis(now).max(1), self.flushed.load(Ordering::SeqCst));
        let due = last == 0 || Duration::from_millis(now.saturating_sub(last)) > self.silence;
        due && self.flushed.compare_exchange(last, now, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.begin).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(15);

    fn after(trust: &Trust, seconds: u64) -> Instant {
        trust.begin + Duration::from_secs(seconds)
    }

    fn watched(posture: Posture) -> Trust {
        let trust = Trust::new(posture, SILENCE);
        trust.watch();
        trust
    }

    #[test]
    fn a_cache_that_hears_no_notices_trusts_its_lifetimes() {
        let trust = Trust::new(Posture::Bypass, SILENCE);
        assert_eq!(trust.verdict(after(&trust, 100)), Verdict::Use);
    }

    #[test]
    fn bypass_lasts_until_somebody_vouches() {
        let trust = watched(Posture::Bypass);
        assert_eq!(trust.verdict(after(&trust, 0)), Verdict::Bypass, "nobody has yet");
        trust.vouch(after(&trust, 1));
        assert_eq!(trust.verdict(after(&trust, 15)), Verdict::Use);
        assert_eq!(trust.verdict(after(&trust, 16)), Verdict::Bypass);
        assert_eq!(trust.silent_since(after(&trust, 30)), Some(after(&trust, 16)));
        trust.vouch(after(&trust, 30));
        assert_eq!(trust.verdict(after(&trust, 31)), Verdict::Use);
    }

    #[test]
    fn who_says_that_he_is_deaf_is_believed_at_once() {
        let trust = watched(Posture::Bypass);
        trust.doubt(after(&trust, 1));
        assert_eq!(trust.silent_since(after(&trust, 1)), Some(after(&trust, 0)), "nobody had vouched before");
        trust.vouch(after(&trust, 2));
        trust.doubt(after(&trust, 3));
        assert_eq!(trust.verdict(after(&trust, 3)), Verdict::Bypass);
        trust.doubt(after(&trust, 4));
        assert_eq!(trust.silent_since(after(&trust, 5)), Some(after(&trust, 3)), "once more makes it no shorter");
        trust.vouch(after(&trust, 6));
        assert_eq!(trust.verdict(after(&trust, 6)), Verdict::Use);
    }

    #[test]
    fn flush_is_asked_for_once_a_stretch() {
        let trust = watched(Posture::Flush);
        trust.vouch(after(&trust, 1));
        assert_eq!(trust.verdict(after(&trust, 10)), Verdict::Use);
        let verdicts = [20, 21, 34, 36, 37].map(|second| trust.verdict(after(&trust, second)));
        assert_eq!(verdicts, [Verdict::FlushFirst, Verdict::Use, Verdict::Use, Verdict::FlushFirst, Verdict::Use]);
    }

    #[test]
    fn serve_serves() {
        let trust = watched(Posture::Serve);
        assert_eq!(trust.verdict(after(&trust, 1000)), Verdict::Use);
        assert!(trust.silent_since(after(&trust, 1000)).is_some(), "but doesn't hide it");
    }
}
