//! For tests that aren't async, of what is: a runtime beside them.

use tokio::runtime::{Builder, Runtime};

/// A runtime whose tasks go on beside the test, until it is dropped.
///
/// # Panics
/// If the system lets no threads be made.
pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be made")
}

/// Waits for a future as for any other call.
///
/// # Panics
/// As [`runtime`].
pub fn now<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}
