//! Which server to connect to: its URL, credentials and files, checked before anything is connected.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::credentials::Files;
use crate::tls;

/// A text that must not be shown: printed, it is three asterisks.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What a file holds, without the end of its line.
    ///
    /// # Errors
    /// What is wrong with the file; neither its name nor what is in it, for the name may be a secret that was put into the wrong place.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("can't be read: {}", error.kind()))?;
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() { Err("is empty".to_owned()) } else { Ok(Self::new(secret)) }
    }

    /// The text itself, for the server.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Where a password is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// It is this.
    Known(Secret),
    /// It is in a file, which is read for each connection: it may change.
    File(PathBuf),
}

impl Password {
    /// What it is now.
    ///
    /// # Errors
    /// As [`Secret::read`].
    pub fn read(&self) -> Result<Secret, String> {
        match self {
            Self::Known(secret) => Ok(secret.clone()),
            Self::File(path) => Secret::read(path),
        }
    }
}

impl From<Secret> for Password {
    fn from(secret: Secret) -> Self {
        Self::Known(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A server, or a group of servers that behave as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub url: Url,
    /// The ACL user; overrides the URL's.
    pub username: Option<String>,
    /// Overrides the URL's.
    pub password: Option<Password>,
    /// PEM file of the authorities that may sign the server's certificate, instead of the system's. This and the other files are read for
    /// each connection, so they may be renewed.
    pub ca: Option<PathBuf>,
    /// PEM file of the client's certificate chain.
    pub cert: Option<PathBuf>,
    /// PEM file of the client's private key.
    pub key: Option<PathBuf>,
    /// The ACL user for sentinels, which have users of their own.
    pub sentinel_username: Option<String>,
    /// The password for sentinels; without it they are not given any.
    pub sentinel_password: Option<Password>,
    /// How long a connection may take to be made, the TLS handshake included; 3 s by default.
    pub connect_timeout: Duration,
    /// How long a command may take; 3 s by default. A blocking read has this and its BLOCK together.
    pub command_timeout: Duration,
}

impl Server {
    /// A server with default settings.
    pub fn new(url: Url) -> Self {
        let timeout = Duration::from_secs(3);
        Self {
            url,
            username: None,
            password: None,
            ca: None,
            cert: None,
            key: None,
            sentinel_username: None,
            sentinel_password: None,
            connect_timeout: timeout,
            command_timeout: timeout,
        }
    }

    /// The ACL user, if one is named.
    pub fn user(&self) -> Option<&str> {
        self.username.as_deref().or(self.url.username.as_deref())
    }

    pub(crate) fn secret(&self) -> Option<Password> {
        self.password.clone().or_else(|| self.url.password.clone().map(Password::Known))
    }

    /// The same for connections to the sentinels.
    pub(crate) fn of_sentinels(&self) -> Self {
        let url = Url { database: 0, username: None, password: None, ..self.url.clone() };
        Self { url, username: self.sentinel_username.clone(), password: self.sentinel_password.clone(), ..self.clone() }
    }

    /// Whether both are the same database of the same server, so that one script may touch keys of both.
    pub fn is_same_database(&self, other: &Self) -> bool {
        self.url.endpoint == other.url.endpoint && self.url.database == other.url.database
    }

    /// Everything that can't work, each a sentence that names the setting. Reads the files.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |wrong: bool, text: &str| wrong.then(|| problems.push(text.to_owned()));
        check(self.cert.is_some() != self.key.is_some(), "`cert` and `key` go together: name both or neither");
        let files = self.ca.is_some() || self.cert.is_some() || self.key.is_some();
        check(files && !self.url.tls, "`ca`, `cert` and `key` need TLS: write `rediss://` in `url`");
        check(self.user().is_some() && self.secret().is_none(), "`username` needs a password: set `password_file`");
        let sentinel = self.sentinel_username.is_some() || self.sentinel_password.is_some();
        let has_sentinels = matches!(self.url.endpoint, Endpoint::Sentinel { .. });
        check(sentinel && !has_sentinels, "`sentinel_username` and `sentinel_password_file` need `redis-sentinel://` in `url`");
        let nameless = self.sentinel_username.is_some() && self.sentinel_password.is_none();
        check(nameless, "`sentinel_username` needs a password: set `sentinel_password_file`");
        check(self.connect_timeout.is_zero(), "`connect_timeout` must be above zero");
        check(self.command_timeout.is_zero(), "`command_timeout` must be above zero");
        if problems.is_empty() {
            problems
                .extend(Files::of(self).and_then(|files| if self.url.tls { tls::config(self, &files).map(drop) } else { Ok(()) }).err());
        }
        problems
    }
}

impl FromStr for Server {
    type Err = BadUrl;

    fn from_str(url: &str) -> Result<Self, BadUrl> {
        url.parse().map(Self::new)
    }
}

/// A host's name or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host {
    /// Name or address, without the brackets of IPv6.
    pub name: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, port } = self;
        if name.contains(':') { write!(f, "[{name}]:{port}") } else { write!(f, "{name}:{port}") }
    }
}

