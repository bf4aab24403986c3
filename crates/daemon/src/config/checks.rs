//! What must hold of the values: ranges, names, and rules that tie several settings together.
//!
//! Every check looks at the final configuration and blames the place that set it; nothing here stops at the first mistake.

use std::time::Duration;

use unstale_connect::{Endpoint, Password, Secret, Server};
use unstale_router::{Problem, Router};
use unstale_source::Names;

use super::human::{format_duration, format_size};
use super::layers::Setting;
use super::secret;
use super::settings::{Config, Http, Redis};

/// A configuration under examination.
pub(super) struct Checks<'a> {
    config: &'a Config,
    settings: &'a [Setting],
    problems: Vec<Problem>,
}

impl<'a> Checks<'a> {
    /// All checks that need no routes.
    pub(super) fn of_settings(config: &'a Config, settings: &'a [Setting]) -> Vec<Problem> {
        let mut checks = Self { config, settings, problems: Vec::new() };
        checks.names();
        checks.batching();
        checks.sizes();
        checks.times();
        checks.servers();
        checks.one_slot();
        checks.http();
        checks.log();
        checks.problems
    }

    /// The checks that tie settings and caches together.
    pub(super) fn of_caches(config: &'a Config, settings: &'a [Setting], router: &Router) -> Vec<Problem> {
        let longest = router.caches().iter().map(|(_, cache)| cache.second_delete).max().unwrap_or_default();
        let mut checks = Self { config, settings, problems: Vec::new() };
        checks.reclaim(longest);
        checks.problems
    }

    /// Blames the first of these keys that somebody set.
    fn refuse(&mut self, keys: &[&str], message: impl Into<String>, help: impl Into<String>) {
        let (message, help) = (message.into(), Some(help.into()));
        let blamed = keys.iter().find_map(|key| self.settings.iter().rev().find(|setting| setting.key() == *key));
        self.problems
            .push(blamed.map_or_else(|| unplaced(&message, help.clone()), |setting| setting.origin.problem(&*message, help.clone())));
    }

    fn require(&mut self, holds: bool, key: &str, must: &str, found: &str) {
        if !holds {
            self.refuse(&[key], format!("`{key}` must {must}, not {found}"), "see `unstale config schema` for what each setting means");
        }
    }

