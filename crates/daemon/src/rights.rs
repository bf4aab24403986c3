//! The rights that the sidecar needs in Redis: as an ACL for `check --acl`, and tried one by one by `check`.
//!
//! Every trial is a command in a form that changes nothing: it names what doesn't exist, or carries an argument that Redis refuses after
//! it has looked at the rights.

use unstale_connect::{Client, Endpoint, Fault};
use unstale_events::glob;
use unstale_router::{Cache, Store};
use unstale_source::Names;

use crate::config::{Config, Loaded};

/// What a server is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub struct Use {
    /// It holds streams and notices.
    pub is_bus: bool,
    /// It holds caches.
    pub is_cache: bool,
    /// It is a cluster.
    pub is_cluster: bool,
    /// It isn't database 0 that is used.
    pub is_numbered: bool,
}

/// The servers that are used at all, with what for.
pub fn servers_in_use(loaded: &Loaded) -> Vec<(String, Use)> {
    let config = &loaded.config;
    let caches = || loaded.router.caches().iter().filter(|(_, cache)| cache.store == Store::Redis);
    let uses = |name: &String| Use {
        is_bus: *name == config.bus.redis,
        is_cache: caches().any(|(_, cache)| config.home(cache) == name),
        is_cluster: config.is_cluster(name),
        is_numbered: config.redis[name].server().is_ok_and(|server| server.url.database > 0),
    };
    config.redis.keys().map(|name| (name.clone(), uses(name))).filter(|(_, role)| role.is_bus || role.is_cache).collect()
}

/// One right: the ACL rule that grants it, and a harmless command that needs it.
struct Right {
    rule: &'static str,
    /// Space-separated; a word that begins with `@` is one of the sidecar's keys. Empty if there is no harmless form.
    trial: &'static str,
}

const fn right(rule: &'static str, trial: &'static str) -> Right {
    Right { rule, trial }
}

/// For every server.
const COMMON: [Right; 4] = [
    right("+ping", "PING"),
    right("+info", "INFO server"),
    right("+client|id", "CLIENT ID"),
    right("+client|setname", "CLIENT SETNAME unstale-check"),
];

/// For the server that holds the streams.
const BUS: [Right; 39] = [
    right("+time", "TIME"),
    right("+eval", "EVAL return(1) 0"),
    right("+evalsha", "EVALSHA ffffffffffffffffffffffffffffffffffffffff 0"),
    right("+client|unblock", "CLIENT UNBLOCK 0"),
    right("+type", "TYPE @events"),
    right("+xadd", "XADD @events NOMKSTREAM 0-0 f v"),
    right("+xack", "XACK @events unstale-check 0-0"),
    right("+xreadgroup", "XREADGROUP GROUP unstale-check c COUNT 1 STREAMS @events >"),
    right("+xclaim", "XCLAIM @events unstale-check c 0 0-0"),
    right("+xpending", "XPENDING @events unstale-check"),
    right("+xrange", "XRANGE @events - - COUNT 1"),
    right("+xrevrange", "XREVRANGE @notices - - COUNT 1"),
    right("+xread", "XREAD COUNT 1 STREAMS @events $"),
    right("+xdel", "XDEL @dead 0-0"),
    right("+xlen", "XLEN @events"),
    right("+xtrim", "XTRIM @events MINID 0"),
    right("+xinfo|stream", "XINFO STREAM @events"),
    right("+xinfo|groups", "XINFO GROUPS @events"),
    right("+xinfo|consumers", "XINFO CONSUMERS @events unstale-check"),
    right("+xgroup|create", "XGROUP CREATE @events unstale-check no-id"),
    right("+xgroup|setid", "XGROUP SETID @events unstale-check no-id"),
    right("+xgroup|delconsumer", "XGROUP DELCONSUMER @events unstale-check c"),
    right("+get", "GET @lease"),
    right("+set", "SET @lease x XX PX 0"),
    right("+pttl", "PTTL @lease"),
    right("+pexpire", "PEXPIRE @lease never"),
    right("+del", "DEL @nothing"),
    right("+unlink", "UNLINK @nothing"),
    right("+zadd", "ZADD @beats no-number m"),
    right("+zrange", "ZRANGE @beats 0 0"),
    right("+zrem", "ZREM @beats unstale-check"),
    right("+zscore", "ZSCORE @beats unstale-check"),
    right("+zrangebyscore", "ZRANGEBYSCORE @beats 0 0"),
    right("+zremrangebyscore", "ZREMRANGEBYSCORE @beats no-number 0"),
    right("+hset", "HSET @positions a b unstale-check"),
    right("+hgetall", "HGETALL @positions"),
    right("+hdel", "HDEL @positions unstale-check"),
    right("+memory|usage", "MEMORY USAGE @notices"),
    right("+publish", ""),
];

