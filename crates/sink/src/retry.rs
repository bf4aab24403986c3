//! How long and how often a delivery is tried.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use unstale_connect::Link;

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

    /// Waits before the next try, or says at once that there is no time for one. A connection of these that was down and is up again ends
    /// the wait: after a long outage the pauses are long.
    pub(crate) async fn wait(&mut self, links: impl IntoIterator<Item = watch::Receiver<Link>>) -> bool {
        let Some(next) = self.next() else { return false };
        let down = links.into_iter().filter(|link| !link.borrow().is_up());
        let mut back: FuturesUnordered<_> = down.map(|mut link| async move { link.wait_for(Link::is_up).await.map(drop) }).collect();
        tokio::select! {
            () = sleep_until(next) => {}
            Some(Ok(())) = back.next() => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use unstale_connect::{Fault, FaultKind};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tries_are_spread_over_the_budget_and_end_with_it() {
        let start = Instant::now();
        let mut patience = Patience::until(start + Duration::from_secs(10));
        let mut tries = 0;
        while patience.wait([]).await {
            tries += 1;
        }
        assert!((7..=20).contains(&tries), "{tries} tries");
        assert!(start.elapsed() < Duration::from_secs(10));
        assert!(start.elapsed() > Duration::from_secs(7), "gave up after {:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_up_again_ends_the_pause_and_one_that_was_up_does_not() {
        let up = || Link::Up { generation: 1, server: 1, process: None };
        let down = Link::Down { since: std::time::Instant::now(), why: Fault::new(FaultKind::Unreachable, "gone") };
        let (good, bad) = (watch::Sender::new(up()), watch::Sender::new(down));
        let mut patience = Patience::until(Instant::now() + Duration::from_secs(3600));
        while patience.next().is_none_or(|next| next < Instant::now() + LONGEST_PAUSE) {}
        let begun = Instant::now();
        let (went_on, ()) = tokio::join!(patience.wait([good.subscribe(), bad.subscribe()]), async {
            sleep_until(begun + Duration::from_millis(10)).await;
            good.send_replace(up());
            sleep_until(begun + Duration::from_millis(20)).await;
            bad.send_replace(up());
        });
        assert!(went_on);
        assert_eq!(begun.elapsed(), Duration::from_millis(20));
    }
}
