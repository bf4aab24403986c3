//! A connection of the imagined application to whatever servers there are: finds the one for a key, and goes with it when it moves.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use unstale_testkit::{Error, Resp, Value};

/// How often a command is sent on to where the servers say.
const HOPS: usize = 8;
const PAUSE: Duration = Duration::from_millis(20);

/// Where keys are. Shared by all clients of a run.
pub trait Route: Send + Sync {
    /// The server that a key's commands go to, as far as is known.
    fn owner(&self, key: &str) -> Option<SocketAddr>;

    /// A server that owns keys, other than replicas.
    fn masters(&self) -> Vec<SocketAddr>;

    /// What is known has failed or was contradicted: look again.
    fn look_again(&self) {}

    /// Changes whenever keys have another owner than before.
    fn epoch(&self) -> u64 {
        0
    }

    /// How many replicas must have an event before it counts as confirmed.
    fn replicas(&self) -> usize {
        0
    }
}

/// The one server of a standalone installation.
#[derive(Debug)]
pub struct Fixed(pub SocketAddr);

impl Route for Fixed {
    fn owner(&self, _key: &str) -> Option<SocketAddr> {
        Some(self.0)
    }

    fn masters(&self) -> Vec<SocketAddr> {
        vec![self.0]
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The server refused: it did nothing.
    Refused(String),
    /// Whether it was done isn't known.
    Unknown(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(text) => f.write_str(text),
            Self::Unknown(text) => write!(f, "no answer: {text}"),
        }
    }
}

/// An entry that was added.
#[derive(Debug, Clone)]
pub struct Added {
    /// Its id.
    pub id: String,
    /// Where.
    pub server: SocketAddr,
    /// Over which connection: WAIT speaks of what went over the same.
    pub session: u64,
}

/// Connections to all the servers, made when they are needed.
pub struct Client {
    route: Arc<dyn Route>,
    /// Each with its number.
    connections: HashMap<SocketAddr, (u64, Resp)>,
    sessions: u64,
    timeout: Duration,
}

impl Client {
    /// Without connections so far; an answer may take `timeout`.
    pub fn new(route: Arc<dyn Route>, timeout: Duration) -> Self {
        Self { route, connections: HashMap::new(), sessions: 0, timeout }
    }

    /// Runs a command about a key where that key is.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn cmd<A: AsRef<[u8]>>(&mut self, key: &str, args: &[A]) -> Result<Value, Failure> {
        self.cmd_where(key, args).map(|(value, _)| value)
    }

    /// Also tells which server answered.
    fn cmd_where<A: AsRef<[u8]>>(&mut self, key: &str, args: &[A]) -> Result<(Value, SocketAddr), Failure> {
        let mut at = self.owner(key)?;
        for _ in 0..HOPS {
            match self.at(at, args) {
                Err(Failure::Refused(text)) if text.starts_with("MOVED ") => {
                    self.route.look_again();
                    at = address(&text).map_or_else(|| self.owner(key), Ok)?;
                }
                Err(Failure::Refused(text)) if text.starts_with("ASK ") => {
                    let there = address(&text).ok_or(Failure::Refused(text))?;
                    self.at(there, &["ASKING"])?;
                    return self.at(there, args).map(|value| (value, there));
                }
                Err(Failure::Refused(text)) if ["TRYAGAIN", "CLUSTERDOWN", "LOADING"].iter().any(|code| text.starts_with(code)) => {
                    std::thread::sleep(PAUSE);
                }
                Err(failure) => {
                    self.route.look_again();
                    return Err(failure);
                }
                Ok(value) => return Ok((value, at)),
            }
        }
        Err(Failure::Refused(format!("{key} is nowhere for good")))
    }

    /// The values of these keys, nil where there is none.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn get_many(&mut self, keys: &[&str]) -> Result<Vec<Value>, Failure> {
        if self.route.masters().len() > 1 {
            return keys.iter().map(|key| self.cmd(key, &["GET", key])).collect();
        }
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        let words: Vec<&str> = std::iter::once("MGET").chain(keys.iter().copied()).collect();
        Ok(self.cmd(first, &words)?.array().to_vec())
    }

    /// Runs a command on one server.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn at<A: AsRef<[u8]>>(&mut self, server: SocketAddr, args: &[A]) -> Result<Value, Failure> {
        let (session, mut resp) = match self.connections.remove(&server) {
            Some(connection) => connection,
            // Not sent, so not done.
            None => self.connect(server).map_err(|error| Failure::Refused(format!("can't connect to {server}: {error}")))?,
        };
        match resp.try_cmd(args) {
            Err(Error::Io(error)) => Err(Failure::Unknown(format!("{server}: {error}"))),
            Err(Error::Server(text)) => {
                self.connections.insert(server, (session, resp));
                Err(Failure::Refused(text))
            }
            Ok(value) => {
                self.connections.insert(server, (session, resp));
                Ok(value)
            }
        }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`Failure`]
    pub fn add(&mut self, stream: &str, fields: &[(&str, String)]) -> Result<Added, Failure> {
        let words = fields.iter().flat_map(|(name, value)| [*name, value.as_str()]);
        let words: Vec<&str> = ["XADD", stream, "*"].into_iter().chain(words).collect();
        let (id, server) = self.cmd_where(stream, &words)?;
        let session = self.connections.get(&server).map_or(0, |(session, _)| *session);
        Ok(Added { id: id.text(), server, session })
    }

    /// Whether the replicas of a server have all that went over a connection, if there must be replicas that have it.
    ///
    /// # Errors
    /// [`Failure`], also if the connection has ended: nobody can tell any more.
    pub fn replicated(&mut self, server: SocketAddr, session: u64) -> Result<bool, Failure> {
        let replicas = self.route.replicas();
        if replicas == 0 {
            return Ok(true);
        }
        if self.connections.get(&server).is_none_or(|(known, _)| *known != session) {
            return Err(Failure::Unknown(format!("the connection to {server} has ended")));
        }
        let have = self.at(server, &["WAIT", &replicas.to_string(), "20"])?.int();
        Ok(usize::try_from(have).is_ok_and(|have| have >= replicas))
    }

    /// What went over the connections is forgotten.
    pub fn forget(&mut self) {
        self.connections.clear();
    }

    /// Where keys are.
    pub fn route(&self) -> &Arc<dyn Route> {
        &self.route
    }

    fn owner(&self, key: &str) -> Result<SocketAddr, Failure> {
        self.route.owner(key).ok_or_else(|| Failure::Refused(format!("nobody is known to have {key}")))
    }

    fn connect(&mut self, server: SocketAddr) -> std::io::Result<(u64, Resp)> {
        let mut resp = Resp::tcp(server)?;
        resp.set_timeout(Some(self.timeout));
        self.sessions += 1;
        Ok((self.sessions, resp))
    }
}

/// The address that MOVED and ASK name last.
fn address(text: &str) -> Option<SocketAddr> {
    text.rsplit(' ').next()?.parse().ok()
}