/// What kind of installation a URL names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// One server.
    Standalone(Host),
    /// One server, by its unix socket.
    Unix(PathBuf),
    /// The master of a name that sentinels know.
    Sentinel {
        /// The sentinels.
        hosts: Vec<Host>,
        /// The master's name.
        master: String,
    },
    /// A cluster.
    Cluster {
        /// Some of its nodes; the others are found out.
        hosts: Vec<Host>,
    },
}

/// Where a server is. Printed, it shows no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// The installation.
    pub endpoint: Endpoint,
    /// Whether to speak TLS.
    pub tls: bool,
    /// The database's number.
    pub database: u8,
    /// The ACL user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.tls { "s" } else { "" };
        let join = |hosts: &[Host]| hosts.iter().map(Host::to_string).collect::<Vec<_>>().join(",");
        match &self.endpoint {
            Endpoint::Standalone(host) => write!(f, "redis{s}://{host}/{}", self.database),
            Endpoint::Unix(path) => write!(f, "unix://{}?db={}", path.display(), self.database),
            Endpoint::Sentinel { hosts, master } => write!(f, "redis{s}-sentinel://{}/{}?master={master}", join(hosts), self.database),
            Endpoint::Cluster { hosts } => write!(f, "redis{s}-cluster://{}", join(hosts)),
        }
    }
}

/// Why a text is no URL of a Redis server. Never shows the text: there may be a password in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadUrl(String);

fn bad<T>(text: impl Into<String>) -> Result<T, BadUrl> {
    Err(BadUrl(text.into()))
}

const SCHEMES: &str =
    "`redis://`, `rediss://` (TLS), `unix://`, `redis-sentinel://`, `rediss-sentinel://`, `redis-cluster://` or `rediss-cluster://`";

impl FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let Some((scheme, rest)) = text.trim().split_once("://") else {
            return bad(format!("a Redis URL begins with {SCHEMES}"));
        };
        let parts = Parts::of(rest)?;
        match scheme {
            "redis" | "rediss" => parts.standalone(scheme == "rediss"),
            "redis-sentinel" | "rediss-sentinel" => parts.sentinel(scheme == "rediss-sentinel"),
            "redis-cluster" | "rediss-cluster" => parts.cluster(scheme == "rediss-cluster"),
            "unix" | "redis+unix" => parts.unix(),
            _ => bad(format!("unknown scheme `{scheme}://`: expected {SCHEMES}")),
        }
    }
}

/// The text after the scheme, cut up: `[[user]:password@]hosts[/path][?query]`.
struct Parts<'a> {
    username: Option<String>,
    password: Option<Secret>,
    hosts: &'a str,
    path: &'a str,
    query: Vec<(&'a str, String)>,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Result<Self, BadUrl> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (name, password) = user.split_once(':').map_or((user, None), |(name, password)| (name, Some(password)));
        let username = Some(decode(name)?).filter(|name| !name.is_empty());
        let password = password.map(decode).transpose()?.filter(|text| !text.is_empty()).map(Secret::new);
        let query = query.split('&').filter(|pair| !pair.is_empty());
        let query = query.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| Ok((name, decode(value)?)));
        Ok(Self { username, password, hosts, path, query: query.collect::<Result<_, BadUrl>>()? })
    }

    fn standalone(self, tls: bool) -> Result<Url, BadUrl> {
        let database = self.database_of_path()?;
        self.only(&[])?;
        let mut hosts = hosts(self.hosts, 6379)?;
        if hosts.len() > 1 {
            return bad("`redis://` takes one host: for several write `redis-sentinel://` or `redis-cluster://`");
        }
        Ok(self.url(Endpoint::Standalone(hosts.remove(0)), tls, database))
    }

    fn sentinel(mut self, tls: bool) -> Result<Url, BadUrl> {
        let database = self.database_of_path()?;
        self.only(&["master"])?;
        let Some(master) = self.take("master").filter(|name| !name.is_empty()) else {
            return bad("a sentinel URL names the master: add `?master=NAME`");
        };
        let hosts = hosts(self.hosts, 26379)?;
        Ok(self.url(Endpoint::Sentinel { hosts, master }, tls, database))
    }

    fn cluster(self, tls: bool) -> Result<Url, BadUrl> {
        self.only(&[])?;
        if self.database_of_path()? != 0 {
            return bad("a cluster has only database 0: leave it out");
        }
        let hosts = hosts(self.hosts, 6379)?;
        Ok(self.url(Endpoint::Cluster { hosts }, tls, 0))
    }

    fn unix(mut self) -> Result<Url, BadUrl> {
        self.only(&["db"])?;
        let database = self.take("db").as_deref().map_or(Ok(0), database)?;
        let path = decode(self.path)?;
        if !self.hosts.is_empty() || path.len() < 2 {
            return bad("a unix socket is named by its absolute path: `unix:///run/redis.sock`");
        }
        Ok(self.url(Endpoint::Unix(path.into()), false, database))
    }

    fn database_of_path(&self) -> Result<u8, BadUrl> {
        match self.path.trim_matches('/') {
            "" => Ok(0),
            number => database(number),
        }
    }

    fn only(&self, known: &[&str]) -> Result<(), BadUrl> {
        match self.query.iter().find(|(name, _)| !known.contains(name)) {
            Some((name, _)) if known.is_empty() => bad(format!("this URL takes no parameters, but has `{name}`")),
            Some((name, _)) => bad(format!("unknown parameter `{name}`: this URL takes `{}`", known.join("`, `"))),
            None => Ok(()),
        }
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let index = self.query.iter().position(|(known, _)| *known == name)?;
        Some(self.query.swap_remove(index).1)
    }

    fn url(self, endpoint: Endpoint, tls: bool, database: u8) -> Url {
        Url { endpoint, tls, database, username: self.username, password: self.password }
    }
}

