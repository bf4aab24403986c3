//! The built program, from outside: what it prints, and how it ends.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

mod kit;
mod service;
mod tools;

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use unstale_testkit::{Redis, wait_until_sync};

use kit::{Bench, Ended, PATIENCE, ROUTES, Running, nobody, wait_gone};

#[test]
fn wrong_use_ends_with_2() {
    let bench = Bench::new(ROUTES);
    for args in [
        &["publsh"][..],
        &[],
        &["run", "--nonsense"],
        &["publish", "X", "no-value"],
        &["invalidate"],
        &["explain"],
        &["publish", "X", "--data", "[1"],
    ] {
        assert_eq!(bench.run(args).code, Some(2), "{args:?}: {:#?}", bench.run(args));
    }
    bench.run(&["--help"]).with(0);
}

#[test]
fn the_version_names_the_commit() {
    let told = Bench::new(ROUTES).run(&["--version"]).with(0).out;
    let git = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let head = git.ok().filter(|git| git.status.success()).map(|git| String::from_utf8(git.stdout).unwrap());
    let commit = std::env::var("UNSTALE_COMMIT").ok().or(head).unwrap_or_else(|| "unknown".to_owned());
    let named =
        told.trim().strip_prefix(concat!("unstale ", env!("CARGO_PKG_VERSION"), " (commit ")).and_then(|rest| rest.strip_suffix(')'));
    let named = named.map(|named| named.trim_end_matches("-dirty"));
    assert!(named.is_some_and(|named| named.len() >= 7 && commit.starts_with(named)), "{told:?}, and git has {commit}");
}

#[test]
fn a_bad_configuration_ends_with_64_and_all_that_is_wrong() {
    let bench = Bench::new("[batching]\nwindw = 1\n[[route]]\nevent = \"X\"\ncache = \"nope\"\nkeys = [\"a\"]\n")
        .env("UNSTALE__LOG__LEVEL", "loud");
    for args in [&["run"][..], &["check"], &["publish", "X"], &["invalidate", "k"], &["explain", "x.json"], &["config", "show"]] {
        let ended = bench.run(args).with(64);
        for part in ["unstale.toml:2:1", "`batching.windw`", "unstale.toml:5:9", "`nope`", "UNSTALE__LOG__LEVEL", "\"loud\" is no level"] {
            assert!(ended.err.contains(part), "{args:?} {part}: {}", ended.err);
        }
        assert!(ended.out.is_empty());
    }
}

#[test]
fn without_a_route_run_says_how_to_name_one() {
    let bench = Bench::new("");
    for args in [["run"], ["check"]] {
        let ended = bench.run(&args).with(64);
        assert!(ended.err.contains("--preset llm-gateway") && ended.err.contains("[[route]]"), "{}", ended.err);
    }
}

#[test]
fn check_fails_if_the_server_is_unreachable() {
    let url = nobody();
    let ended = Bench::with(&url).run(&["check", "--set", "redis.main.connect_timeout=300ms"]).with(1);
    assert!(ended.out.contains("FAIL  redis.main") && ended.out.contains(&url) && ended.out.contains("REDIS_URL"), "{}", ended.out);
}

#[test]
fn check_is_content_with_a_fresh_server_and_changes_nothing() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    let ended = bench.run(&["check"]).with(0);
    for part in ["2 routes, 1 caches", "all rights are there", "eviction policy is noeviction", "`unstale:events` isn't there yet"] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
    assert_eq!(redis.cmd(&["DBSIZE"]).int(), 0);
    let report = bench.run(&["check", "--json"]).with(0).json();
    assert!(report["findings"].as_array().unwrap().iter().all(|finding| finding["state"] == "ok"), "{report}");
}

