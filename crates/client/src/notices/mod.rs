//! Hearing what was dropped: from the sidecar next door by HTTP, or from the log in Redis. The same news either way, and nothing is ever missed silently.

mod events;
mod feed;
mod sidecar;

use std::fmt;
use std::time::Duration;

use unstale_connect::{Fault, Place, Role, Site};
use unstale_events::Notice;
use unstale_notices::{Course, Follower, IDLE, Log};

pub use self::feed::{Feed, Receiver};
pub use self::sidecar::BadAddress;

use self::sidecar::Sidecar;

/// What there is to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Drop what it names.
    Notice(Box<Notice>),
    /// Drop everything: this is the beginning, or nobody can say what was missed.
    Lost,
    /// There was a break. Nothing is missed: what came meanwhile follows now.
    Resumed,
    /// Nothing was missed until now.
    Beat,
}

/// News without end, and without gaps: connections are made again, from the position of the last news.
pub struct Notices {
    source: Source,
}

enum Source {
    Sidecar(Box<Sidecar>),
    Log { follower: Box<Follower>, broken: bool, waiting: std::vec::IntoIter<unstale_notices::Told> },
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.source {
            Source::Sidecar(_) => "Notices from a sidecar",
            Source::Log { .. } => "Notices from the log",
        })
    }
}

impl Notices {
    /// From a sidecar, by its address such as `http://127.0.0.1:7863`. Begins to connect when it is first asked.
    ///
    /// # Errors
    /// If that is no address.
    pub fn of_sidecar(address: &str) -> Result<Self, BadAddress> {
        Ok(Self { source: Source::Sidecar(Box::new(Sidecar::new(address)?)) })
    }

    /// With the token that a sidecar asks for which listens beyond its own machine. The log needs none.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        if let Source::Sidecar(sidecar) = &mut self.source {
            sidecar.set_token(token);
        }
        self
    }

    /// From the log in Redis, on a connection of its own. Needs a tokio runtime.
    ///
    /// # Errors
    /// If a file for TLS can't be used.
    pub fn of_log(site: &Site, namespace: &str) -> Result<Self, Fault> {
        let key = format!("{namespace}:notices");
        let client = site.client(Place::Key(&key), Role::Reader { block: IDLE }, "unstale-notices")?;
        let follower = Box::new(Follower::waiting(Log::new(client, &key), Course::begin()));
        Ok(Self { source: Source::Log { follower, broken: false, waiting: Vec::new().into_iter() } })
    }

    /// The next news. Cancel-safe. The first is [`News::Lost`].
    pub async fn next(&mut self) -> News {
        match &mut self.source {
            Source::Sidecar(sidecar) => sidecar.next().await,
            Source::Log { follower, broken, waiting } => loop {
                if let Some(told) = waiting.next() {
                    return of_log(&told);
                }
                match follower.next().await {
                    Ok(unstale_notices::News::Began(_)) => return News::Lost,
                    Ok(unstale_notices::News::Intact) if std::mem::take(broken) => return News::Resumed,
                    Ok(unstale_notices::News::Intact) => return News::Beat,
                    Ok(unstale_notices::News::Told(told)) => *waiting = told.into_iter(),
                    Err(fault) => {
                        tracing::debug!(kind = fault.kind.name(), text = fault.text, "the notice log can't be read");
                        *broken = true;
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            },
        }
    }
}

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

fn of_log(told: &unstale_notices::Told) -> News {
    if told.is_gap {
        return News::Lost;
    }
    Notice::from_json(&told.json).map_or(News::Lost, |notice| News::Notice(Box::new(notice)))
}
