//! The notices of the log in Redis itself, followed for ever.

use std::time::Duration;
use std::vec::IntoIter;

use tokio::time::sleep;
use unstale_connect::{Fault, Place, Role, Site};
use unstale_events::Notice;
use unstale_notices::{Course, Follower, IDLE, Told};

use super::{News, Step};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Log {
    follower: Follower,
    state: State,
    /// What was read and not told yet.
    read: IntoIter<Told>,
}

/// Whether the log could be read when that was last tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    Broken,
}

impl Log {
    pub(super) fn new(site: &Site, namespace: &str) -> Result<Self, Fault> {
        let key = format!("{namespace}:notices");
        let client = site.client(Place::Key(&key), Role::Reader { block: IDLE }, "unstale-notices")?;
        let follower = Follower::waiting(unstale_notices::Log::new(client, &key), Course::begin());
        // Nothing has been heard yet that could break.
        Ok(Self { follower, state: State::Broken, read: Vec::new().into_iter() })
    }

    /// Cancel-safe: what was not told is told the next time.
    pub(super) async fn step(&mut self) -> Step {
        if let Some(told) = self.read.next() {
            return Step::News(news(&told));
        }
        let was = self.state;
        match self.follower.next().await {
            Ok(unstale_notices::News::Told(told)) => {
                self.read = told.into_iter();
                Step::On
            }
            Ok(unstale_notices::News::Began(_)) => {
                self.state = State::Whole;
                Step::News(News::Lost)
            }
            Ok(unstale_notices::News::Intact) => {
                self.state = State::Whole;
                Step::News(if was == State::Broken { News::Resumed } else { News::Beat })
            }
            Err(fault) => {
                tracing::debug!(kind = fault.kind.name(), text = fault.text, "the notice log can't be read");
                self.state = State::Broken;
                if was == State::Whole {
                    return Step::Broke;
                }
                sleep(PAUSE).await;
                Step::On
            }
        }
    }
}

fn news(told: &Told) -> News {
    if told.is_gap {
        return News::Lost;
    }
    Notice::from_json(&told.json).map_or(News::Lost, |notice| News::Notice(Box::new(notice)))
}