#[test]
fn check_leaves_a_stream_in_use_as_it_is() {
    let redis = Redis::start_sync();
    redis.cmd(&["XADD", "unstale:events", "1-1", "type", "ProductUpdated", "product_id", "1"]);
    redis.cmd(&["XADD", "unstale:events", "1-2", "type", "ProductUpdated", "product_id", "2"]);
    redis.cmd(&["XGROUP", "CREATE", "unstale:events", "unstale", "0"]);
    redis.cmd(&["XREADGROUP", "GROUP", "unstale", "c", "COUNT", "1", "STREAMS", "unstale:events", ">"]);
    redis.cmd(&["SET", "unstale:reader", "somebody", "PX", "60000"]);
    redis.cmd(&["ZADD", "unstale:instances", "5", "somebody"]);
    redis.cmd(&["HSET", "unstale:positions", "somebody", "1-1/1"]);
    let state = || {
        let dump = |key: &str| redis.cmd(&["DUMP", key]);
        (
            ["unstale:events", "unstale:instances", "unstale:positions"].map(dump),
            redis.cmd(&["GET", "unstale:reader"]),
            redis.cmd(&["DBSIZE"]),
        )
    };
    let before = state();
    let ended = Bench::with(&redis.url()).run(&["check"]).with(0);
    assert!(ended.out.contains("1 pending"), "{}", ended.out);
    assert!(before == state());
    assert!(redis.cmd(&["PTTL", "unstale:reader"]).int() > 0);
}

#[test]
fn check_names_a_key_of_the_wrong_type() {
    let redis = Redis::start_sync();
    redis.cmd(&["SET", "unstale:events", "x"]);
    let ended = Bench::with(&redis.url()).run(&["check"]).with(1);
    assert!(
        ended.out.contains("the key `unstale:events` is a string, but must be a stream") && ended.out.contains("set `namespace`"),
        "{}",
        ended.out
    );
}

#[test]
fn check_warns_of_an_eviction_policy_that_can_take_the_streams() {
    let redis = Redis::builder().args(["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"]).start_sync();
    let ended = Bench::with(&redis.url()).run(&["check"]).with(0);
    assert!(ended.out.contains("warn  redis.main") && ended.out.contains("allkeys-lru"), "{}", ended.out);
}

#[test]
fn check_tells_a_wrong_password_from_a_missing_one_and_shows_neither() {
    let redis = Redis::start_sync();
    redis.cmd(&["ACL", "SETUSER", "app", "on", ">hunter2", "allkeys", "allchannels", "+@all"]);
    let bench = Bench::with(&redis.url().replace("redis://", "redis://app:hunter3@"));
    let ended = bench.run(&["check", "--set", "redis.main.connect_timeout=1s"]).with(1);
    assert!(ended.out.contains("FAIL  redis.main") && ended.out.contains("password_file"), "{}", ended.out);
    assert!(!format!("{ended:?}").contains("hunter"), "{ended:?}");
    let bench = Bench::with(&redis.url());
    bench.write("password", "hunter2\n");
    bench.run(&["check", "--set", "redis.main.username=app", "--set", "redis.main.password_file=password"]).with(0);
}

#[test]
fn the_printed_rights_are_enough_and_each_missing_one_is_named() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    let acl = bench.run(&["check", "--acl", "--json"]).with(0).json();
    let acl = acl["main"].as_str().unwrap().replace("PASSWORD", "secret");
    redis.cmd(&acl.split(' ').collect::<Vec<_>>());
    let bench = Bench::with(&redis.url().replace("redis://", "redis://unstale:secret@"));
    let ended = bench.run(&["check"]).with(0);
    assert!(ended.out.contains("all rights are there"), "{}", ended.out);
    bench.run(&["publish", "ProductUpdated", "product_id=7"]).with(0);
    // Redis 6.2 can't take a single subcommand away.
    let no_create = ["-xgroup", "+xgroup|setid", "+xgroup|delconsumer"];
    for (taken, named) in [(&["-xadd"][..], "+xadd"), (&["-unlink"], "+unlink"), (&no_create, "+xgroup|create"), (&["-zadd"], "+zadd")] {
        redis.cmd(&[&["ACL", "SETUSER", "unstale"], taken].concat());
        let ended = bench.run(&["check"]).with(1);
        assert!(ended.out.contains(&format!("the user lacks 1 of its rights: {named}")), "{}", ended.out);
        redis.cmd(&["ACL", "SETUSER", "unstale", named]);
    }
    redis.cmd(&["ACL", "SETUSER", "unstale", "resetkeys", "~unstale:*"]);
    let ended = bench.run(&["check"]).with(1);
    assert!(ended.out.contains("~product:*"), "{}", ended.out);
}

