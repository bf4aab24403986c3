//! `unstale check`: is everything there that `run` will need? Each line says ok, warn or fail, and what to do.
//!
//! Changes nothing, here or in Redis.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use unstale_connect::{Client, Fault, FaultKind, Link, Place, Role, Site};

use crate::config::Loaded;
use crate::rights::{self, Use};

/// The oldest server that has what is needed (XADD NOMKSTREAM, XTRIM MINID, GETs in SET).
const OLDEST: (u32, u32) = (6, 2);

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, but look at it.
    Warn,
    /// It won't work.
    Fail,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it ended.
    pub state: State,
    /// What was looked at.
    pub what: String,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// All findings.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether nothing failed.
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|finding| finding.state != State::Fail)
    }

    fn add(&mut self, state: State, what: &str, text: impl Into<String>, help: Option<String>) {
        self.findings.push(Finding { state, what: what.to_owned(), text: text.into(), help });
    }

    fn ok(&mut self, what: &str, text: impl Into<String>) {
        self.add(State::Ok, what, text, None);
    }

    fn warn(&mut self, what: &str, text: impl Into<String>, help: impl Into<String>) {
        self.add(State::Warn, what, text, Some(help.into()));
    }

    fn fail(&mut self, what: &str, text: impl Into<String>, help: impl Into<String>) {
        self.add(State::Fail, what, text, Some(help.into()));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { state, what, text, help } in &self.findings {
            let state = match state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Fail => "FAIL",
            };
            writeln!(f, "{state:<5} {what:<14} {text}")?;
            if let Some(help) = help {
                writeln!(f, "{:<20} {help}", "")?;
            }
        }
        Ok(())
    }
}

/// Looks at everything.
pub async fn check(loaded: &Loaded) -> Report {
    let mut report = Report::default();
    let (rules, caches) = (loaded.router.rules(), loaded.router.caches().len());
    report.ok("configuration", format!("{rules} routes, {caches} caches"));
    for warning in &loaded.warnings {
        report.warn("configuration", warning, "see `unstale config show` for what is in force");
    }
    for (name, role) in rights::servers_in_use(loaded) {
        let mut look = Look { loaded, name: &name, what: format!("redis.{name}"), role, report: &mut report };
        look.at_server().await;
    }
    report
}

/// The look at one server.
struct Look<'a> {
    loaded: &'a Loaded,
    name: &'a str,
    what: String,
    role: Use,
    report: &'a mut Report,
}

impl Look<'_> {
    async fn at_server(&mut self) {
        let (site, client) = match reach(self.loaded, self.name).await {
            Ok(reached) => reached,
            Err(error) => return self.report.fail(&self.what, error.text, error.help),
        };
        let done = self.at_details(&site, &client).await;
        if let Err(fault) = done {
            let help = if fault.is_denied() {
                "run `unstale check --acl` for the rights that are needed"
            } else {
                "see the server's log, then run `unstale check` again"
            };
            self.report.fail(&self.what, format!("stopped answering as expected: {fault}"), help);
        }
        client.close();
    }

    async fn at_details(&mut self, site: &Site, client: &Client) -> Result<(), Fault> {
        if !self.at_rights(site, client).await? || !self.at_version(client).await? {
            return Ok(());
        }
        self.at_replication(client).await?;
        self.at_eviction(client).await?;
        if self.role.is_bus {
            self.at_streams(client).await?;
        }
        Ok(())
    }

    async fn at_version(&mut self, client: &Client) -> Result<bool, Fault> {
        let info = client.info("server").await?;
        let get = |name: &str| info.get(name).map(String::as_str);
        let (product, version) = get("valkey_version").map_or(("Redis", get("redis_version")), |version| ("Valkey", Some(version)));
        let version = version.unwrap_or("0");
        if major_and_minor(version) < OLDEST {
            let text = format!("{product} {version} is too old");
            self.report.fail(&self.what, text, format!("use Redis {}.{} or later, or Valkey", OLDEST.0, OLDEST.1));
            return Ok(false);
        }
        let ping = client.ping().await?;
        self.report.ok(&self.what, format!("{product} {version} answers in {:.1} ms", ping.as_secs_f64() * 1000.0));
        Ok(true)
    }

    /// On a cluster each node has users of its own, and a user is soon forgotten on one of them.
    async fn at_rights(&mut self, site: &Site, client: &Client) -> Result<bool, Fault> {
        let servers = if self.role.is_cluster { site.store("unstale-cli")?.masters().await?.clients } else { vec![client.clone()] };
        let mut missing = BTreeSet::new();
        for server in &servers {
            missing.extend(rights::missing(server, &self.loaded.config, self.loaded, self.name, self.role).await?);
        }
        let rules = missing.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        if missing.is_empty() {
            self.report.ok(&self.what, "all rights are there");
        } else {
            let nodes = if self.role.is_cluster { " on every node" } else { "" };
            let help = format!("grant them{nodes}: `ACL SETUSER NAME {rules}`; `unstale check --acl` prints the whole user");
            self.report.fail(&self.what, format!("the user lacks {} of its rights: {rules}", missing.len()), help);
        }
        Ok(!missing.contains("+info") && !missing.contains("+ping"))
    }

    async fn at_replication(&mut self, client: &Client) -> Result<(), Fault> {
        let role = client.info("replication").await?.remove("role").unwrap_or_default();
        // Of a cluster any node may answer, and it sends what it hasn't to those that have.
        if role == "slave" && !self.role.is_cluster {
            self.report.fail(
                &self.what,
                "this server is a replica and takes no writes",
                "name the master, or use `redis-sentinel://…`, which finds it",
            );
        }
        let cluster = client.info("cluster").await?.remove("cluster_enabled").unwrap_or_default();
        if cluster == "1" && !self.role.is_cluster {
            self.report.fail(&self.what, "this server is a node of a cluster", "write its URL as `redis-cluster://HOST:PORT`");
        }
        Ok(())
    }

    async fn at_eviction(&mut self, client: &Client) -> Result<(), Fault> {
        let memory = client.info("memory").await?;
        let policy = memory.get("maxmemory_policy").map_or("unknown", String::as_str);
        if self.role.is_bus && policy.starts_with("allkeys") {
            let text = format!("`maxmemory-policy` is {policy}: under pressure Redis may evict the streams, and the events in them");
            self.report.warn(&self.what, text, "set it to `noeviction` or one of `volatile-*`");
        } else {
            self.report.ok(&self.what, format!("eviction policy is {policy}"));
        }
        Ok(())
    }

    async fn at_streams(&mut self, client: &Client) -> Result<(), Fault> {
        let names = self.loaded.config.names();
        for (key, wanted) in [
            (&names.events, "stream"),
            (&names.critical, "stream"),
            (&names.dead, "stream"),
            (&names.notices, "stream"),
            (&names.lease, "string"),
            (&names.beats, "zset"),
            (&names.positions, "hash"),
            (&names.pulse, "string"),
        ] {
            let reply = client.raw(vec!["TYPE".into(), key.clone().into()]).await?;
            let found = reply.text()?.to_owned();
            if found != "none" && found != wanted {
                let help = format!("delete or rename `{key}`, or set `namespace` to another name than `{}`", self.loaded.config.namespace);
                self.report.fail("names", format!("the key `{key}` is a {found}, but must be a {wanted}"), help);
            } else if key == &names.events || key == &names.critical {
                self.at_group(client, key, &names.group, found == "stream").await?;
            }
        }
        Ok(())
    }

    async fn at_group(&mut self, client: &Client, stream: &str, group: &str, is_there: bool) -> Result<(), Fault> {
        if !is_there {
            self.report.ok("stream", format!("`{stream}` isn't there yet; `unstale run` makes it"));
            return Ok(());
        }
        let groups = client.xinfo_groups(stream).await?;
        let text = match groups.iter().find(|known| known.name == group) {
            None => format!("`{stream}` is there; `unstale run` makes the group `{group}`"),
            Some(known) => {
                let lag = known.lag.map_or_else(|| "an unknown number of".to_owned(), |lag| lag.to_string());
                format!("`{stream}`: group `{group}` has {lag} entries unread, {} pending", known.pending)
            }
        };
        self.report.ok("stream", text);
        Ok(())
    }
}

