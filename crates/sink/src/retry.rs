//! How long and how often a delivery is tried.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep};

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Pauses between tries, growing and jittered, until a deadline.
#[derive(Debug)]
pub(crate) struct Patience {
    deadline: Instant,
    pauses: ExponentialBackoff,
}

impl Patience {
    pub(crate) fn until(deadline: Instant) -> Self {
        let pauses = ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE).with_jitter().without_max_times();
        Self { deadline, pauses: pauses.build() }
    }

    /// Waits before the next try, or says at once that there is no time for one.
    pub(crate) async fn wait(&mut self) -> bool {
        let pause = self.pauses.next().unwrap_or(LONGEST_PAUSE);
        if Instant::now() + pause >= self.deadline {
            return false;
        }
        sleep(pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tries_are_spread_over_the_budget_and_end_with_it() {
        let start = Instant::now();
        let mut patience = Patience::until(start + Duration::from_secs(10));
        let mut tries = 0;
        while patience.wait().await {
            tries += 1;
        }
        assert!((7..=20).contains(&tries), "{tries} tries");
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(start.elapsed() > Duration::from_secs(7), "gave up after {:?}", start.elapsed());
    }
}