/// The file for those who keep users in files: the preset's rights, as they are printed, and a server takes it.
#[test]
fn the_shipped_user_has_the_rights_that_are_printed() {
    let file = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/redis/unstale.acl")).unwrap();
    let acl = Bench::new("").run(&["check", "--acl", "--json", "--preset", "llm-gateway"]).with(0).json();
    let printed = acl["main"].as_str().unwrap().replacen("ACL SETUSER", "user", 1);
    assert_eq!(file.trim_end(), printed, "deploy/redis/unstale.acl: make the line anew, as docs/configuration.md says");
    let dir = tempfile::tempdir().unwrap();
    let users = dir.path().join("unstale.acl");
    std::fs::write(&users, file.replace("PASSWORD", "secret")).unwrap();
    let redis = Redis::builder().args(["--aclfile", users.to_str().unwrap()]).start_sync();
    assert_eq!(redis.cmd(&["AUTH", "unstale", "secret"]).text(), "OK");
}

#[test]
fn publish_adds_to_the_stream_that_the_routes_say_and_prints_the_id() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    let id = bench.run(&["publish", "ProductUpdated", "product_id=7", "note=a=b"]).with(0).out;
    let entries = redis.cmd(&["XRANGE", "unstale:events", "-", "+"]);
    assert_eq!(entries.array()[0].array()[0].text(), id.trim());
    assert_eq!(entries.array()[0].array()[1].texts(), ["type", "ProductUpdated", "product_id", "7", "note", "a=b"]);
    let added = bench.run(&["publish", "ProductDeleted", "--data", "{\"product_id\": 7}", "--json"]).with(0).json();
    assert_eq!(added["stream"], "unstale:events:critical");
    assert_eq!(redis.cmd(&["XRANGE", "unstale:events:critical", "-", "+"]).array()[0].array()[0].text(), added["id"].as_str().unwrap());
}

#[test]
fn publish_refuses_what_could_only_be_a_dead_letter_and_warns_of_the_unknown() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    let ended = bench.run(&["publish", "ProductUpdated", "id=7"]).with(1);
    assert!(ended.err.contains("missing_attribute") && ended.err.contains("product_id"), "{}", ended.err);
    assert_eq!(redis.cmd(&["DBSIZE"]).int(), 0);
    let ended = bench.run(&["publish", "ProductUpdatd", "product_id=7"]).with(0);
    assert!(ended.err.contains("no route names `ProductUpdatd`"), "{}", ended.err);
}

#[test]
fn publish_fails_if_nobody_is_there() {
    let ended =
        Bench::with(&nobody()).run(&["publish", "ProductUpdated", "product_id=7", "--set", "redis.main.connect_timeout=300ms"]).with(1);
    assert!(ended.err.contains("can't use redis://"), "{}", ended.err);
}

