//! The operators' commands, against a real Redis and real sidecars.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};
use unstale_testkit::{Redis, wait_until_sync};

use crate::kit::{Bench, PATIENCE, Running, nobody, wait_gone};

/// Lines as a command prints them; ended with the test.
struct Lines {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Lines {
    fn of(bench: &Bench, args: &[&str]) -> Self {
        let mut child = bench.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { out: BufReader::new(child.stdout.take().unwrap()), child }
    }

    /// The next line; waits for it.
    fn next(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "it ended: {}", self.complaints());
        line.trim_end().to_owned()
    }

    fn next_json(&mut self) -> Value {
        serde_json::from_str(&self.next()).unwrap()
    }

    /// Tells it to end, as Ctrl-C does.
    fn interrupt(&self) {
        assert!(std::process::Command::new("kill").args(["-s", "INT", &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Ends it, and returns what it wrote to standard error.
    fn complaints(&mut self) -> String {
        let _ = self.child.kill();
        std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Buries by hand what a sidecar would bury.
fn bury(redis: &Redis, id: &str, own: &[&str], reason: &str, stream: &str) {
    let added = [
        "dead_reason",
        reason,
        "dead_entry",
        "1-1",
        "dead_stream",
        stream,
        "dead_deliveries",
        "1",
        "dead_at",
        "1789000000000",
        "dead_by",
        "api",
    ];
    redis.cmd(&[&["XADD", "unstale:events:dead", id], own, &added].concat());
}

/// What is in a stream: each entry's fields and values.
fn entries(redis: &Redis, stream: &str) -> Vec<Vec<String>> {
    redis.cmd(&["XRANGE", stream, "-", "+"]).array().iter().map(|entry| entry.array()[1].texts()).collect()
}

#[test]
fn what_a_sidecar_buried_is_listed_shown_and_carried_out_once_its_cause_is_mended() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    let mut running = Running::start(&bench, &[]);
    redis.cmd(&["SET", "product:7", "x"]);
    let event = ["type", "ProductUpdated", "productId", "7", "note", "s3cret"];
    redis.cmd(&[&["XADD", "unstale:events", "*"][..], &event, &["PRODUCT_ID", "8"]].concat());
    let listed = wait_until_sync("the dead letter", PATIENCE, || {
        let listed = bench.run(&["dead-letters", "list", "--json"]).with(0);
        if listed.out.is_empty() { Err("none yet".into()) } else { Ok(listed) }
    });
    let head = listed.json();
    assert_eq!(
        (&head["type"], &head["codes"], &head["stream"]),
        (&json!("ProductUpdated"), &json!(["conflicting_attribute"]), &json!("unstale:events"))
    );
    let id = head["id"].as_str().unwrap();
    let shown = bench.run(&["dead-letters", "show", id]).with(0);
    assert!(
        shown.out.contains("conflicting_attribute: ") && shown.out.contains("note = #") && !shown.out.contains("s3cret"),
        "{}",
        shown.out
    );
    let whole = bench.run(&["dead-letters", "show", id, "--reveal", "--json"]).with(0).json();
    assert_eq!(whole["fields"][2], json!({"name": "note", "value": "s3cret"}));
    assert_eq!(whole["fields"].as_array().unwrap().len(), 4, "what was added to it is no field of the event");
    // Its cause can't be mended by routes: as it was, it dies again.
    let replayed = bench.run(&["dead-letters", "replay", id, "--json"]).with(0);
    assert!(replayed.out.contains("\"replayed\":1"), "{}", replayed.out);
    wait_until_sync("the dead letter, again", PATIENCE, || {
        let codes = bench.run(&["dead-letters", "list", "--json"]).with(0).out;
        if codes.lines().count() == 1 && !codes.contains(id) { Ok(()) } else { Err(codes) }
    });
    bury(&redis, "*", &event, "command_failed: mended", "unstale:events");
    assert_eq!(bench.run(&["dead-letters", "replay", "--all", "--reason", "command_failed"]).with(0).out, "1 replayed\n");
    wait_gone(&redis, "product:7");
    running.signal("TERM");
    assert_eq!(running.code(), Some(0), "{}", running.log());
}

#[test]
fn a_replay_gives_back_exactly_what_was_read_and_a_repetition_does_nothing() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    let own = ["type", "A", "dead_reason", "its own", "x", "1", "x", "2"];
    bury(&redis, "5-1", &own, "unrouted: b", "unstale:events:critical");
    bench.run(&["dead-letters", "replay", "5-1"]).with(0);
    assert_eq!(entries(&redis, "unstale:events:critical"), [own]);
    let again = bench.run(&["dead-letters", "replay", "5-1"]).with(1);
    assert!(again.out == "0 replayed\n" && again.err.contains("1 were not there"), "{again:?}");
    assert_eq!(entries(&redis, "unstale:events:critical").len(), 1);
    assert_eq!(bench.run(&["dead-letters", "list"]).with(0).out, "no dead letters\n");
    bench.run(&["dead-letters", "show", "5-1"]).with(1);
}

#[test]
fn what_can_not_be_given_back_stays_where_it_is() {
    let mut redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    bury(&redis, "5-1", &["type", "A"], "unrouted: a", "elsewhere");
    bury(&redis, "5-2", &["type", "A"], "unrouted: a", "unstale:events");
    redis.cmd(&[
        "XADD",
        "unstale:events:dead",
        "5-3",
        "type",
        "A",
        "dead_reason",
        "too_large: a",
        "dead_stream",
        "unstale:events",
        "dead_truncated",
        "1",
    ]);
    redis.cmd(&["SET", "unstale:events", "no stream"]);
    let refused = bench.run(&["dead-letters", "replay", "5-1", "5-3"]).with(1);
    assert!(refused.err.contains("5-1 stays a dead letter: it came from the stream `elsewhere`"), "{}", refused.err);
    assert!(refused.err.contains("5-3 stays a dead letter: only the beginning"), "{}", refused.err);
    let failed = bench.run(&["dead-letters", "replay", "5-2"]).with(1);
    assert!(failed.err.contains("WRONGTYPE"), "{}", failed.err);
    assert_eq!(redis.cmd(&["XLEN", "unstale:events:dead"]).int(), 3);
    redis.kill();
    let down = bench.run(&["dead-letters", "list", "--set", "redis.main.connect_timeout=300ms"]).with(1);
    assert!(down.err.contains("can't use redis://"), "{}", down.err);
}

#[test]
fn all_are_those_that_were_there_and_match() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    for number in 0..250 {
        let (kind, reason) = if number % 2 == 0 { ("Even", "unrouted: a") } else { ("Odd", "missing_attribute: b; refused_target: c") };
        bury(&redis, &format!("5-{}", number + 1), &["type", kind], reason, "unstale:events");
    }
    let listed = bench.run(&["dead-letters", "list", "--last", "200", "--type", "Odd", "--json"]).with(0);
    assert_eq!(listed.out.lines().count(), 125);
    assert!(
        bench.run(&["dead-letters", "list"]).with(0).out.ends_with("20 listed of 250; `unstale dead-letters show ID` looks into one\n")
    );
    assert_eq!(bench.run(&["dead-letters", "replay", "--all", "--type", "Even"]).with(0).out, "125 replayed\n");
    assert_eq!(redis.cmd(&["XLEN", "unstale:events"]).int(), 125);
    assert_eq!(bench.run(&["dead-letters", "drop", "--all", "--reason", "refused_target", "--json"]).with(0).json()["dropped"], 125);
    assert_eq!(redis.cmd(&["XLEN", "unstale:events:dead"]).int(), 0);
    for wrong in
        [&["replay"][..], &["drop", "--reason", "unrouted"], &["drop", "1-1", "--all"], &["list", "--reason", "nonsense"], &["show", "x"]]
    {
        bench.run(&[&["dead-letters"], wrong].concat()).with(2);
    }
}

#[test]
fn why_names_the_event_behind_each_drop_of_a_key() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    let mut running = Running::start(&bench, &[]);
    let updated = bench.run(&["publish", "ProductUpdated", "product_id=7", "correlation_id=order-1"]).with(0).out;
    let deleted = bench.run(&["publish", "ProductDeleted", "product_id=7"]).with(0).out;
    let why = |key: &str, args: &[&str]| bench.run(&[&["why", key], args].concat()).with(0).out;
    wait_until_sync("both notices", PATIENCE, || match why("product:7", &["--json"]) {
        out if out.lines().count() == 2 => Ok(()),
        out => Err(out),
    });
    let newest_first: Vec<Value> = why("product:7", &["--json"]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(newest_first.iter().map(|drop| drop["how"].clone()).collect::<Vec<_>>(), ["key", "key"]);
    let by = |event: &str| newest_first.iter().find(|drop| drop["events"] == json!([event.trim()])).unwrap();
    assert_eq!(by(&updated)["correlation_ids"], json!(["order-1"]));
    assert_eq!(by(&deleted)["priority"], "critical");
    let by_pattern = wait_until_sync("the notice of the pattern", PATIENCE, || match why("product:7:de", &[]) {
        out if out.contains("by the pattern #") => Ok(out),
        out => Err(out),
    });
    assert!(by_pattern.contains(deleted.trim()) && !by_pattern.contains("product:7:*"), "{by_pattern}");
    assert!(why("product:7:de", &["--reveal"]).contains("by the pattern product:7:* product"));
    assert!(why("product:8", &[]).contains("not dropped: none of 3 notices means it"));
    assert!(why("session:1", &[]).contains("no cache of this configuration owns this key"));
    assert_eq!(why("product:7", &["--last", "1", "--json"]).lines().count(), 1);
    running.signal("TERM");
    running.code();
}

#[test]
fn why_looks_through_the_whole_log_and_past_what_it_can_not_read() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    let add = |id: u32, notice: &str| redis.cmd(&["XADD", "unstale:notices", &format!("{id}-0"), "seq", &id.to_string(), "notice", notice]);
    add(1, r#"{"v":1,"drop":[{"cache":"product","keys":["product:1"]}],"events":["1-0"],"events_total":1}"#);
    add(2, "rubbish");
    (3..600).for_each(|id| drop(add(id, r#"{"v":1,"drop":[{"cache":"product","keys":["product:2"]}]}"#)));
    add(600, r#"{"v":1,"flush":["*"]}"#);
    let found = bench.run(&["why", "product:1", "--json"]).with(0);
    let how: Vec<Value> = found.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["how"].clone()).collect();
    assert_eq!(how, ["flush", "key"]);
    assert!(found.err.contains("the entry 2-0 of the log is no notice"), "{}", found.err);
}

#[test]
fn tail_shows_what_was_there_and_what_comes_and_outlives_redis() {
    let mut redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    let add = |redis: &Redis, id: &str, seq: &str| {
        redis.cmd(&["XADD", "unstale:notices", id, "seq", seq, "notice", r#"{"v":1,"drop":[{"cache":"c","keys":["k:s3cret"]}]}"#])
    };
    for seq in ["1", "2", "3"] {
        add(&redis, &format!("5-{seq}"), seq);
    }
    let mut tail = Lines::of(&bench, &["tail", "--last", "2", "--json"]);
    assert_eq!([tail.next_json()["seq"].clone(), tail.next_json()["seq"].clone()], [2, 3]);
    add(&redis, "5-4", "4");
    let line = tail.next();
    assert!(line.contains("\"seq\":4") && !line.contains("s3cret"), "{line}");
    redis.kill();
    redis.launch();
    redis.ready_sync();
    add(&redis, "1-1", "1");
    assert_eq!(tail.next_json()["seq"], 1, "a history that begins anew is shown from its beginning");
    let complaints = tail.complaints();
    assert!(complaints.contains("waiting for Redis") && complaints.contains("unstale:notices begins anew"), "{complaints}");
}

#[test]
fn tail_follows_events_and_dead_letters_too() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    let mut tail = Lines::of(&bench, &["tail", "events", "dead-letters", "--last", "1"]);
    redis.cmd(&["XADD", "unstale:events:critical", "*", "type", "ProductDeleted", "product_id", "s3cret"]);
    let event = tail.next();
    assert!(
        event.contains("unstale:events:critical") && event.contains("ProductDeleted  product_id=#") && !event.contains("s3cret"),
        "{event}"
    );
    bury(&redis, "*", &["type", "ProductDeleted"], "missing_attribute: `product_id`", "unstale:events");
    let letter = tail.next();
    assert!(letter.contains("ProductDeleted") && letter.contains("missing_attribute: `product_id`"), "{letter}");
    let mut revealed = Lines::of(&bench, &["tail", "events", "--reveal", "--json"]);
    assert_eq!(revealed.next_json()["fields"][1], json!({"name": "product_id", "value": "s3cret"}));
}

#[test]
fn tail_ends_when_nobody_reads_it() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    let mut tail = Lines::of(&bench, &["tail", "events"]);
    redis.cmd(&["XADD", "unstale:events", "*", "type", "A"]);
    tail.next();
    drop(std::mem::replace(
        &mut tail.out,
        BufReader::new(bench.command(&["--version"]).stdout(Stdio::piped()).spawn().unwrap().stdout.unwrap()),
    ));
    let status = wait_until_sync("the end", PATIENCE, || {
        redis.cmd(&["XADD", "unstale:events", "*", "type", "A"]);
        tail.child.try_wait().unwrap().ok_or_else(|| "still there".to_owned())
    });
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_dry_run_shows_what_would_be_done_and_does_nothing() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    redis.cmd(&["SET", "product:s3cret", "old"]);
    redis.cmd(&["XADD", "unstale:events", "*", "type", "ProductDeleted", "product_id", "gone"]);
    let mut dry = Lines::of(&bench, &["run", "--dry-run", "--last", "1", "--json"]);
    assert_eq!(dry.next_json()["would"]["outcome"], "routed", "what is there already is shown with --last");
    redis.cmd(&["XADD", "unstale:events", "*", "type", "ProductDeleted", "product_id", "s3cret"]);
    let shown = dry.next();
    assert!(!shown.contains("s3cret"), "{shown}");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["type"], &shown["within_ms"]), (&json!("ProductDeleted"), &json!(0)));
    assert_eq!(shown["would"]["stream"], "unstale:events:critical", "where it would be better");
    assert_eq!(shown["would"]["targets"].as_array().map(Vec::len), Some(2), "a key and a pattern");
    redis.cmd(&["XADD", "unstale:events:critical", "*", "type", "Unheard"]);
    assert_eq!(dry.next_json()["would"]["outcome"], "unrouted");
    let there = dry.next_json();
    assert_eq!((&there["still_there"]["cache"], &there["still_there"]["event"].is_string()), (&json!("product"), &true));
    dry.interrupt();
    let summary = dry.next_json()["summary"].clone();
    assert_eq!(summary["caches"]["product"]["still_there"], 1, "{summary}");
    assert_eq!(summary["caches"]["product"]["gone"], 1, "{summary}");
    assert_eq!(summary["types"]["Unheard"], json!({ "routed": 0, "unrouted": 1, "dead_letters": 0 }));
    assert_eq!(redis.cmd(&["GET", "product:s3cret"]).text(), "old");
    let groups = redis.cmd(&["XINFO", "GROUPS", "unstale:events"]);
    assert_eq!(format!("{groups:?}"), format!("{:?}", unstale_testkit::Value::Array(Vec::new())), "no consumer group");
    assert_eq!(redis.cmd(&["EXISTS", "unstale:notices", "unstale:reader", "unstale:instances"]).int(), 0);
}

#[test]
fn a_dry_run_ends_by_itself_with_a_table() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    redis.cmd(&["XADD", "unstale:events", "*", "type", "ProductUpdated", "product_id", "7"]);
    redis.cmd(&["XADD", "unstale:events", "*", "other", "7"]);
    let told = bench.run(&["run", "--dry-run", "--last", "9", "--for", "2s"]).with(0).out;
    assert!(told.contains("ProductUpdated") && told.contains("within 100ms  product  key #"), "{told}");
    assert!(told.contains("dead letter: undecodable"), "{told}");
    let row = told.lines().find(|line| line.starts_with("product ")).unwrap_or_else(|| panic!("{told}"));
    assert_eq!(row.split_whitespace().skip(1).collect::<Vec<_>>(), ["1", "1", "0", "0", "0"], "{told}");
    bench.run(&["run", "--last", "9"]).with(2);
}

#[test]
fn stats_are_those_of_the_sidecar_that_is_asked() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    let running = Running::start(&bench, &[]);
    let address = running.address();
    bench.run(&["publish", "ProductUpdated", "product_id=7"]).with(0);
    let stats = wait_until_sync("the counts", PATIENCE, || {
        let stats = bench.run(&["stats", "--sidecar", &address, "--json"]).with(0).json();
        if stats["totals"]["processed"] == 1 { Ok(stats) } else { Err(stats.to_string()) }
    });
    assert_eq!(stats["caches"]["product"]["queued"], 1);
    let table = bench.run(&["stats", "--sidecar", &address]).with(0).out;
    assert!(table.lines().any(|line| line.split_whitespace().take(3).eq(["product", "1", "1"])), "{table}");
    assert!(!table.contains('\x1b'), "no colours into a pipe");
    let unreachable = bench.run(&["stats", "--sidecar", nobody().trim_start_matches("redis://")]).with(1);
    assert!(unreachable.err.contains("can't reach http://") && unreachable.err.contains("--sidecar"), "{}", unreachable.err);
    let unknown = bench.run(&["stats", "--set", "http.bind=127.0.0.1:0"]).with(1);
    assert!(unknown.err.contains("port 0"), "{}", unknown.err);
}

#[test]
fn stats_show_the_token_that_the_sidecar_wants() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    bench.write("token", "hunter2\n");
    let with_token = ["--set", "http.token_file=token"];
    let running = Running::start(&bench, &with_token);
    let asked = ["stats", "--json", "--sidecar", &running.address()];
    let health = ["health", "--sidecar", &running.address()];
    for asked in [&asked[..], &health] {
        bench.run(&[asked, &with_token].concat()).with(0);
        let refused = bench.run(asked).with(1);
        assert!(refused.err.contains("401") && refused.err.contains("http.token_file"), "{}", refused.err);
    }
}

#[test]
fn health_ends_as_a_probe_is_answered() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url());
    let running = Running::start(&bench, &[]);
    let address = running.address();
    let asked = |more: &[&str]| bench.run(&[&["health", "--sidecar", &address], more].concat());
    wait_until_sync("a sidecar that is well", PATIENCE, || {
        let ended = asked(&["--ready", "--strict"]);
        if ended.code == Some(0) { Ok(()) } else { Err(format!("{ended:?}")) }
    });
    assert_eq!(asked(&[]).with(0).out, "ok\n");
    assert_eq!(asked(&["--json"]).with(0).json(), json!({"status": "ok", "reasons": []}));
    drop(redis);
    let told = wait_until_sync("what is wrong", PATIENCE, || {
        let ended = asked(&["--strict"]);
        if ended.code == Some(1) { Ok(ended) } else { Err(format!("{ended:?}")) }
    });
    assert!(told.out.starts_with("unhealthy\n  redis_down: "), "{}", told.out);
    asked(&[]).with(0);
    running.signal("STOP");
    let silent = asked(&[]).with(1);
    assert!(silent.err.contains("no answer within"), "{}", silent.err);
    running.signal("CONT");
    let nobody = bench.run(&["health", "--sidecar", nobody().trim_start_matches("redis://")]).with(1);
    assert!(nobody.err.contains("can't reach http://"), "{}", nobody.err);
}

#[test]
fn completions_and_manual_know_every_command() {
    let bench = Bench::new("this is no toml");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = bench.run(&["completions", shell]).with(0).out;
        assert!(script.contains("dead-letters") && script.contains("reveal"), "{shell}");
    }
    let mut bash = std::process::Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(bench.run(&["completions", "bash"]).out.as_bytes()).unwrap();
    assert!(bash.wait().unwrap().success());
    assert!(bench.run(&["man"]).with(0).out.contains(".TH unstale 1"));
    bench.run(&["man", "--dir", "pages"]).with(0);
    let pages = std::fs::read_dir(bench.dir.path().join("pages")).unwrap().count();
    assert!(pages > 15, "{pages}");
    assert!(!bench.dir.path().join("pages/unstale-demo-api.1").exists(), "nobody calls this one");
    bench.write("file", "");
    bench.run(&["man", "--dir", "file/pages"]).with(1);
}
