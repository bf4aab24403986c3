//! Precedence, names, and the full text of what is said about mistakes.

use std::path::Path;

use super::*;

const ROUTES: &str = "presets = [\"llm-gateway\"]\n";

/// A configuration in a directory of its own.
struct Case {
    dir: tempfile::TempDir,
    sources: Sources,
}

impl Case {
    fn new(file: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("unstale.toml");
        std::fs::write(&path, file).unwrap();
        Self { dir, sources: Sources { file: Some(path), ..Sources::default() } }
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn set(mut self, setting: &str) -> Self {
        self.sources.set.push(setting.to_owned());
        self
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn load(&self) -> Loaded {
        load(&self.sources).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn config(&self) -> Config {
        self.load().config
    }

    /// What is said about the mistakes, without the name of the directory.
    fn refusal(&self) -> String {
        let text = load(&self.sources).map(|_| ()).expect_err("this must be refused").render(false);
        text.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

fn milliseconds(value: std::time::Duration) -> u128 {
    value.as_millis()
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = Config::default();
    assert_eq!(config.namespace, "unstale");
    assert!(!config.instance.name.is_empty());
    assert_eq!(config.redis["main"].url.as_deref(), Some("redis://127.0.0.1:6379"));
    assert_eq!((config.batching.enabled, config.batching.coalescing, config.batching.max_size), (true, true, 100));
    assert_eq!(milliseconds(config.batching.window), 100);
    assert_eq!(
        (config.notices.max_keys, config.notices.retain, config.notices.retain_bytes, config.notices.publish),
        (1000, 100_000, 64_000_000, true)
    );
    assert_eq!((config.dead_letters.retain, config.dead_letters.retain_bytes), (100_000, 64_000_000));
    assert_eq!((config.limits.entry, config.limits.targets, config.limits.memory), (1 << 20, 10_000, 48 << 20));
    assert_eq!((milliseconds(config.retry.budget), milliseconds(config.retry.critical_budget)), (10_000, 2_000));
    assert_eq!((milliseconds(config.reclaim.min_idle), milliseconds(config.reclaim.critical_min_idle)), (30_000, 5_000));
    assert_eq!(config.reclaim.max_deliveries, 5);
    assert_eq!((config.http.bind.to_string().as_str(), config.http.body, config.http.subscribers), ("127.0.0.1:7863", 1 << 20, 256));
    assert_eq!((config.health.depth, milliseconds(config.health.ping)), (10_000, 100));
    assert_eq!(milliseconds(config.drain.deadline), 20_000);
}

#[test]
fn every_key_can_be_set_in_the_file_and_in_the_environment() {
    let default = Shown::of(&Case::new(ROUTES).load());
    let own = default.settings.iter().filter(|line| !line.key.starts_with("cache.") && line.key != "presets");
    for line in own {
        let text = line.value.as_str().map_or_else(|| line.value.to_string(), str::to_owned);
        let (value, text) = match line.key.as_str() {
            "http.hosts" => ("[\"a\", \"b\"]".to_owned(), "a,b".to_owned()),
            "http.token_file"
            | "redis.main.username"
            | "redis.main.password_file"
            | "redis.main.sentinel_username"
            | "redis.main.sentinel_password_file"
            | "redis.main.ca"
            | "redis.main.cert"
            | "redis.main.key" => continue,
            "http.probe_bind" => ("\"127.0.0.1:1\"".to_owned(), "127.0.0.1:1".to_owned()),
            "bus.stream" => ("\"s\"".to_owned(), "s".to_owned()),
            key if key.starts_with("batching.windows") => ("\"1s\"".to_owned(), "1s".to_owned()),
            _ => (line.value.to_string(), text),
        };
        let (table, key) = line.key.rsplit_once('.').map_or((String::new(), &*line.key), |(table, key)| (format!("[{table}]\n"), key));
        let in_file = Case::new(&format!("{ROUTES}{table}{key} = {value}\n"));
        let in_environment = Case::new(ROUTES).env(&format!("UNSTALE__{}", line.key.to_uppercase().replace('.', "__")), &text);
        assert_eq!(in_file.config(), in_environment.config(), "{}", line.key);
        assert!(
            Shown::of(&in_file.load()).settings.iter().any(|shown| shown.key == line.key && shown.origin.contains("unstale.toml:")),
            "{}",
            line.key
        );
    }
}

#[test]
fn a_profile_is_weaker_than_what_is_set_by_itself() {
    for (profile, window, size, coalescing) in [
        ("default", 100, 100, true),
        ("development", 50, 50, true),
        ("throughput", 200, 500, true),
        ("low-latency", 20, 20, true),
        ("debugging", 50, 10, false),
    ] {
        let file = format!("{ROUTES}[batching]\nprofile = \"{profile}\"\n");
        let Batching { window: is_window, max_size, coalescing: is_coalescing, .. } = Case::new(&file).config().batching;
        assert_eq!((milliseconds(is_window), max_size, is_coalescing), (window, size, coalescing), "{profile}");
        let batching = Case::new(&format!("{file}max_size = 7\n")).set("batching.coalescing=false").config().batching;
        assert_eq!((milliseconds(batching.window), batching.max_size, batching.coalescing), (window, 7, false), "{profile}");
    }
    let case = Case::new(&format!("{ROUTES}[batching]\nprofile = \"development\"\n")).set("batching.profile=throughput");
    let shown = Shown::of(&case.load());
    let line = shown.settings.iter().find(|line| line.key == "batching.window").unwrap();
    assert_eq!((line.value.as_str(), &*line.origin), (Some("200ms"), "profile `throughput`"));
    assert!(Case::new(ROUTES).set("batching.profile=fast").refusal().contains("`throughput`"));
}

#[test]
fn a_stronger_source_wins_over_every_weaker_one() {
    type Add = fn(Case) -> Case;
    let sources: [(&str, Add); 3] = [
        ("300ms", |case| case.set("batching.window=300ms")),
        ("200ms", |case| case.env("UNSTALE__BATCHING__WINDOW", "200ms")),
        ("150ms", |case| case.env("CacheInvalidation__BatchWindow", "150ms")),
    ];
    for subset in 0..1 << sources.len() {
        for in_file in [false, true] {
            let file = if in_file { format!("{ROUTES}[batching]\nwindow = \"120ms\"\n") } else { ROUTES.to_owned() };
            let present = || sources.iter().enumerate().filter(|(index, _)| subset & (1 << index) != 0).map(|(_, source)| source);
            let case = present().fold(Case::new(&file), |case, (_, add)| add(case));
            let expected = present().next().map_or(if in_file { "120ms" } else { "100ms" }, |(value, _)| value);
            assert_eq!(human::format_duration(case.config().batching.window), expected, "{subset:b} {in_file}");
        }
    }
}

#[test]
fn redis_url_ranks_just_above_the_file() {
    let url = |case: Case| case.config().redis["main"].url.clone().unwrap();
    let file = format!("{ROUTES}[redis.main]\nurl = \"redis://file\"\n");
    assert_eq!(url(Case::new(&file)), "redis://file");
    assert_eq!(url(Case::new(&file).env("REDIS_URL", "redis://plain")), "redis://plain");
    assert_eq!(url(Case::new(&file).env("REDIS_URL", "redis://plain").env("UNSTALE__REDIS__MAIN__URL", "redis://own")), "redis://own");
    assert_eq!(url(Case::new(&file).env("REDIS_URL", "")), "redis://file");
}

#[test]
fn names_in_the_environment_are_read_in_any_case() {
    for (name, value) in [
        ("CacheInvalidation__MaxBatchSize", "7"),
        ("CACHEINVALIDATION__MAXBATCHSIZE", "7"),
        ("cacheinvalidation__maxbatchsize", "7"),
        ("CACHEINVALIDATION__MAX_BATCH_SIZE", "7"),
        ("UNSTALE__BATCHING__MAX_SIZE", "7"),
        ("unstale__batching__max_size", " 7 "),
    ] {
        assert_eq!(Case::new(ROUTES).env(name, value).config().batching.max_size, 7, "{name}");
    }
}

#[test]
fn the_four_names_of_dotnet_applications_work_as_written() {
    let config = Case::new(ROUTES)
        .env("CacheInvalidation__BatchingEnabled", "False")
        .env("CacheInvalidation__BatchWindow", "00:00:00.250")
        .env("CacheInvalidation__MaxBatchSize", "50")
        .env("CacheInvalidation__EnableCoalescing", "false")
        .config();
    assert_eq!((config.batching.enabled, config.batching.coalescing, config.batching.max_size), (false, false, 50));
    assert_eq!(milliseconds(config.batching.window), 250);
}

#[test]
fn doubled_and_foreign_variables_are_warned_of() {
    let loaded = Case::new(ROUTES)
        .env("CacheInvalidation__BatchWindow", "1s")
        .env("UNSTALE__BATCHING__WINDOW", "50ms")
        .env("CacheInvalidation__BatchWindw", "1s")
        .env("CacheInvalidation__Topic", "x")
        .load();
    assert_eq!(
        loaded.warnings,
        [
            "environment variable `CacheInvalidation__BatchWindw` names no setting and is ignored; did you mean `CacheInvalidation__BatchWindow`?",
            "environment variable `CacheInvalidation__Topic` names no setting and is ignored",
            "environment variable `UNSTALE__BATCHING__WINDOW` is set, too, and wins over the environment variable `CacheInvalidation__BatchWindow`: unset one of the two",
        ]
    );
}

#[test]
fn lists_are_comma_separated_or_toml() {
    for text in ["a,b", " a , b ,", "[\"a\", \"b\"]"] {
        assert_eq!(Case::new(ROUTES).env("UNSTALE__HTTP__HOSTS", text).config().http.hosts, ["a", "b"], "{text}");
    }
    assert!(Case::new(ROUTES).env("UNSTALE__HTTP__HOSTS", "").config().http.hosts.is_empty());
}

#[test]
fn presets_come_from_everywhere() {
    let rules = |case: Case| case.load().router.rules();
    let one = rules(Case::new(ROUTES));
    assert!(one > 0);
    assert_eq!(rules(Case::new("").env("UNSTALE__PRESETS", "llm-gateway")), one);
    let mut case = Case::new("");
    case.sources.presets.push("llm-gateway".to_owned());
    assert_eq!(rules(case), one);
}

#[test]
fn routes_can_be_set_in_the_environment_too() {
    let second_delete = |case: Case| {
        let loaded = case.load();
        let caches = loaded.router.caches();
        human::format_duration(caches.get(caches.by_name("virtual_key").unwrap()).second_delete)
    };
    assert_eq!(second_delete(Case::new(ROUTES)), "500ms");
    assert_eq!(second_delete(Case::new(ROUTES).env("UNSTALE__PRESET__LLM_GATEWAY__CACHE__VIRTUAL_KEY__SECOND_DELETE", "2s")), "2s");
    let rules = |case: Case| case.load().router.rules();
    let without = Case::new(ROUTES).env("UNSTALE__PRESET__LLM_GATEWAY__WITHOUT", "AsyncTaskUpdated,AsyncTaskDeleted");
    assert_eq!(rules(without), rules(Case::new(ROUTES)) - 1);
    let refused = Case::new(ROUTES).env("UNSTALE__PRESET__LLM_GATEWAY__CACHE__VIRTUAL_KY__SECOND_DELETE", "2s").refusal();
    assert!(refused.contains("UNSTALE__PRESET__LLM_GATEWAY__CACHE__VIRTUAL_KY__SECOND_DELETE"), "{refused}");
}

#[test]
fn a_server_of_ones_own_has_what_main_has() {
    let config = Case::new(&format!("{ROUTES}[redis.other]\nurl = \"redis://other\"\ncommand_timeout = \"1s\"\n"))
        .env("UNSTALE__REDIS__OTHER__USERNAME", "me");
    let config = config.env("UNSTALE__REDIS__OTHER__URL", "redis://:pw@other").config();
    assert_eq!(config.redis["other"].username.as_deref(), Some("me"));
    assert_eq!(milliseconds(config.redis["other"].command_timeout), 1000);
    assert_eq!(milliseconds(config.redis["other"].connect_timeout), 3000);
}

#[test]
fn a_bus_on_a_cluster_lies_in_one_slot_or_is_refused() {
    let on = |namespace: &str, bus: &str| {
        Case::new(&format!("namespace = \"{namespace}\"\n{ROUTES}{bus}[redis.main]\nurl = \"redis-cluster://host:7000\"\n"))
    };
    let refused = on("shop", "").refusal();
    assert!(refused.contains("all keys of `namespace` must lie in one slot"), "{refused}");
    assert!(refused.contains("a hash tag: `namespace = \"{shop}\"`"), "{refused}");
    // An empty tag is none.
    assert!(on("{}shop", "").refusal().contains("must lie in one slot"));
    assert_eq!(on("{shop}", "").config().namespace, "{shop}");

    let refused = on("{shop}", "[bus]\nstream = \"orders\"\n").refusal();
    assert!(refused.contains("`bus.stream`") && refused.contains("the same hash tag, `{shop}`"), "{refused}");
    on("{shop}", "[bus]\nstream = \"orders:{shop}\"\n").config();
}

#[test]
fn a_server_is_found_however_the_environment_has_to_spell_it() {
    let case = Case::new(&format!("{ROUTES}[redis.Cache-2]\nurl = \"redis://a\"\n")).env("UNSTALE__REDIS__CACHE_2__URL", "redis://b");
    let redis = case.config().redis;
    assert_eq!(redis.keys().collect::<Vec<_>>(), ["Cache-2", "main"]);
    assert_eq!(redis["Cache-2"].url.as_deref(), Some("redis://b"));
}

#[test]
fn a_number_is_a_fine_password_and_namespace() {
    let case = Case::new(ROUTES);
    let path = case.write("password", "12345\n");
    let case = case.env("UNSTALE__REDIS__MAIN__PASSWORD_FILE", &path).env("UNSTALE__NAMESPACE", "12345");
    let config = case.config();
    assert_eq!(config.namespace, "12345");
    let password = config.redis["main"].server().unwrap().password.unwrap().read().unwrap();
    assert_eq!(password.reveal(), "12345");
    assert!(!format!("{:?} {:?}", config.redis, config.redis["main"].server()).contains("12345"));
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_place() {
    let case = Case::new(
        "presets = [\"llm-gateway\"]
[batching]
window = 100
max-size = 5
[bus]
unrouted = \"dead-leter\"
[htp]
bind = \"0.0.0.0\"
[http]
bind = \"all:80\"
[reclaim]
min_idle = \"5s\"
",
    );
    let case = case
        .env("UNSTALE__BATCHING__MAX_SIZE", "many")
        .env("CacheInvalidation__BatchWindow", "soon")
        .env("UNSTALE__BATCHNG__WINDOW", "1s")
        .env("UNSTALE__BATCHING", "1s")
        .set("log.level=inof");
    same_text(&case.refusal(), include_str!("tests/mistakes.txt"));
}

#[test]
fn mistakes_in_settings_and_in_routes_are_told_together() {
    let case = Case::new(
        "[batching]
windw = \"1s\"
[cache.product]
prefixes = [\"product:\"]
[[route]]
event = \"ProductUpdated\"
cache = \"produkt\"
keys = [\"product:{id}\"]
",
    );
    same_text(&case.refusal(), include_str!("tests/together.txt"));
}

#[test]
fn a_file_that_is_no_toml_does_not_hide_the_environment() {
    let text = Case::new("[batching\nwindow = \"1s\"\n").env("UNSTALE__BATCHING__WINDOW", "soon").refusal();
    assert!(text.contains("not TOML") && text.contains("unstale.toml:1"), "{text}");
    assert!(text.contains("UNSTALE__BATCHING__WINDOW"), "{text}");
}

#[test]
fn a_missing_file_is_a_mistake_only_if_it_was_named() {
    let case = Case::new("");
    let missing = Sources { file: Some(case.dir.path().join("nowhere.toml")), ..Sources::default() };
    let text = load(&missing).map(|_| ()).unwrap_err().render(false);
    assert!(text.contains("nowhere.toml") && text.contains("can't be read"), "{text}");
    assert!(!Path::new(DEFAULT_FILE).exists());
    assert!(load(&Sources { presets: vec!["llm-gateway".into()], ..Sources::default() }).is_ok());
}

#[test]
fn rules_that_tie_settings_together() {
    let refused = |file: &str, part: &str| {
        let text = Case::new(&format!("{ROUTES}{file}")).refusal();
        assert!(text.contains(part), "{file}: {text}");
        assert!(text.contains("help: ") || text.contains(" must be "), "{file}: {text}");
    };
    refused("[reclaim]\nmin_idle = \"10s\"", "`reclaim.min_idle` (10s) must exceed");
    refused("[retry]\nbudget = \"1m\"", "`retry.budget` (1m) plus the longest `second_delete`");
    refused("[reclaim]\ncritical_min_idle = \"2s\"", "`reclaim.critical_min_idle` (2s) must exceed");
    refused("[http]\nbind = \"0.0.0.0:7863\"", "so it needs `http.token_file`");
    refused("[http]\nbind = \"[::ffff:10.0.0.1]:7863\"", "so it needs `http.token_file`");
    refused("[http]\nprobe_bind = \"127.0.0.1:7863\"", "the same address");
    refused("[bus]\nredis = \"other\"", "names the server `other`");
    refused("[bus]\nstream = \"unstale:events:dead\"", "`bus.stream` must name a stream");
    refused("[redis.other]\nusername = \"x\"", "`redis.other.url` is missing");
    refused("[redis.main]\ncert = \"x\"", "`cert` and `key`");
    refused("[redis.main]\nurl = \"http://x\"", "unknown scheme `http://`");
    refused("[limits]\nmemory = \"1MiB\"", "must be at least four times `limits.entry` (1MiB)");
    refused("[limits]\nentry = 10", "must be from `1KiB` to `512MiB`");
    refused("[limits]\ntargets = 0", "must be at least 1");
    refused("[limits]\ntargets = -1", "must be a whole number, 0 or more, not `-1`");
    refused("[batching]\nwindow = \"2h\"", "must be at most `1h`");
    refused("[batching]\nmax_size = 0", "must be from 1 to 100000");
    refused("[batching.windows]\ncritical = \"1s\"", "no setting `batching.windows.critical`");
    refused("[health]\nerror_rate = 5", "must be from 0 to 1");
    refused("[reclaim]\nmax_deliveries = 1", "must be at least 4");
    refused("[log]\nlevel = \"loud\"", "\"loud\" is no level");
    refused("[redis]\nurl = \"redis://x\"", "did you mean `redis.main.url`?");
    refused("[redis.main]\npasword = \"x\"", "put the password into a file and name that with `redis.main.password_file`");
    refused("[http]\nbind = 80", "`http.bind` must be an address with its port, such as `127.0.0.1:7863`, not `80`");
    refused("window = \"1s\"", "did you mean `batching.window`?");
    refused("namespace = \"a b\"", "without blanks");
}

#[test]
fn a_caches_home_is_that_of_the_bus_if_they_share_a_database() {
    let cache = "[cache.product]\nprefixes = [\"product:\"]\nredis = \"other\"\n[redis.other]\nurl = ";
    for (url, home) in [("redis://127.0.0.1:6379/1", "other"), ("redis://127.0.0.1:6379/0", "main"), ("redis://elsewhere", "other")] {
        let loaded = Case::new(&format!("{cache}\"{url}\"")).load();
        let (_, product) = loaded.router.caches().iter().next().unwrap();
        assert_eq!(loaded.config.home(product), home, "{url}");
    }
}

#[test]
fn beyond_loopback_with_a_token_is_fine() {
    let case = Case::new(ROUTES);
    let path = case.write("token", "t0k3n\n");
    let case = case.env("UNSTALE__HTTP__BIND", "0.0.0.0:0").env("UNSTALE__HTTP__TOKEN_FILE", &path);
    let config = case.config();
    assert_eq!(config.http.token().unwrap().as_ref().map(unstale_connect::Secret::reveal), Some("t0k3n"));
}

#[test]
fn without_a_route_it_says_how_to_name_one() {
    let loaded = Case::new("").load();
    let text = loaded.require_routes().unwrap_err().render(false);
    assert!(text.contains("there are no routes") && text.contains("`--preset llm-gateway`") && text.contains("[[route]]"), "{text}");
    assert!(Case::new(ROUTES).load().require_routes().is_ok());
}

#[test]
fn one_setting_set_twice_to_different_values_is_refused() {
    let text = Case::new(ROUTES).env("UNSTALE__BATCHING__WINDOW", "1s").env("unstale__batching__window", "2s").refusal();
    assert!(text.contains("to another value"), "{text}");
    Case::new(ROUTES).env("UNSTALE__BATCHING__WINDOW", "1s").env("unstale__batching__window", "1s").load();
}

/// Every way in which a secret can stand in the wrong place.
#[test]
fn secrets_are_in_no_output() {
    let files = [
        "[redis.main]\npassword = \"hunter2\"\n",
        "[redis.main]\npasswort = \"hunter2\"\nurl = 5\n",
        "[redis.main]\nurl = \"redis://:hunter2@h:port\"\n",
        "[redis.main]\nurl = \"redis://:a/hunter2@h\"\n",
        "[redis.main]\nurl = \"redis://:hunter2@h\"\nfoo = 1\n",
        "redis.main = { url = \"redis://me:hunter2@h\", foo = 1 }\n",
        "redis.main = { url = [\"redis://me:hunter2@h\"] }\n",
        "[redis]\nmain = \"redis://:hunter2@h\"\n",
        "[redis]\nurl = \"redis://:hunter2@h\"\n",
        "redis = \"redis://:hunter2@h\"\n",
        "redis_password = \"hunter2\"\n",
        "[redis.main]\npassword_file = \"hunter2\"\n",
        "[redis.main]\nsentinel_password_file = \"hunter2\"\n",
        "[redis.main]\npassword_file = 1\nurl = \"redis://:hunter2@h\"\n",
        "[http]\ntoken_file = \"hunter2\"\n",
        "[http]\ntoken = \"hunter2\"\n",
        "[http\ntoken = \"hunter2\"\n",
        "[redis.main]\nurl = \"redis://:hunter2@h\n",
        "x = redis://:hunter2@h\n",
    ];
    for file in files {
        let text = Case::new(file).refusal();
        assert!(!text.contains("hunter2"), "{file}\n{text}");
        assert!(text.contains("unstale.toml:"), "{file}\n{text}");
    }
    for (name, value) in [
        ("UNSTALE__REDIS__MAIN__PASSWORD", "hunter2"),
        ("UNSTALE__REDIS__MAIN__PASSWORD_FILE", "hunter2"),
        ("UNSTALE__REDIS__MAIN__URL", "redis://:hunter2@h:port"),
        ("UNSTALE__REDIS__MAIN", "redis://:hunter2@h"),
        ("UNSTALE__REDIS", "redis://:hunter2@h"),
        ("UNSTALE__REDIS_URL", "redis://:hunter2@h"),
        ("UNSTALE__HTTP__TOKEN", "hunter2"),
        ("REDIS_URL", "redis//:hunter2@h"),
    ] {
        let text = Case::new(ROUTES).env(name, value).refusal();
        assert!(!text.contains("hunter2") && text.contains(name), "{name}\n{text}");
    }
    let shown = Case::new(&format!("{ROUTES}[redis.main]\nurl = \"redis://me:hunter2@h\"\n")).load();
    for text in [Shown::of(&shown).to_string(), serde_json::to_string(&Shown::of(&shown)).unwrap(), format!("{shown:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(Shown::of(&shown).to_string().contains("redis://me:***@h"));
}

#[test]
fn show_names_the_origin_of_every_value() {
    let case =
        Case::new(&format!("{ROUTES}[batching]\nwindow = \"120ms\"\n")).env("UNSTALE__BATCHING__MAX_SIZE", "9").set("log.level=debug");
    let shown = Shown::of(&case.load());
    let origin = |key: &str| shown.settings.iter().find(|line| line.key == key).map(|line| line.origin.clone()).unwrap();
    assert!(origin("batching.window").ends_with("unstale.toml:3"), "{}", origin("batching.window"));
    assert_eq!(origin("batching.max_size"), "environment variable `UNSTALE__BATCHING__MAX_SIZE`");
    assert_eq!(origin("log.level"), "flag `--set log.level`");
    assert_eq!(origin("namespace"), "default");
}

/// Compares with a kept text; a difference is shown whole.
fn same_text(found: &str, kept: &str) {
    assert!(found == kept, "found:\n{found}\n\nkept:\n{kept}");
}
