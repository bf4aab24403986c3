//! What systemd is told, if it started this process with `Type=notify`: that the work has begun, how it goes, that the loop turns, that the end has begun.
//!
//! Judges nothing by itself: readiness and health are the loop's own. Told from a thread, not from a task: a runtime whose threads are all stuck must not
//! look alive, and a socket that nobody empties must not hold up any work.

use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use unstale_pipeline::handle::Handle;
use unstale_pipeline::health::Health;

/// How often it looks at what there is to tell.
const PAUSE: Duration = Duration::from_millis(500);

/// Tells it until the process ends; nothing, if nobody listens.
pub(crate) fn tell(handle: Handle) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let limit = sd_notify::watchdog_enabled();
    let pause = limit.map_or(PAUSE, |limit| PAUSE.min(limit / 4));
    let endless = move || tell_on(&handle, limit.is_some(), pause);
    if let Err(error) = std::thread::Builder::new().name("service".to_owned()).spawn(endless) {
        tracing::error!(%error, "no thread to be had to tell systemd how it goes; it will end this process");
    }
}

/// What could not be told is told again, and complained of once.
fn tell_on(handle: &Handle, is_watched: bool, pause: Duration) {
    let (mut teller, mut is_heard) = (Teller::new(is_watched), true);
    loop {
        let sent = teller.next(&handle.health(), handle.is_alive()).iter().try_for_each(send);
        if let Err(error) = &sent {
            if is_heard {
                complain(error);
            }
            teller = Teller::new(is_watched);
        }
        is_heard = sent.is_ok();
        std::thread::sleep(pause);
    }
}

/// Tells that the end has begun.
pub(crate) fn stopping() {
    if let Err(error) = send(&Message::Stopping) {
        complain(&error);
    }
}

fn send(message: &Message) -> io::Result<()> {
    match message {
        Message::Ready => sd_notify::notify(&[NotifyState::Ready]),
        Message::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        Message::Status(text) => sd_notify::notify(&[NotifyState::Status(text)]),
        Message::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
    }
}

fn complain(error: &io::Error) {
    tracing::warn!(%error, "can't tell systemd how it goes: is the socket that NOTIFY_SOCKET names there?");
}

/// What there is to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Message {
    Ready,
    Alive,
    Status(String),
    Stopping,
}

/// What was told already.
#[derive(Debug)]
struct Teller {
    is_watched: bool,
    was_ready: bool,
    status: String,
}

impl Teller {
    fn new(is_watched: bool) -> Self {
        Self { is_watched, was_ready: false, status: String::new() }
    }

    /// What there is to tell now. The status is told when it changes, so it names reasons without their figures; `unstale health` has those.
    fn next(&mut self, health: &Health, is_alive: bool) -> Vec<Message> {
        let mut messages = Vec::new();
        if health.ready && !self.was_ready {
            self.was_ready = true;
            messages.push(Message::Ready);
        }
        let status = status(health);
        if status != self.status {
            self.status.clone_from(&status);
            messages.push(Message::Status(status));
        }
        if self.is_watched && is_alive {
            messages.push(Message::Alive);
        }
        messages
    }
}

fn status(health: &Health) -> String {
    let mut codes: Vec<&str> = health.reasons.iter().map(|cause| cause.code).collect();
    codes.dedup();
    if codes.is_empty() { health.status.to_string() } else { format!("{}: {}", health.status, codes.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unstale_pipeline::handle::seat;
    use unstale_pipeline::health::Status;
    use unstale_pipeline::stats::{Labels, Stats};

    fn well() -> Health {
        Health { status: Status::Ok, reasons: vec![], ready: true }
    }

    #[test]
    fn it_is_ready_once_and_the_status_is_told_when_it_changes() {
        let mut teller = Teller::new(false);
        assert_eq!(teller.next(&Health::starting(), true), [Message::Status("unhealthy: starting".to_owned())]);
        assert_eq!(teller.next(&Health::starting(), true), []);
        assert_eq!(teller.next(&well(), true), [Message::Ready, Message::Status("ok".to_owned())]);
        let mut slow = well();
        slow.add(Status::Degraded, "ping", "412 ms".to_owned());
        assert_eq!(teller.next(&slow, true), [Message::Status("degraded: ping".to_owned())]);
        slow.reasons[0].detail = "413 ms".to_owned();
        assert_eq!(teller.next(&slow, true), []);
    }

    #[test]
    fn the_watchdog_is_fed_only_while_the_loop_turns() {
        let mut teller = Teller::new(true);
        let stats = Stats::new(Labels::default());
        let (seat, handle) = seat(stats.clone());
        seat.publish(&stats);
        seat.publish_health(well());
        assert!(teller.next(&handle.health(), handle.is_alive()).contains(&Message::Alive));
        drop(seat);
        let told = teller.next(&handle.health(), handle.is_alive());
        assert_eq!(told, [Message::Status("unhealthy: loop_stuck".to_owned())]);
    }
}
