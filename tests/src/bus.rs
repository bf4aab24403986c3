//! What the sidecars of one namespace share in Redis, as a publisher and a receiver see it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::Value as Json;
use unstale_testkit::{Redis, Resp, Value, wait_until_sync};

use crate::PATIENCE;

/// The streams of a namespace on one server. Connects anew when its connection fails, so the server may go and come.
pub struct Bus {
    address: SocketAddr,
    namespace: String,
    database: u8,
    resp: Option<Resp>,
}

/// One notice of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Its entry in the log.
    pub id: String,
    /// The field `seq`.
    pub seq: i64,
    /// The field `notice` as it stands there.
    pub text: String,
    /// The same, read.
    pub json: Json,
}

impl Notice {
    /// Its lane.
    pub fn priority(&self) -> &str {
        self.json["priority"].as_str().unwrap_or_default()
    }

    /// When it was confirmed, in milliseconds of Redis' clock.
    pub fn at(&self) -> i64 {
        self.json["at"].as_i64().unwrap_or_default()
    }

    /// All its keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        self.named("keys")
    }

    /// All its patterns, sorted.
    pub fn patterns(&self) -> Vec<String> {
        self.named("patterns")
    }

    /// The entries that it names.
    pub fn events(&self) -> Vec<String> {
        texts(&self.json["events"])
    }

    fn named(&self, kind: &str) -> Vec<String> {
        let mut all: Vec<String> = self.json["drop"].as_array().into_iter().flatten().flat_map(|drop| texts(&drop[kind])).collect();
        all.sort();
        all
    }
}

/// How many milliseconds each of these events took from `XADD` to the confirmed delete, by Redis' clock, sorted. Ids of different streams may be
/// equal: the notices should be of one.
///
/// # Panics
/// If one of them is in no notice, or in several.
#[track_caller]
pub fn ages(notices: &[Notice], ids: &[String]) -> Vec<i64> {
    let ids: BTreeSet<&String> = ids.iter().collect();
    let age = |notice: &Notice, id: &str| notice.at() - id.split_once('-').and_then(|(ms, _)| ms.parse::<i64>().ok()).unwrap_or_default();
    let of = |notice: &Notice| notice.events().into_iter().filter(|id| ids.contains(id)).map(|id| age(notice, &id)).collect::<Vec<_>>();
    let mut ages: Vec<i64> = notices.iter().flat_map(of).collect();
    assert_eq!(ages.len(), ids.len(), "every event is in one notice");
    ages.sort_unstable();
    ages
}

/// The texts of a JSON array.
fn texts(json: &Json) -> Vec<String> {
    json.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// One dead letter: an entry's fields in their order.
#[derive(Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its entry in the stream of dead letters.
    pub id: String,
    /// Names and values.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Letter {
    /// A field as text; empty if there is none.
    pub fn get(&self, name: &str) -> String {
        let value = self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        String::from_utf8_lossy(value.map_or(&[], Vec::as_slice)).into_owned()
    }

    /// Its `dead_reason`.
    pub fn reason(&self) -> String {
        self.get("dead_reason")
    }

    /// The codes of its reasons, in their order.
    pub fn codes(&self) -> Vec<String> {
        let reason = self.reason();
        let code = |part: &str| part.split_once(": ").map(|(code, _)| code.to_owned()).filter(|code| CODES.contains(&code.as_str()));
        reason.split("; ").filter_map(code).collect()
    }
}

/// What a reason may begin with (SPEC 3).
const CODES: [&str; 9] = [
    "undecodable",
    "too_large",
    "too_many_targets",
    "missing_attribute",
    "conflicting_attribute",
    "refused_target",
    "unrouted",
    "command_failed",
    "deliveries",
];

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |value: &[u8]| value[..value.len().min(200)].escape_ascii().to_string();
        write!(f, "{} ", self.id)?;
        f.debug_map().entries(self.fields.iter().map(|(name, value)| (name, shown(value)))).finish()
    }
}

