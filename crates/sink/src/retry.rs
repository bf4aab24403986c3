//! How long and how often a delivery is tried.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep_until};

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

    /// When to try next; `None` if there is no time for it.
    pub(crate) fn next(&mut self) -> Option<Instant> {
        let next = Instant::now() + self.pauses.next().unwrap_or(LONGEST_PAUSE);
        (next < self.deadline).then_some(next)
    }

    /// Waits before the next try, or says at once that there is no time for one.
    pub(crate) async fn wait(&mut self) -> bool {
        let next = self.next();
        if let Some(next) = next {
            sleep_until(next).await;
        }
        next.is_some()
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
