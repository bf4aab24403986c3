//! Knowing which server is the master of a name: each sentinel tells of a switch at once on one connection, and is asked on another, then
//! and every second, for what is told on a channel may get lost. (One connection could do both in RESP3, but the client library's greeting
//! of that protocol breaks on passwords with quotes.)
//!
//! A sentinel may be behind. So the one is believed that has seen the newest epoch. And for a while after a switch the old master goes on
//! taking writes that will be thrown away; only the word of the sentinels tells.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio::try_join;

use crate::fault::{Fault, FaultKind};
use crate::link::{Address, Connection, Plan};
use crate::server::Host;
use crate::wire::{Command, Reply};

/// How often a sentinel is asked if it says nothing by itself.
const PERIOD: Duration = Duration::from_secs(1);
/// It is not asked more often than this, whoever doubts.
const SHORTEST: Duration = Duration::from_millis(50);
/// How long to wait before a sentinel that can't be reached is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// The channel on which a sentinel tells of a new master.
const SWITCHES: &str = "+switch-master";

/// What one sentinel says: the epoch, and the master.
type Report = Result<(u64, Host), Fault>;

/// What is known of the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing yet: the sentinels are being asked.
    Nothing,
    /// Where it is, or was when a sentinel could last be asked.
    Master(Host),
    /// Nothing, and why.
    Trouble(Fault),
}

/// The sentinels of one master.
#[derive(Debug)]
pub(crate) struct Sentinels {
    master: String,
    hosts: Vec<Host>,
    /// By sentinel; none before its first answer.
    reports: Mutex<Vec<Option<Report>>>,
    known: watch::Sender<Known>,
    doubts: watch::Sender<u64>,
}

impl Sentinels {
    pub(crate) fn new(hosts: Vec<Host>, master: String) -> Self {
        let reports = Mutex::new(vec![None; hosts.len()]);
        Self { master, hosts, reports, known: watch::Sender::new(Known::Nothing), doubts: watch::Sender::new(0) }
    }

    /// What is known, as it changes.
    pub(crate) fn known(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// Has the sentinels asked soon.
    pub(crate) fn doubt(&self) {
        self.doubts.send_modify(|doubts| *doubts += 1);
    }

    /// Keeps it up to date for ever.
    pub(crate) async fn watch(self: Arc<Self>, plan: Arc<Plan>) {
        join_all((0..self.hosts.len()).map(|index| self.follow(index, &plan))).await;
    }

    async fn follow(&self, index: usize, plan: &Arc<Plan>) {
        loop {
            let Err(fault) = Box::pin(self.listen(index, plan)).await;
            let text = format!("{}: {}", self.hosts[index], fault.text);
            tracing::debug!(kind = fault.kind.name(), text, "a sentinel can't be asked");
            self.report(index, Err(Fault::new(fault.kind, text)));
            sleep(PAUSE).await;
        }
    }

    /// Asks one sentinel again and again, until it fails.
    async fn listen(&self, index: usize, plan: &Arc<Plan>) -> Result<std::convert::Infallible, Fault> {
        let address = Address::Tcp(self.hosts[index].clone());
        let (asking, hearing) = try_join!(Connection::open_in_time(plan, &address), Connection::open_in_time(plan, &address))?;
        let mut doubts = self.doubts.subscribe();
        let limit = plan.connection.connection_timeout;
        let late = |_| Fault::new(FaultKind::Timeout, format!("no answer within {limit:?}"));
        let mut messages = timeout(limit, hearing.subscribe(SWITCHES)).await.map_err(late)??;
        loop {
            self.report(index, Ok(self.ask(&asking, plan).await?));
            sleep(SHORTEST).await;
            tokio::select! {
                // Whatever it is, even that messages were lost: the answer to a question is what counts.
                _ = messages.recv() => {}
                _ = doubts.changed() => {}
                () = sleep(PERIOD) => {}
                fault = hearing.end() => return Err(fault),
            }
        }
    }

    /// The address comes from the command that names the new master as soon as it is one; the epoch is asked for first, so that it is never
    /// newer than the address.
    async fn ask(&self, connection: &Connection, plan: &Arc<Plan>) -> Result<(u64, Host), Fault> {
        let about = connection.ask(plan, Command::new("SENTINEL").text("MASTER").text(&self.master)).await?;
        let command = Command::new("SENTINEL").text("GET-MASTER-ADDR-BY-NAME").text(&self.master);
        let address = connection.ask(plan, command).await?.array()?;
        let [name, port] = &address[..] else {
            return Err(Fault::new(FaultKind::Config, format!("it knows no master named `{}`", self.master)));
        };
        let port = u16::try_from(port.count()?).map_err(|_| Fault::new(FaultKind::Protocol, "expected a port"))?;
        Ok((epoch(about)?, Host { name: name.text()?.to_owned(), port }))
    }

    fn report(&self, index: usize, report: Report) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports[index] = Some(report);
        let next = judge(&reports);
        drop(reports);
        self.known.send_if_modified(|known| {
            let next = match next {
                // The last master known is better than none.
                Known::Trouble(_) | Known::Nothing if matches!(known, Known::Master(_)) => return false,
                next => next,
            };
            let is_new = *known != next;
            *known = next;
            is_new
        });
    }
}

