//! Hearing what was dropped: from the sidecar next door by HTTP, or from the log in Redis. The same news either way, and nothing is ever missed silently.

mod events;
mod feed;
mod log;
mod sidecar;

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use unstale_connect::{Fault, Site};
use unstale_events::Notice;

pub use self::feed::{Feed, Receiver};
pub use self::sidecar::BadAddress;

use self::log::Log;
use self::sidecar::Sidecar;

/// A break that is over sooner isn't worth a word: what came meanwhile follows.
const BREAK: Duration = Duration::from_secs(1);

/// What there is to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Drop what it names.
    Notice(Box<Notice>),
    /// Drop everything: this is the beginning, or nobody can say what was missed.
    Lost,
    /// The connection ended a second ago and isn't back: something may be missed from now on, until [`News::Resumed`] or [`News::Lost`].
    Broken,
    /// There was a break. Nothing is missed: what came meanwhile follows now.
    Resumed,
    /// Nothing was missed until now.
    Beat,
}

/// News without end, and without gaps: connections are made again, from the position of the last news.
pub struct Notices {
    source: Source,
    /// When the break that is on will be told.
    overdue: Option<Instant>,
}

enum Source {
    Sidecar(Box<Sidecar>),
    Log(Box<Log>),
}

/// What a source comes to.
enum Step {
    News(News),
    /// Its connection, which stood, has ended. It makes another when it is asked again.
    Broke,
    /// Nothing yet.
    On,
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.source {
            Source::Sidecar(_) => "Notices from a sidecar",
            Source::Log(_) => "Notices from the log",
        })
    }
}

impl Notices {
    /// From a sidecar, by its address such as `http://127.0.0.1:7863`. Begins to connect when it is first asked.
    ///
    /// # Errors
    /// If that is no address.
    pub fn of_sidecar(address: &str) -> Result<Self, BadAddress> {
        Ok(Self { source: Source::Sidecar(Box::new(Sidecar::new(address)?)), overdue: None })
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
        Ok(Self { source: Source::Log(Box::new(Log::new(site, namespace)?)), overdue: None })
    }

    /// The next news. Cancel-safe. The first is [`News::Lost`].
    pub async fn next(&mut self) -> News {
        loop {
            let step = match self.overdue {
                Some(at) => timeout_at(at, self.source.step()).await,
                None => Ok(self.source.step().await),
            };
            match step {
                Ok(Step::News(news)) => {
                    self.overdue = None;
                    return news;
                }
                Ok(Step::Broke) => drop(self.overdue.get_or_insert_with(|| Instant::now() + BREAK)),
                Ok(Step::On) => {}
                Err(_) => {
                    self.overdue = None;
                    return News::Broken;
                }
            }
        }
    }
}

impl Source {
    /// Cancel-safe.
    async fn step(&mut self) -> Step {
        match self {
            Self::Sidecar(sidecar) => sidecar.step().await,
            Self::Log(log) => log.step().await,
        }
    }
}