/// For servers that hold caches.
const CACHE: [Right; 3] = [right("+unlink", "UNLINK @nothing"), right("+scan", "SCAN 0 COUNT 1"), right("+incr", "")];

/// For servers that are nodes of a cluster.
const CLUSTER: [Right; 4] = [
    right("+cluster|slots", "CLUSTER SLOTS"),
    right("+cluster|info", "CLUSTER INFO"),
    right("+cluster|nodes", "CLUSTER NODES"),
    right("+asking", "ASKING"),
];

/// For those of which another database than the first is used.
const NUMBERED: [Right; 1] = [right("+select", "SELECT no-number")];

fn rights(role: Use) -> Vec<&'static Right> {
    let cluster = if role.is_cluster { CLUSTER.as_slice() } else { &[] };
    let bus = if role.is_bus { BUS.as_slice() } else { &[] };
    let cache = if role.is_cache { CACHE.as_slice() } else { &[] };
    let numbered = if role.is_numbered { NUMBERED.as_slice() } else { &[] };
    let mut rights = COMMON.iter().chain(bus).chain(cache).chain(cluster).chain(numbered).collect::<Vec<_>>();
    rights.sort_by_key(|right| right.rule);
    rights.dedup_by_key(|right| right.rule);
    rights
}

/// For sentinels, which have users of their own: to hear of a new master and to ask for it.
const SENTINELS: &str = "resetkeys resetchannels &+switch-master -@all +client|id +client|setname +sentinel|get-master-addr-by-name +sentinel|master +subscribe";

/// The least rights on each server in use, and on the sentinels of those that have some: what they are for, and the command that makes a user
/// with them.
pub fn acls(loaded: &Loaded) -> Vec<(String, String)> {
    let mut acls = Vec::new();
    for (name, role) in servers_in_use(loaded) {
        let sentinels = sentinel_acl(loaded, &name).map(|acl| (format!("{name} sentinels"), acl));
        acls.push((name.clone(), acl(loaded, &name, role)));
        acls.extend(sentinels);
    }
    acls
}

fn sentinel_acl(loaded: &Loaded, name: &str) -> Option<String> {
    let redis = loaded.config.redis.get(name)?;
    let server = redis.server().ok().filter(|server| matches!(server.url.endpoint, Endpoint::Sentinel { .. }))?;
    let user = server.sentinel_username.unwrap_or_else(|| USER.to_owned());
    Some(format!("ACL SETUSER {user} on >PASSWORD {SENTINELS}"))
}

/// The user that is printed if the settings name none.
const USER: &str = "unstale";

/// The least rights, as the command that makes a user with them.
fn acl(loaded: &Loaded, server: &str, role: Use) -> String {
    let redis = loaded.config.redis.get(server);
    let user = redis.and_then(|redis| redis.server().ok()).and_then(|server| server.user().map(str::to_owned));
    let mut words =
        vec!["ACL SETUSER".to_owned(), user.unwrap_or_else(|| USER.to_owned()), "on >PASSWORD resetkeys resetchannels -@all".to_owned()];
    words.extend(key_patterns(loaded, server, role).iter().map(|pattern| quoted(&format!("~{pattern}"))));
    words.extend(channels(loaded, role).iter().map(|channel| quoted(&format!("&{channel}"))));
    words.extend(rights(role).iter().map(|right| right.rule.to_owned()));
    words.join(" ")
}