#[test]
fn invalidate_publishes_the_request() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    bench
        .run(&["invalidate", "product:1", "product:2", "--pattern", "product:3:*", "--priority", "critical", "--operation", "import"])
        .with(0);
    let entries = redis.cmd(&["XRANGE", "unstale:events:critical", "-", "+"]);
    let fields = entries.array()[0].array()[1].texts();
    let expected = [
        "type",
        "CacheInvalidationRequested",
        "keys",
        "[\"product:1\",\"product:2\"]",
        "patterns",
        "[\"product:3:*\"]",
        "operation",
        "import",
        "priority",
        "critical",
    ];
    assert_eq!(fields, expected);
    let ended = bench.run(&["invalidate", "product:1", "session:1"]).with(1);
    assert!(ended.err.contains("refused_target") && ended.err.contains("nothing was published"), "{}", ended.err);
    assert_eq!(redis.cmd(&["EXISTS", "unstale:events"]).int(), 0);
}

#[test]
fn explain_prints_what_an_event_would_do() {
    let bench = Bench::new(ROUTES);
    bench.write("event.json", "{\"type\": \"ProductDeleted\", \"product_id\": 7}\n");
    let expected = json!({
        "outcome": "routed", "priority": "critical", "stream": "unstale:events:critical", "reasons": [],
        "targets": [{"cache": "product", "key": "product:7"}, {"cache": "product", "pattern": "product:7:*"}],
    });
    assert_eq!(bench.run(&["explain", "event.json"]).with(0).json(), expected);
    let mut child = bench.command(&["explain", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"{\"type\": \"Other\"}").unwrap();
    assert_eq!(Ended::from(child.wait_with_output().unwrap()).with(0).json()["outcome"], "unrouted");
    assert!(bench.run(&["explain", "nowhere.json"]).with(1).err.contains("can't read nowhere.json"));
}

#[test]
fn explain_tests_routes_by_cases() {
    let bench = Bench::new(ROUTES);
    let good = r#"{"event": {"type": "ProductDeleted", "product_id": 7}, "expect": {"targets": [{"pattern": "product:7:*"}, {"key": "product:7"}]}}"#;
    bench.write("good.jsonl", &format!("{good}\n\n{{\"event\": {{\"type\": \"Other\"}}, \"expect\": {{\"outcome\": \"unrouted\"}}}}\n"));
    assert_eq!(bench.run(&["explain", "--expect", "good.jsonl"]).with(0).out, "2 of 2 cases as expected\n");
    bench.write("bad.jsonl", &format!("{good}\n{}\nnot json\n", good.replace("\"product:7\"", "\"product:8\"")));
    let ended = bench.run(&["explain", "--expect", "bad.jsonl"]).with(1);
    assert_eq!(ended.out, "1 of 3 cases as expected\n");
    assert!(
        ended.err.contains("bad.jsonl:2: `targets` lacks {\"key\":\"product:8\"}") && ended.err.contains("bad.jsonl:3: not JSON"),
        "{}",
        ended.err
    );
    bench.write("none.jsonl", "");
    bench.run(&["explain", "--expect", "none.jsonl"]).with(1);
}

#[test]
fn config_show_tells_origins_and_no_secret() {
    let bench = Bench::new(&format!("presets = [\"llm-gateway\"]\n{ROUTES}"))
        .env("REDIS_URL", "redis://me:hunter2@h:1")
        .env("CacheInvalidation__BatchWindow", "1s");
    let ended = bench.run(&["config", "show", "--preset", "model-catalog"]).with(0);
    let line = |key: &str| {
        ended
            .out
            .lines()
            .filter(|line| line.starts_with(&format!("{key} = ")))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(line("redis.main.url"), ["redis.main.url = \"redis://me:***@h:1\" # environment variable `REDIS_URL`"]);
    assert_eq!(line("batching.window"), ["batching.window = \"1s\" # environment variable `CacheInvalidation__BatchWindow`"]);
    assert_eq!(line("cache.product.prefixes"), ["cache.product.prefixes = [\"product:\"] # unstale.toml:4"]);
    assert_eq!(line("presets").len(), 2);
    let shown = bench.run(&["config", "show", "--json"]).with(0);
    assert!(shown.json()["settings"].as_array().unwrap().iter().any(|line| line["key"] == "batching.window" && line["value"] == "1s"));
    assert!(!format!("{ended:?} {shown:?}").contains("hunter2"));
}

#[test]
fn config_schema_is_closed_and_knows_every_section() {
    let schema = Bench::new("this is no toml").run(&["config", "schema"]).with(0).json();
    assert_eq!(schema["additionalProperties"], false);
    for section in
        ["namespace", "bus", "redis", "batching", "http", "presets", "preset", "vars", "protected", "cache", "route", "republish"]
    {
        assert!(schema["properties"][section].is_object(), "{section}");
    }
}

#[test]
fn run_deletes_what_is_published_and_drains_on_a_signal() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    for signal in ["TERM", "INT"] {
        redis.cmd(&["SET", "product:7", "x"]);
        let mut running = Running::start(&bench, &[]);
        bench.run(&["publish", "ProductUpdated", "product_id=7"]).with(0);
        wait_gone(&redis, "product:7");
        running.signal(signal);
        assert_eq!(running.code(), Some(0), "{signal}: {}", running.log());
    }
}

#[test]
fn run_starts_without_a_server_and_works_as_soon_as_there_is_one() {
    let mut redis = Redis::start_sync();
    redis.kill();
    let bench = Bench::with(&redis.url());
    let mut running = Running::start(&bench, &[]);
    running.logs("unstale starts");
    redis.launch();
    redis.ready_sync();
    redis.cmd(&["SET", "product:7", "x"]);
    bench.run(&["publish", "ProductDeleted", "product_id=7"]).with(0);
    wait_gone(&redis, "product:7");
    running.signal("TERM");
    assert_eq!(running.code(), Some(0), "{}", running.log());
}

#[test]
fn the_log_is_json_if_wanted() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url()).env("CacheInvalidation__Other", "1");
    let mut running = Running::start(&bench, &["--set", "log.format=json"]);
    running.logs("CacheInvalidation__Other");
    running.signal("TERM");
    running.code();
    let log = running.log();
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"].is_string())), "{log}");
}

