//! Hearing a notice at the moment when it is published, which is when its keys are gone: one script does both.

use std::time::{Duration, Instant};

use unstale_testkit::{Redis, Resp, Value};

/// How long a notice may take to come; none takes a tenth of it.
const LIMIT: Duration = Duration::from_secs(60);

/// A subscription to the notices.
pub struct Ear(Resp);

impl Ear {
    /// Listens from now on.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn open(redis: &Redis) -> Self {
        let mut resp = redis.resp();
        resp.cmd(&["SUBSCRIBE", "unstale:notices"]);
        resp.set_timeout(Some(LIMIT));
        Self(resp)
    }

    /// Waits for a notice that has this text in it, and says when it came.
    ///
    /// # Panics
    /// If none comes for a minute.
    pub fn wait(&mut self, text: &str) -> Instant {
        loop {
            let message = self.0.read().unwrap_or_else(|error| panic!("no notice with {text}: {error}"));
            let now = Instant::now();
            if let [.., Value::Bulk(notice)] = message.array()
                && String::from_utf8_lossy(notice).contains(text)
            {
                return now;
            }
        }
    }
}