/// How a stream and its group stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// `XLEN`.
    pub length: i64,
    /// Delivered and not acknowledged.
    pub pending: i64,
    /// The id that was delivered last, and the one that was added last.
    pub delivered: String,
    /// The one that was added last.
    pub added: String,
}

impl Standing {
    /// Everything that was added was delivered and acknowledged.
    pub fn is_done(&self) -> bool {
        self.pending == 0 && self.delivered == self.added
    }
}

impl Bus {
    /// The namespace `unstale` on this server.
    pub fn new(redis: &Redis) -> Self {
        Self { address: redis.address(), namespace: "unstale".to_owned(), database: 0, resp: None }
    }

    /// The same streams over another connection, as for another thread.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { address: self.address, namespace: self.namespace.clone(), database: self.database, resp: None }
    }

    /// The same in another namespace.
    #[must_use]
    pub fn in_namespace(mut self, name: &str) -> Self {
        name.clone_into(&mut self.namespace);
        self
    }

    /// The same in another database.
    #[must_use]
    pub fn in_database(mut self, number: u8) -> Self {
        self.database = number;
        self
    }

    /// A key of the namespace, as in `key("events")`.
    pub fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.namespace)
    }

    /// Runs a command.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Value {
        self.try_cmd(args).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a command; the error says which.
    pub fn try_cmd<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<Value, String> {
        let said = |error: &dyn std::fmt::Display| {
            let words: Vec<_> = args.iter().take(4).map(|arg| arg.as_ref().escape_ascii().to_string()).collect();
            format!("{}: {error}", words.join(" "))
        };
        let mut resp = match self.resp.take() {
            Some(resp) => resp,
            None => self.connect().map_err(|error| said(&error))?,
        };
        let result = resp.try_cmd(args);
        if !matches!(result, Err(unstale_testkit::Error::Io(_))) {
            self.resp = Some(resp);
        }
        result.map_err(|error| said(&error))
    }

    fn connect(&self) -> Result<Resp, unstale_testkit::Error> {
        let mut resp = Resp::tcp(self.address)?;
        if self.database > 0 {
            resp.try_cmd(&["SELECT", &self.database.to_string()])?;
        }
        Ok(resp)
    }

    /// Adds an event to the ordinary stream; returns its id.
    ///
    /// # Panics
    /// If Redis refuses.
    #[track_caller]
    pub fn publish(&mut self, kind: &str, attributes: &[(&str, &str)]) -> String {
        self.publish_to("events", kind, attributes)
    }

    /// Adds an event to the critical stream; returns its id.
    ///
    /// # Panics
    /// If Redis refuses.
    #[track_caller]
    pub fn publish_critical(&mut self, kind: &str, attributes: &[(&str, &str)]) -> String {
        self.publish_to("events:critical", kind, attributes)
    }

    #[track_caller]
    fn publish_to(&mut self, stream: &str, kind: &str, attributes: &[(&str, &str)]) -> String {
        let fields: Vec<_> = [("type", kind)].iter().chain(attributes).flat_map(|(name, value)| [*name, *value]).collect();
        self.add_to(stream, &fields)
    }

    /// Adds an entry with these names and values to the ordinary stream; returns its id.
    ///
    /// # Panics
    /// If Redis refuses.
    #[track_caller]
    pub fn add<A: AsRef<[u8]>>(&mut self, fields: &[A]) -> String {
        self.add_to("events", fields)
    }

    #[track_caller]
    fn add_to<A: AsRef<[u8]>>(&mut self, stream: &str, fields: &[A]) -> String {
        let stream = self.key(stream);
        let words: Vec<&[u8]> = [b"XADD", stream.as_bytes(), b"*"].into_iter().chain(fields.iter().map(AsRef::as_ref)).collect();
        self.cmd(&words).text()
    }

    /// Adds many entries in one transaction, so that all of them are there at once; each is its fields. Returns their ids.
    ///
    /// # Panics
    /// If Redis refuses.
    #[track_caller]
    pub fn add_all(&mut self, entries: &[Vec<String>]) -> Vec<String> {
        let stream = self.key("events");
        self.cmd(&["MULTI"]);
        for fields in entries {
            let words: Vec<&str> = ["XADD", &stream, "*"].into_iter().chain(fields.iter().map(String::as_str)).collect();
            self.cmd(&words);
        }
        self.cmd(&["EXEC"]).texts()
    }

    /// Makes these keys be there.
    ///
    /// # Panics
    /// If Redis refuses.
    pub fn seed<K: AsRef<str>>(&mut self, keys: impl IntoIterator<Item = K>) {
        let mut words = vec!["MSET".to_owned()];
        words.extend(keys.into_iter().flat_map(|key| [key.as_ref().to_owned(), "value".to_owned()]));
        if words.len() > 1 {
            self.cmd(&words);
        }
    }

    /// All keys outside the namespace.
    ///
    /// # Panics
    /// If Redis refuses.
    pub fn keys(&mut self) -> BTreeSet<String> {
        let own = self.key("");
        self.cmd(&["KEYS", "*"]).texts().into_iter().filter(|key| !key.starts_with(&own)).collect()
    }

    /// How a stream stands: `events` or `events:critical`.
    pub fn standing(&mut self, stream: &str) -> Result<Standing, String> {
        let stream = self.key(stream);
        self.standing_of(&stream)
    }

    /// The same of any stream that the namespace's group reads.
    pub fn standing_of(&mut self, stream: &str) -> Result<Standing, String> {
        let group = self.namespace.clone();
        let info = self.try_cmd(&["XINFO", "STREAM", stream])?;
        let groups = self.try_cmd(&["XINFO", "GROUPS", stream])?;
        let is_ours = |info: &&Value| info.field("name").is_some_and(|name| name.text() == group);
        let ours = groups.array().iter().find(is_ours).ok_or_else(|| format!("{stream} has no group {group}"))?;
        let field = |value: &Value, name: &str| value.field(name).cloned().ok_or_else(|| format!("no {name} in {value:?}"));
        Ok(Standing {
            length: field(&info, "length")?.int(),
            pending: field(ours, "pending")?.int(),
            delivered: field(ours, "last-delivered-id")?.text(),
            added: field(&info, "last-generated-id")?.text(),
        })
    }

    /// Waits until all that was published is acknowledged, on both streams.
    ///
    /// # Panics
    /// If that takes too long, with how the streams stand.
    #[track_caller]
    pub fn wait_done(&mut self) {
        self.wait_streams("all entries to be acknowledged", Standing::is_done);
    }

    /// Waits until both streams are empty, too: acknowledged and trimmed.
    ///
    /// # Panics
    /// As [`Bus::wait_done`].
    #[track_caller]
    pub fn wait_settled(&mut self) {
        self.wait_streams("both streams to be empty and nothing pending", |standing| standing.is_done() && standing.length == 0);
    }

    #[track_caller]
    fn wait_streams(&mut self, what: &str, wanted: impl Fn(&Standing) -> bool) {
        wait_until_sync(what, PATIENCE, || {
            let both = [self.standing("events")?, self.standing("events:critical")?];
            if both.iter().all(&wanted) { Ok(()) } else { Err(format!("{both:#?}")) }
        });
    }

    /// The notice log from its beginning.
    ///
    /// # Panics
    /// If an entry isn't what SPEC.md says.
    #[track_caller]
    pub fn notices(&mut self) -> Vec<Notice> {
        let log = self.key("notices");
        self.entries(&log).into_iter().map(|(id, fields)| notice(id, &fields)).collect()
    }

    /// Waits until the log has a notice that is wanted, and returns the first.
    ///
    /// # Panics
    /// If that takes too long, with the log.
    #[track_caller]
    pub fn wait_notice(&mut self, what: &str, wanted: impl Fn(&Notice) -> bool) -> Notice {
        wait_until_sync(&format!("a notice {what}"), PATIENCE, || {
            let notices = self.notices();
            notices.iter().find(|notice| wanted(notice)).cloned().ok_or_else(|| format!("{notices:#?}"))
        })
    }

    /// All dead letters.
    ///
    /// # Panics
    /// If Redis refuses.
    pub fn dead_letters(&mut self) -> Vec<Letter> {
        let dead = self.key("events:dead");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let letter = |(id, fields): (String, Vec<Vec<u8>>)| {
            let fields = fields.chunks_exact(2).map(|pair| (text(&pair[0]), pair[1].clone())).collect();
            Letter { id, fields }
        };
        self.entries(&dead).into_iter().map(letter).collect()
    }

    /// Ids of a stream's entries, each with its names and values.
    fn entries(&mut self, stream: &str) -> Vec<(String, Vec<Vec<u8>>)> {
        let bytes = |value: &Value| match value {
            Value::Bulk(bytes) => bytes.clone(),
            other => panic!("expected bytes, got {other:?}"),
        };
        let entry = |entry: &Value| (entry.array()[0].text(), entry.array()[1].array().iter().map(bytes).collect());
        self.cmd(&["XRANGE", stream, "-", "+"]).array().iter().map(entry).collect()
    }

    /// How often each command was run since the server's start or [`Bus::reset_stats`]; names are in lower case.
    ///
    /// # Panics
    /// If Redis refuses.
    pub fn commandstats(&mut self) -> BTreeMap<String, u64> {
        let info = self.cmd(&["INFO", "commandstats"]).text();
        let line = |line: &str| {
            let (name, figures) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), figures.split(',').next()?.parse().ok()?))
        };
        info.lines().filter_map(line).collect()
    }

    /// Begins to count commands anew.
    ///
    /// # Panics
    /// If Redis refuses.
    pub fn reset_stats(&mut self) {
        self.cmd(&["CONFIG", "RESETSTAT"]);
    }

    /// Names of the instances with a beat, dead or alive.
    ///
    /// # Panics
    /// If Redis refuses.
    pub fn instances(&mut self) -> Vec<String> {
        let beats = self.key("instances");
        self.cmd(&["ZRANGE", &beats, "0", "-1"]).texts()
    }

    /// The full name of the instance with this `instance.name`; the error says who is there.
    pub fn instance(&mut self, name: &str) -> Result<String, String> {
        let beats = self.key("instances");
        let all = self.try_cmd(&["ZRANGE", &beats, "0", "-1"])?.texts();
        let ours = all.iter().find(|full| full.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')));
        ours.cloned().ok_or_else(|| format!("no beat of {name} among {all:?}"))
    }

    /// The instance that holds the lease.
    pub fn reader(&mut self) -> Result<String, String> {
        let lease = self.key("reader");
        match self.try_cmd(&["GET", &lease])? {
            Value::Nil => Err("nobody holds the lease".to_owned()),
            holder => Ok(holder.text()),
        }
    }

    /// Whether both streams have the group.
    pub(crate) fn groups(&mut self) -> Result<(), String> {
        self.standing("events").and(self.standing("events:critical")).map(drop)
    }
}

#[track_caller]
fn notice(id: String, fields: &[Vec<u8>]) -> Notice {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match fields {
        [seq_name, seq, notice_name, notice] if seq_name == b"seq" && notice_name == b"notice" => {
            let (seq, notice) = (text(seq), text(notice));
            let json = serde_json::from_str(&notice).unwrap_or_else(|error| panic!("{id} is no JSON ({error}): {notice}"));
            Notice { id, seq: seq.parse().unwrap_or_else(|_| panic!("seq is {seq}")), text: notice, json }
        }
        other => panic!("{id} has other fields than seq and notice: {:?}", other.iter().map(|field| text(field)).collect::<Vec<_>>()),
    }
}