/// The server itself tells whether anything was refused.
#[test]
fn the_printed_rights_are_enough_to_run() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    let acl = bench.run(&["check", "--acl", "--json"]).with(0).json();
    let acl = acl["main"].as_str().unwrap().replace("PASSWORD", "secret");
    redis.cmd(&acl.split(' ').collect::<Vec<_>>());
    let bench = Bench::with(&redis.url().replace("redis://", "redis://unstale:secret@"));
    for key in ["product:7", "product:7:de"] {
        redis.cmd(&["SET", key, "x"]);
    }
    let mut running = Running::start(&bench, &[]);
    bench.run(&["publish", "ProductDeleted", "product_id=7"]).with(0);
    redis.cmd(&["XADD", "unstale:events", "*", "type", "ProductUpdated"]);
    wait_gone(&redis, "product:7");
    wait_gone(&redis, "product:7:de");
    wait_until_sync("the dead letter", PATIENCE, || {
        if redis.cmd(&["XLEN", "unstale:events:dead"]).int() == 1 { Ok(()) } else { Err("none".into()) }
    });
    running.signal("TERM");
    assert_eq!(running.code(), Some(0), "{}", running.log());
    assert_eq!(redis.cmd(&["ACL", "LOG"]).array(), []);
}

#[test]
fn a_second_signal_ends_at_once() {
    let redis = Redis::start_sync();
    redis.cmd(&["SET", "product:7", "x"]);
    let bench = Bench::with(&redis.url());
    let mut running = Running::start(&bench, &[]);
    bench.run(&["publish", "ProductUpdated", "product_id=7"]).with(0);
    wait_gone(&redis, "product:7");
    redis.pause();
    running.signal("TERM");
    running.logs("SIGTERM");
    running.signal("TERM");
    let code = running.code();
    redis.resume();
    assert_eq!(code, Some(143), "{}", running.log());
}