fn quoted(word: &str) -> String {
    if word.contains([' ', '"', '\\', '\'']) { format!("{word:?}") } else { word.to_owned() }
}

/// Which keys must be reachable. A script declares keys of both kinds, so a server that is both needs both.
fn key_patterns(loaded: &Loaded, server: &str, role: Use) -> Vec<String> {
    let config = &loaded.config;
    let mut patterns = Vec::new();
    if role.is_bus {
        patterns.push(escaped(&format!("{}:", config.namespace)) + "*");
        patterns.extend(config.bus.stream.as_deref().map(escaped));
    }
    for cache in caches_on(loaded, server) {
        patterns.extend(cache.prefixes.iter().map(|prefix| escaped(prefix) + "*"));
    }
    patterns
}

fn channels(loaded: &Loaded, role: Use) -> Vec<String> {
    let republished = loaded.router.republish().iter().map(|republish| escaped(&republish.channel));
    if role.is_bus { std::iter::once(escaped(&loaded.config.names().notices)).chain(republished).collect() } else { Vec::new() }
}

fn escaped(text: &str) -> String {
    let mut pattern = String::new();
    glob::escape(text, &mut pattern);
    pattern
}

/// Tries every right that can be tried without an effect; returns what is missing, as ACL rules.
///
/// # Errors
/// A fault that isn't about rights and keeps the server from being asked.
pub async fn missing(client: &Client, config: &Config, loaded: &Loaded, server: &str, role: Use) -> Result<Vec<String>, Fault> {
    let names = config.names();
    let mut missing = Vec::new();
    for right in rights(role).into_iter().filter(|right| !right.trial.is_empty()) {
        let nothing = if role.is_bus { format!("{}:check", names.notices) } else { nowhere(loaded, server) };
        let words = right.trial.split(' ').map(|word| key(word, &names, &nothing)).collect::<Vec<_>>();
        missing.extend(denied(client, words).await?.filter(|what| what != KEYS).map(|_| right.rule.to_owned()));
    }
    for pattern in key_patterns(loaded, server, role) {
        let key = pattern.replace('\\', "").replace('*', "unstale-check");
        let denied = denied(client, vec!["UNLINK".to_owned(), key]).await?;
        missing.extend(denied.filter(|what| what == KEYS).map(|_| format!("~{pattern}")));
    }
    Ok(missing)
}

/// A key below the first prefix that the server's caches have.
fn nowhere(loaded: &Loaded, server: &str) -> String {
    caches_on(loaded, server).next().map_or_else(String::new, |cache| format!("{}unstale-check", cache.prefixes[0]))
}

/// The caches whose keys are deleted on this server.
fn caches_on<'a>(loaded: &'a Loaded, server: &'a str) -> impl Iterator<Item = &'a Cache> {
    let caches = loaded.router.caches().iter().map(|(_, cache)| cache);
    caches.filter(move |cache| cache.store == Store::Redis && loaded.config.home(cache) == server)
}

fn key(word: &str, names: &Names, nothing: &str) -> String {
    let key = match word {
        "@events" => &names.events,
        "@dead" => &names.dead,
        "@notices" => &names.notices,
        "@lease" => &names.lease,
        "@beats" => &names.beats,
        "@positions" => &names.positions,
        "@nothing" => nothing,
        word => word,
    };
    key.to_owned()
}

/// What [`Fault::missing_right`] says if a key is out of reach.
const KEYS: &str = "keys";

/// What the user lacks for a command, if anything. Of other faults only those count that mean that nobody answers.
async fn denied(client: &Client, words: Vec<String>) -> Result<Option<String>, Fault> {
    use unstale_connect::FaultKind::{Loading, Timeout, Unreachable};
    match client.raw(words.into_iter().map(Into::into).collect()).await {
        Err(fault) if fault.is_denied() => Ok(Some(fault.missing_right().unwrap_or_default())),
        Err(fault) if matches!(fault.kind, Unreachable | Timeout | Loading) => Err(fault),
        _ => Ok(None),
    }
}