    fn names(&mut self) {
        let plain = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || "*?[]\\".contains(c));
        let (namespace, instance) = (&self.config.namespace, &self.config.instance.name);
        self.require(plain(namespace), "namespace", "be a text without blanks and without `*?[]\\`", &format!("{namespace:?}"));
        self.require(plain(instance), "instance.name", "be a text without blanks and without `*?[]\\`", &format!("{instance:?}"));
        if !self.config.redis.contains_key(&self.config.bus.redis) {
            let name = &self.config.bus.redis;
            let known = self.config.redis.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let help = format!("declare it as `[redis.{name}]` with its `url`; declared are {known}");
            self.refuse(&["bus.redis"], format!("`bus.redis` names the server `{name}`, which is not declared"), help);
        }
        if let Some(stream) = &self.config.bus.stream {
            let taken = Names::new(&self.config.namespace, None).keys().iter().skip(1).any(|name| name == stream);
            self.require(
                !stream.is_empty() && !taken,
                "bus.stream",
                "name a stream that is no other key of this program",
                &format!("{stream:?}"),
            );
        }
    }

    fn batching(&mut self) {
        const LONGEST: Duration = Duration::from_secs(3600);
        let batching = &self.config.batching;
        let windows = [
            ("batching.window", Some(batching.window)),
            ("batching.windows.high", batching.windows.high),
            ("batching.windows.normal", batching.windows.normal),
            ("batching.windows.low", batching.windows.low),
        ];
        for (key, window) in windows {
            let window = window.unwrap_or_default();
            self.require(window <= LONGEST, key, "be at most `1h`", &format!("`{}`", format_duration(window)));
        }
        self.require(
            (1..=100_000).contains(&batching.max_size),
            "batching.max_size",
            "be from 1 to 100000",
            &batching.max_size.to_string(),
        );
    }

    fn sizes(&mut self) {
        let (limits, notices, dead) = (&self.config.limits, &self.config.notices, &self.config.dead_letters);
        let size = |bytes: u64| format!("`{}`", format_size(bytes));
        self.require((1024..=512 << 20).contains(&limits.entry), "limits.entry", "be from `1KiB` to `512MiB`", &size(limits.entry));
        self.require(limits.targets > 0, "limits.targets", "be at least 1", "0");
        self.require((1..=100_000).contains(&notices.max_keys), "notices.max_keys", "be from 1 to 100000", &notices.max_keys.to_string());
        self.require(notices.retain > 0, "notices.retain", "be at least 1", "0");
        self.require(notices.retain_bytes > 0, "notices.retain_bytes", "be more than nothing", "0");
        self.require(dead.retain > 0, "dead_letters.retain", "be at least 1", "0");
        self.require(dead.retain_bytes > 0, "dead_letters.retain_bytes", "be more than nothing", "0");
        self.require(self.config.http.body > 0, "http.body", "be more than nothing", "0");
        if limits.memory < limits.entry.saturating_mul(4) {
            let message = format!(
                "`limits.memory` ({}) must be at least four times `limits.entry` ({})",
                format_size(limits.memory),
                format_size(limits.entry)
            );
            self.refuse(
                &["limits.memory", "limits.entry"],
                message,
                "each lane must have room for one entry; raise the one or lower the other",
            );
        }
    }

    fn times(&mut self) {
        let config = self.config;
        let positive = [
            ("retry.budget", config.retry.budget),
            ("retry.critical_budget", config.retry.critical_budget),
            ("health.ping", config.health.ping),
            ("health.oldest_pending", config.health.oldest_pending),
            ("probe.timeout", config.probe.timeout),
        ];
        for (key, value) in positive {
            self.require(!value.is_zero(), key, "be longer than nothing", "`0s`");
        }
        let interval = config.probe.interval;
        let found = format!("`{}`", format_duration(interval));
        self.require(
            interval.is_zero() || interval >= Duration::from_millis(100),
            "probe.interval",
            "be at least `100ms`, or `0s`",
            &found,
        );
        let deliveries = config.reclaim.max_deliveries;
        self.require(
            deliveries >= 4,
            "reclaim.max_deliveries",
            "be at least 4: an entry is delivered alone from the fourth time on",
            &deliveries.to_string(),
        );
        let rate = config.health.error_rate;
        self.require((0.0..=1.0).contains(&rate), "health.error_rate", "be from 0 to 1", &rate.to_string());
    }

    /// A slow delivery must not be taken over while it is at work.
    fn reclaim(&mut self, second_delete: Duration) {
        let (reclaim, retry) = (&self.config.reclaim, &self.config.retry);
        for (idle_key, idle, budget_key, budget) in [
            ("reclaim.min_idle", reclaim.min_idle, "retry.budget", retry.budget),
            ("reclaim.critical_min_idle", reclaim.critical_min_idle, "retry.critical_budget", retry.critical_budget),
        ] {
            let busy = budget.saturating_add(second_delete);
            if idle <= busy {
                let (idle, busy, budget, second) =
                    (format_duration(idle), format_duration(busy), format_duration(budget), format_duration(second_delete));
                let message = format!(
                    "`{idle_key}` ({idle}) must exceed {busy}: `{budget_key}` ({budget}) plus the longest `second_delete` ({second})"
                );
                self.refuse(
                    &[idle_key, budget_key],
                    message,
                    format!("raise `{idle_key}`, or entries are taken over while they are worked on"),
                );
            }
        }
    }

    fn servers(&mut self) {
        for (name, redis) in &self.config.redis {
            let below = format!("redis.{name}.");
            let mut set = self.settings.iter().map(Setting::key).filter(|key| key.starts_with(&below)).collect::<Vec<_>>();
            set.sort_by_key(|key| *key != format!("{below}url"));
            let set = set.iter().map(String::as_str).collect::<Vec<_>>();
            if redis.url.as_deref().is_none_or(str::is_empty) {
                let help = format!("write `url = \"redis://HOST:6379\"` under `[redis.{name}]`");
                self.refuse(&set, format!("`{below}url` is missing"), help);
            } else if let Some((key, message)) = redis.unusable_password() {
                let key = format!("{below}{key}");
                self.refuse(&[&key], format!("the file that `{key}` names {message}"), "write the password, and nothing else, into it");
            } else {
                for mistake in redis.mistakes() {
                    self.refuse(
                        &set,
                        format!("`redis.{name}`: {mistake}"),
                        "write the URL like `redis://HOST:6379/0`, `rediss://HOST`, `unix:///run/redis.sock`, `redis-sentinel://HOST:26379?master=NAME` or `redis-cluster://HOST:6379`",
                    );
                }
            }
        }
    }

    /// The scripts of the bus name several of its keys, and on a cluster those must lie in one slot.
    fn one_slot(&mut self) {
        let Some(Ok(bus)) = self.config.redis.get(&self.config.bus.redis).map(Redis::server) else { return };
        if !matches!(bus.url.endpoint, Endpoint::Cluster { .. }) {
            return;
        }
        let names = self.config.names();
        let tag = hash_tag(&names.notices);
        if tag.is_none() {
            let message = format!("the bus (`{}`) is on a cluster, so all keys of `namespace` must lie in one slot", self.config.bus.redis);
            let help = format!("put the name into braces, a hash tag: `namespace = \"{{{}}}\"`", self.config.namespace);
            self.refuse(&["namespace", "bus.redis"], message, help);
        } else if hash_tag(&names.events) != tag {
            let message = format!("the bus is on a cluster, so `bus.stream` ({:?}) must lie in one slot with `namespace`", names.events);
            let help = format!("let the stream's name contain the same hash tag, `{{{}}}`", tag.unwrap_or_default());
            self.refuse(&["bus.stream"], message, help);
        }
    }

    fn http(&mut self) {
        let http = &self.config.http;
        if !http.bind.ip().to_canonical().is_loopback() && http.token_file.is_none() {
            let message = format!("`http.bind` ({}) can be reached from other hosts, so it needs `http.token_file`", http.bind);
            self.refuse(
                &["http.bind"],
                message,
                "name a file that holds a secret token, or bind to 127.0.0.1; for probes alone there is `http.probe_bind`",
            );
        }
        if let Err(message) = http.token() {
            self.refuse(
                &["http.token_file"],
                format!("the file that `http.token_file` names {message}"),
                "write the token, and nothing else, into it",
            );
        }
        if http.probe_bind.is_some_and(|probe| probe == http.bind && probe.port() != 0) {
            self.refuse(
                &["http.probe_bind", "http.bind"],
                "`http.probe_bind` and `http.bind` are the same address",
                "give `http.probe_bind` another port",
            );
        }
    }

    fn log(&mut self) {
        if let Err(message) = crate::telemetry::parse_level(&self.config.log.level) {
            self.refuse(
                &["log.level"],
                format!("`log.level`: {message}"),
                "write `error`, `warn`, `info`, `debug`, `trace` or `off`, or as in `info,unstale_sink=debug`",
            );
        }
    }
}