/// Of `7.0.15`: 7 and 0. What isn't a number counts as 0.
fn major_and_minor(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Why there is no connection, and what to do.
#[derive(Debug)]
pub struct NoConnection {
    /// What happened, and where.
    pub text: String,
    /// What to do.
    pub help: String,
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.text, self.help)
    }
}

/// Connects for commands, and waits until the connection is up.
///
/// # Errors
/// Why it isn't.
pub async fn connect(loaded: &Loaded, name: &str) -> Result<Client, NoConnection> {
    reach(loaded, name).await.map(|(_, client)| client)
}

async fn reach(loaded: &Loaded, name: &str) -> Result<(Site, Client), NoConnection> {
    let lost = |text: String| NoConnection {
        text,
        help: format!("check `[redis.{name}]`; `unstale config show` says where each value comes from"),
    };
    let redis = loaded.config.redis.get(name).ok_or_else(|| lost(format!("there is no server `{name}`")))?;
    let server = redis.server().map_err(lost)?;
    let within = server.connect_timeout + Duration::from_millis(500);
    let url = server.url.to_string();
    let site = Site::open(&server).map_err(|fault| lost(fault.to_string()))?;
    // On a cluster the bus is one slot; of one with caches any node will do.
    let key = loaded.config.names().events;
    let place = if name == loaded.config.bus.redis { Place::Key(&key) } else { Place::Any };
    let client = site.client(place, Role::Commands, "unstale-cli").map_err(|fault| lost(fault.to_string()))?;
    match client.ready(within).await {
        Ok(_) => Ok((site, client)),
        Err(fault) => {
            // What a command is told is only that there is no connection; the link knows why.
            let fault = if let Link::Down { why, .. } = &*client.link().borrow() { why.clone() } else { fault };
            let why = fault.text.replace(&format!("{url}: "), "");
            Err(NoConnection { text: format!("can't use {url}: {why}"), help: advice(fault.kind, name) })
        }
    }
}

fn advice(kind: FaultKind, name: &str) -> String {
    match kind {
        FaultKind::Unauthenticated => format!(
            "set `redis.{name}.username` and `redis.{name}.password_file`, or write both into the URL; sentinels have users of their own: \
             `redis.{name}.sentinel_username` and `redis.{name}.sentinel_password_file`"
        ),
        FaultKind::Denied => "run `unstale check --acl` for the rights that are needed".to_owned(),
        FaultKind::Config => format!("see `ca`, `cert` and `key` under `[redis.{name}]`, and the server's own certificate"),
        FaultKind::Loading => "the server is still loading its data; try again soon".to_owned(),
        _ => format!("start Redis there, or set `redis.{name}.url` (or `REDIS_URL`) to where it is"),
    }
}

/// Prints a report.
///
/// # Errors
/// If standard output is closed.
pub fn print(report: &Report, as_json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json { writeln!(out, "{}", serde_json::to_string(report)?) } else { write!(out, "{report}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, is_enough) in
            [("6.0.16", false), ("6.2.0", true), ("6.10.1", true), ("7.0.15", true), ("10.0", true), ("unknown", false)]
        {
            assert_eq!(major_and_minor(version) >= OLDEST, is_enough, "{version}");
        }
    }
}