fn database(number: &str) -> Result<u8, BadUrl> {
    number.parse().or_else(|_| bad(format!("`{number}` is not the number of a database: expected 0 to 255")))
}

fn hosts(text: &str, port: u16) -> Result<Vec<Host>, BadUrl> {
    text.split(',').map(|one| host(one.trim(), port)).collect()
}

/// `name`, `name:port`, `[v6]` or `[v6]:port`.
fn host(text: &str, default: u16) -> Result<Host, BadUrl> {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, rest)) => (name, rest.strip_prefix(':')),
        None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    if name.is_empty() {
        return bad("a host is missing: expected for example `redis://127.0.0.1:6379`");
    }
    let port = match port.map(str::parse) {
        None => default,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return bad(format!("the port of host `{name}` is not a number from 1 to 65535")),
    };
    Ok(Host { name: name.to_owned(), port })
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String, BadUrl> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next(), rest.next()].map(|digit| digit.and_then(|digit| char::from(digit).to_digit(16)));
        let [Some(high), Some(low)] = digits else {
            return bad("`%` in a URL is followed by two hexadecimal digits; a `%` itself is `%25`");
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    String::from_utf8(bytes).or_else(|_| bad("what a URL encodes by `%` must be UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn error(text: &str) -> String {
        text.parse::<Url>().unwrap_err().to_string()
    }

    #[test]
    fn urls_are_read_and_printed_without_the_password() {
        for (text, shown) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379/0"),
            ("redis://h/3", "redis://h:6379/3"),
            ("rediss://u:p%40ss@h:7000/0", "rediss://h:7000/0"),
            ("redis://:pw@[::1]:7000", "redis://[::1]:7000/0"),
            ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
            ("redis-sentinel://h1:26379,h2/2?master=mymaster", "redis-sentinel://h1:26379,h2:26379/2?master=mymaster"),
            ("rediss-cluster://h1,h2:6380", "rediss-cluster://h1:6379,h2:6380"),
        ] {
            assert_eq!(url(text).to_string(), shown);
        }
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let url = url("redis://app:p%40s:s@h");
        assert_eq!(url.username.as_deref(), Some("app"));
        assert_eq!(url.password.as_ref().map(Secret::reveal), Some("p@s:s"));
        let shown = format!("{url} {url:?} {:?}", Server::new(url.clone()));
        assert!(!shown.contains("p@s"), "{shown}");
    }

    #[test]
    fn mistakes_are_explained_and_hide_the_text() {
        for (text, part) in [
            ("localhost:6379", "begins with `redis://`"),
            ("http://h", "unknown scheme `http://`"),
            ("redis://", "a host is missing"),
            ("redis://:hunter2@", "a host is missing"),
            ("redis://h:port", "port of host `h`"),
            ("redis://h:0", "port of host `h`"),
            ("redis://h/first", "`first` is not the number of a database"),
            ("redis://h/256", "`256` is not the number"),
            ("redis://h?x=1", "takes no parameters, but has `x`"),
            ("redis://h1,h2", "takes one host"),
            ("redis-sentinel://h", "add `?master=NAME`"),
            ("redis-sentinel://h?name=x", "takes `master`"),
            ("redis-cluster://h/1", "only database 0"),
            ("unix://redis.sock", "absolute path"),
            ("redis://:%zz@h", "two hexadecimal digits"),
        ] {
            let message = error(text);
            assert!(message.contains(part), "{text}: {message}");
            assert!(!message.contains("hunter2"));
        }
    }

    #[test]
    fn settings_that_do_not_fit_are_all_reported() {
        let mut server: Server = "redis://app@h".parse().unwrap();
        server.cert = Some("c.pem".into());
        server.command_timeout = Duration::ZERO;
        assert_eq!(server.problems().len(), 4, "{:?}", server.problems());
        let mut server: Server = "rediss://h".parse().unwrap();
        server.ca = Some("/nowhere/ca.pem".into());
        assert!(server.problems()[0].contains("/nowhere/ca.pem"), "{:?}", server.problems());
    }

    #[test]
    fn a_database_is_the_same_whoever_asks() {
        let [a, b, c] = ["redis://h/1", "redis://app:pw@h:6379/1", "redis://h/2"].map(|text| text.parse::<Server>().unwrap());
        assert!(a.is_same_database(&b));
        assert!(!a.is_same_database(&c));
    }
}
