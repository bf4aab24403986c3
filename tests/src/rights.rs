//! The least rights for a sidecar: the users that `unstale check --acl` prints, made on its servers as an administrator would.

use std::net::SocketAddr;

use unstale_testkit::{Cluster, Redis, Resp, Sentinels};

/// Servers that a sidecar is set up on by one URL.
pub trait Installation {
    /// The URL.
    fn url(&self) -> String;

    /// All servers, for whichever of them is the master some day.
    fn servers(&self) -> &[Redis];

    /// What watches them, and has users of its own.
    fn sentinels(&self) -> &[Redis] {
        &[]
    }
}

impl Installation for Redis {
    fn url(&self) -> String {
        self.url()
    }

    fn servers(&self) -> &[Redis] {
        std::slice::from_ref(self)
    }
}

impl Installation for Cluster {
    fn url(&self) -> String {
        self.url()
    }

    fn servers(&self) -> &[Redis] {
        self.nodes()
    }
}

impl Installation for Sentinels {
    fn url(&self) -> String {
        self.url()
    }

    fn servers(&self) -> &[Redis] {
        self.servers()
    }

    fn sentinels(&self) -> &[Redis] {
        self.sentinels()
    }
}

/// Where a user is made.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) sentinels: Vec<SocketAddr>,
}

impl Places {
    pub(crate) fn of(installation: &impl Installation) -> Self {
        let addresses = |servers: &[Redis]| servers.iter().map(Redis::address).collect();
        Self { servers: addresses(installation.servers()), sentinels: addresses(installation.sentinels()) }
    }

    /// The one that a `redis://` URL names, if it names no user.
    pub(crate) fn at(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("redis://").filter(|rest| !rest.contains('@'))?;
        let server = rest.split('/').next()?.parse().ok()?;
        Some(Self { servers: vec![server], sentinels: Vec::new() })
    }

    /// Makes the users that `check --acl` printed for a server of this name.
    ///
    /// # Panics
    /// If a server isn't there or doesn't take what was printed.
    pub(crate) fn grant(&self, printed: &serde_json::Value, name: &str) {
        let acl = |key: &str| printed[key].as_str().map(|acl| words(&acl.replacen(">PASSWORD", &format!(">{PASSWORD}"), 1)));
        for server in &self.servers {
            let save = vec!["ACL".to_owned(), "SAVE".to_owned()];
            make(*server, acl(name).into_iter().chain([save]));
        }
        for sentinel in &self.sentinels {
            make(*sentinel, acl(&format!("{name} sentinels")));
        }
    }
}

/// The password of all users.
pub(crate) const PASSWORD: &str = "secret";

fn make(address: SocketAddr, commands: impl IntoIterator<Item = Vec<String>>) {
    let problem =
        |error: &dyn std::fmt::Display| format!("{address}: {error}; a test whose server is away grants before, by Setup::granted");
    let mut admin = Resp::tcp(address).unwrap_or_else(|error| panic!("{}", problem(&error)));
    for words in commands {
        admin.try_cmd(&words).unwrap_or_else(|error| panic!("{}", problem(&error)));
    }
}

/// The words of a command line, some of them in quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut rest) = (Vec::new(), line);
    while !rest.is_empty() {
        let (word, end) = match rest.split_once(' ') {
            _ if rest.starts_with('"') => {
                let mut quoted = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                (quoted.next().and_then(Result::ok).unwrap_or_else(|| panic!("{rest}")), quoted.byte_offset())
            }
            Some((word, _)) => (word.to_owned(), word.len()),
            None => (rest.to_owned(), rest.len()),
        };
        words.push(word);
        rest = rest[end..].trim_start();
    }
    words
}
