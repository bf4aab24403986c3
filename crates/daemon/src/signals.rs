//! When to stop: the first SIGTERM or SIGINT asks for a drain, the second ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the process. Made before anything else begins, so that none is missed.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal and returns its name. Cancel-safe.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Lets the second signal end the process at once, with the exit code that shells give to a killed process.
    pub fn exit_on_next(mut self) {
        tokio::spawn(async move {
            let name = self.next().await;
            tracing::warn!(signal = name, "second signal: ending at once, what is in flight stays pending");
            std::process::exit(if name == "SIGTERM" { 143 } else { 130 });
        });
    }
}
