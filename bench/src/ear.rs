//! Hearing a notice at the moment when it is published, which is when its keys are gone: one script does both.

use std::time::Instant;

use unstale_testkit::{Redis, Resp, Value};

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
        Self(resp)
    }

    /// Waits for a notice that has this text in it, and says when it came.
    ///
    /// # Panics
    /// If none comes for ten seconds.
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