/// The word of the newest epoch; trouble only once every sentinel has been tried.
fn judge(reports: &[Option<Report>]) -> Known {
    let newest = reports.iter().flatten().filter_map(|report| report.as_ref().ok()).max_by_key(|(epoch, _)| *epoch);
    if let Some((_, master)) = newest {
        return Known::Master(master.clone());
    }
    let faults: Vec<&Fault> = reports.iter().flatten().filter_map(|report| report.as_ref().err()).collect();
    if faults.len() < reports.len() {
        return Known::Nothing;
    }
    let texts: Vec<&str> = faults.iter().map(|fault| &*fault.text).collect();
    let kind = faults.first().map_or(FaultKind::Config, |fault| fault.kind);
    Known::Trouble(Fault::new(kind, format!("no sentinel tells where the master is ({})", texts.join("; "))))
}

/// From the pairs that describe a master.
fn epoch(about: Reply) -> Result<u64, Fault> {
    let pairs = about.array()?;
    let epoch = pairs.chunks_exact(2).find(|pair| pair[0].text() == Ok("config-epoch"));
    epoch.map_or(Err(Fault::new(FaultKind::Protocol, "expected an epoch")), |pair| pair[1].count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Host {
        Host { name: name.to_owned(), port: 1 }
    }

    fn fault(text: &str) -> Fault {
        Fault::new(FaultKind::Unreachable, text)
    }

    #[test]
    fn the_newest_epoch_is_believed() {
        let master = |reports: &[Option<Report>]| match judge(reports) {
            Known::Master(host) => host.name,
            other => panic!("{other:?}"),
        };
        assert_eq!(master(&[Some(Ok((1, host("old")))), Some(Ok((2, host("new")))), Some(Ok((1, host("old"))))]), "new");
        assert_eq!(master(&[None, Some(Ok((0, host("only")))), Some(Err(fault("refused")))]), "only");
    }

    #[test]
    fn trouble_is_told_when_all_were_tried_and_names_each() {
        assert_eq!(judge(&[Some(Err(fault("a: refused"))), None]), Known::Nothing);
        let Known::Trouble(told) = judge(&[Some(Err(fault("a: refused"))), Some(Err(fault("b: late")))]) else { panic!("no trouble") };
        assert!(told.text.contains("a: refused; b: late"), "{told}");
    }

    #[test]
    fn the_last_master_known_stays_when_no_sentinel_is_left() {
        let sentinels = Sentinels::new(vec![host("s")], "main".to_owned());
        sentinels.report(0, Ok((1, host("m"))));
        sentinels.report(0, Err(fault("refused")));
        assert!(matches!(&*sentinels.known().borrow(), Known::Master(host) if host.name == "m"));
    }
}