/// What a cluster hashes of a key instead of the whole of it.
fn hash_tag(key: &str) -> Option<&str> {
    let (_, rest) = key.split_once('{')?;
    rest.split_once('}').map(|(tag, _)| tag).filter(|tag| !tag.is_empty())
}

/// A problem with what nobody set.
fn unplaced(message: &str, help: Option<String>) -> Problem {
    Problem { source: "configuration".to_owned(), span: None, message: message.to_owned(), help }
}

impl Redis {
    /// Which of `password_file` and `sentinel_password_file` can't be used now, and what is wrong with the file; neither its name nor what is in
    /// it, for the name may be a password that was put into the wrong place.
    fn unusable_password(&self) -> Option<(&'static str, String)> {
        let files = [("password_file", &self.password_file), ("sentinel_password_file", &self.sentinel_password_file)];
        files.into_iter().find_map(|(key, path)| Some((key, Secret::read(path.as_deref()?).err()?)))
    }

    /// The server as `unstale_connect` takes it.
    ///
    /// # Errors
    /// What is wrong with the URL. Nothing, if the configuration was checked.
    pub fn server(&self) -> Result<Server, String> {
        let url = self.url.as_deref().unwrap_or_default();
        if secret::userinfo(url).is_some_and(|info| url[info].contains(['/', '?', '#'])) {
            return Err(
                "before the `@` of `url` there is a `/`, `?` or `#`; write it as `%2F`, `%3F` or `%23`, or use `password_file`".to_owned()
            );
        }
        let mut server = url.parse::<Server>().map_err(|error| format!("`url`: {error}"))?;
        server.username.clone_from(&self.username);
        server.sentinel_username.clone_from(&self.sentinel_username);
        [server.password, server.sentinel_password] =
            [&self.password_file, &self.sentinel_password_file].map(|path| path.clone().map(Password::File));
        (server.ca, server.cert, server.key) = (self.ca.clone(), self.cert.clone(), self.key.clone());
        (server.connect_timeout, server.command_timeout) = (self.connect_timeout, self.command_timeout);
        Ok(server)
    }

    fn mistakes(&self) -> Vec<String> {
        self.server().map_or_else(|mistake| vec![mistake], |server| server.problems())
    }
}

impl Http {
    /// The token that `token_file` holds. The error is as that of [`Secret::read`].
    pub fn token(&self) -> Result<Option<Secret>, String> {
        self.token_file.as_deref().map(Secret::read).transpose()
    }
}
