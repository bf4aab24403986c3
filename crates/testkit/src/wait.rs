//! Waiting for a state instead of sleeping: the timeout's message is the last state seen.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(5);

/// Asks `state` again and again until it is `Ok`, and returns that.
///
/// # Panics
/// When `timeout` has passed, with `what` was waited for and the last `Err` that `state` gave.
#[track_caller]
pub fn wait_until<T, F, S>(what: &str, timeout: Duration, mut state: S) -> impl Future<Output = T>
where
    S: FnMut() -> F,
    F: Future<Output = Result<T, String>>,
{
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + timeout;
        loop {
            match state().await {
                Ok(value) => return value,
                Err(last) => assert!(Instant::now() < deadline, "{caller}: waited {timeout:?} for {what}; last state: {last}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The same for tests without a runtime.
///
/// # Panics
/// As [`wait_until`].
#[track_caller]
pub fn wait_until_sync<T>(what: &str, timeout: Duration, mut state: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        match state() {
            Ok(value) => return value,
            Err(last) => assert!(Instant::now() < deadline, "waited {timeout:?} for {what}; last state: {last}"),
        }
        std::thread::sleep(PAUSE);
    }
}
