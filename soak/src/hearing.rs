//! How an instance hears notices: from the channel, and from the log whenever the channel may have missed one. Follows `docs/notices.md` to
//! the letter, sharing no code with the product.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use unstale_testkit::Resp;

use crate::client::{Client, Failure};
use crate::instance::Instance;
use crate::notice::{Dropped, NOTICES, Notice, PAGE, Position};
use crate::world::{World, count};

/// After so long without a message the log is looked at.
const SILENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether the run is over or the servers have changed places.
const TURN: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(100);

/// Hears for one instance until the run is over.
pub fn run(world: &Arc<World>, instance: &Arc<Instance>) {
    let mut hearing = Hearing { world: Arc::clone(world), instance: Arc::clone(instance), log: world.client(), at: Position::default() };
    let mut begun = false;
    while !world.is_over() {
        if hearing.listen(&mut begun).is_err() {
            thread::sleep(PAUSE);
        }
    }
}

struct Hearing {
    world: Arc<World>,
    instance: Arc<Instance>,
    log: Client,
    at: Position,
}

impl Hearing {
    /// Subscribes, catches up, and hears until the connection fails or the servers change places.
    fn listen(&mut self, begun: &mut bool) -> Result<(), Failure> {
        let epoch = self.world.route.epoch();
        self.instance.moved(epoch);
        self.log.forget();
        let mut channel = self.subscribe()?;
        if *begun {
            self.catch_up()?;
        } else {
            self.begin()?;
            self.instance.flush();
            *begun = true;
        }
        let mut heard = Instant::now();
        while !self.world.is_over() && self.world.route.epoch() == epoch {
            match channel.read() {
                Ok(message) => {
                    heard = Instant::now();
                    self.hear(&message.array()[2].text())?;
                }
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                    if heard.elapsed() > SILENCE {
                        heard = Instant::now();
                        self.catch_up()?;
                    }
                }
                Err(error) => return Err(Failure::Unknown(error.to_string())),
            }
        }
        Ok(())
    }

    fn subscribe(&self) -> Result<Resp, Failure> {
        let failed = |error: std::io::Error| Failure::Unknown(error.to_string());
        let server: SocketAddr = self.world.route.owner(NOTICES).ok_or_else(|| Failure::Refused("nobody has the log".to_owned()))?;
        let mut channel = Resp::tcp(server).map_err(failed)?;
        channel.set_timeout(Some(Duration::from_secs(5)));
        channel.try_cmd(&["SUBSCRIBE", NOTICES]).map_err(|error| Failure::Unknown(error.to_string()))?;
        channel.set_timeout(Some(TURN));
        Ok(channel)
    }

    /// The cache is empty, so that what was before doesn't matter.
    fn begin(&mut self) -> Result<(), Failure> {
        let newest = self.log.cmd(NOTICES, &["XREVRANGE", NOTICES, "+", "-", "COUNT", "1"])?;
        let newest = newest.array().first().and_then(|entry| Notice::of_entry(entry, &self.world.oracle.model));
        self.at = newest.map(|notice| notice.position).unwrap_or_default();
        self.instance.heard(self.at.seq);
        Ok(())
    }

    fn hear(&mut self, message: &str) -> Result<(), Failure> {
        match Notice::of_message(message, &self.world.oracle.model) {
            Some(notice) if notice.follows(&self.at) => self.apply(&notice),
            Some(notice) if notice.position.key() <= self.at.key() => count(&self.world.counts.repeated),
            _ => {
                count(&self.world.counts.gaps);
                self.catch_up()?;
            }
        }
        Ok(())
    }

    /// Reads the log from the own position to its end.
    fn catch_up(&mut self) -> Result<(), Failure> {
        loop {
            let known = usize::from(self.at.seq > 0);
            let from = if known == 1 { self.at.id.as_str() } else { "-" };
            let page = self.log.cmd(NOTICES, &["XRANGE", NOTICES, from, "+", "COUNT", &PAGE.to_string()])?;
            let page: Vec<Option<Notice>> = page.array().iter().map(|entry| Notice::of_entry(entry, &self.world.oracle.model)).collect();
            let is_there = known == 0 || page.first().and_then(Option::as_ref).is_some_and(|first| first.position == self.at);
            if !is_there || !page.iter().skip(known).all(|notice| self.follow(notice.as_ref())) {
                return self.start_over();
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Applies a notice of the log; `false` if it doesn't follow the one before.
    fn follow(&mut self, notice: Option<&Notice>) -> bool {
        let Some(notice) = notice.filter(|notice| notice.follows(&self.at)) else { return false };
        self.apply(notice);
        true
    }

    fn start_over(&mut self) -> Result<(), Failure> {
        count(&self.world.counts.starts_over);
        if !self.world.calendar.may_have_lost() {
            self.world.oracle.broken(format!("instance {} lost its position {:?} in the log", self.instance.number, self.at));
        }
        // In this order, as the documentation says: what is stored after the flush is dropped by notices after the position.
        self.begin()?;
        self.instance.flush();
        Ok(())
    }

    fn apply(&mut self, notice: &Notice) {
        match &notice.drop {
            Dropped::Rows(rows) => self.instance.drop_rows(rows),
            Dropped::Everything => self.instance.flush(),
        }
        self.at = notice.position.clone();
        self.instance.heard(self.at.seq);
    }
}
