//! The race of a slow reader against a delete, each attempt forced, through a real sidecar.

use super::race::{Way, stale};

#[tokio::test(flavor = "multi_thread")]
async fn of_forced_races_fences_lose_none() {
    assert_eq!(stale(Way::Unprotected, 500).await.expect("Redis answers"), 500, "the race is there");
    let stale_still = stale(Way::SecondDelete, 500).await.expect("Redis answers");
    assert!((1..500).contains(&stale_still), "a second delete helps against some readers and not against others: {stale_still} of 500");
    assert_eq!(stale(Way::Fences, 5000).await.expect("Redis answers"), 0);
}
