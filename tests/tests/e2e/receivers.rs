//! The receivers of `docs/receivers`, as they stand there, on the real caches of their languages.

use std::path::{Path, PathBuf};

use unstale_testkit::wait_until_sync;
use unstale_tests::scripts::Script;
use unstale_tests::{PATIENCE, Setup, World};

const ROUTES: &str = "[cache.c]
prefixes = ['c:']
[[route]]
event = 'Changed'
cache = 'c'
keys = ['c:{k}']
[[route]]
event = 'AllChanged'
cache = 'c'
patterns = ['c:*']";

/// `get KEY VALUE`: what the cache answers if the source has the value. `slow KEY VALUE` begins a fetch that `go` ends, and answers what it brought.
const PYTHON: &str = r#"
import sys, threading
from cachetools import TTLCache
from unstale_receiver import FreshCache

host, port = sys.argv[1].removeprefix("http://").split(":")
fresh = FreshCache(TTLCache(1000, ttl=3600), host, int(port))
gate, answers = threading.Event(), []

def slow(key, value):
    began.set()
    gate.wait()
    return value

for line in sys.stdin:
    command, *words = line.split()
    if command == "get":
        print(fresh.get(words[0], lambda: words[1]), flush=True)
    elif command == "slow":
        began = threading.Event()
        thread = threading.Thread(target=lambda: answers.append(fresh.get(words[0], lambda: slow(*words))))
        thread.start()
        began.wait()
        print("began", flush=True)
    else:
        gate.set()
        thread.join()
        print(answers.pop(), flush=True)
"#;

const NODE: &str = "
import { createInterface } from 'node:readline';
import { LRUCache } from 'lru-cache';

const [url, receiver] = process.argv.slice(-2);
const { FreshCache } = await import(receiver);
const fresh = new FreshCache(new LRUCache({ max: 1000 }), { address: url });
let go, slow;

for await (const line of createInterface({ input: process.stdin })) {
  const [command, key, value] = line.split(' ');
  if (command === 'get') {
    console.log(await fresh.get(key, async () => value));
  } else if (command === 'slow') {
    slow = fresh.get(key, () => new Promise((resolve) => (go = () => resolve(value))));
    console.log('began');
  } else {
    go();
    console.log(await slow);
  }
}
";

fn receivers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/receivers").canonicalize().expect("the receivers are there")
}

/// Waits until the cache answers that, whatever the source has.
fn until(script: &mut Script, key: &str, value: &str, wanted: &str) {
    wait_until_sync("the cache to be what it should", PATIENCE, || {
        let answer = script.ask(&format!("get {key} {value}"));
        if answer == wanted { Ok(()) } else { Err(format!("{key} is {answer}")) }
    });
}

/// A cache that trusts what it hears, with a value in it.
fn filled(script: &mut Script, key: &str) {
    let mut turn = 0;
    wait_until_sync("a value to be kept", PATIENCE, || {
        turn += 1;
        let (first, second) = (format!("{key}-{turn}"), format!("{key}-{turn}-again"));
        let (one, other) = (script.ask(&format!("get {key} {first}")), script.ask(&format!("get {key} {second}")));
        if one == other { Ok(()) } else { Err(format!("{one}, then {other}")) }
    });
}

fn keeps_fresh(start: impl Fn(&str) -> Script) {
    let mut world = World::start(ROUTES);
    let address = world.sidecar.http();
    let mut script = start(&address);
    filled(&mut script, "c:stays");
    filled(&mut script, "c:a");
    world.publish("Changed", &[("k", "a")]);
    until(&mut script, "c:a", "new", "new");

    // A fetch that is slower than the drop of its key is not kept.
    assert_eq!(script.ask("slow c:slow old"), "began");
    world.publish("Changed", &[("k", "slow")]);
    world.publish("Changed", &[("k", "a")]);
    until(&mut script, "c:a", "newer", "newer");
    assert_eq!(script.ask("go"), "old");
    assert_eq!(script.ask("get c:slow new"), "new");

    world.publish("AllChanged", &[]);
    until(&mut script, "c:a", "newest", "newest");

    // What is missed while the sidecar is paused follows; the rest stays.
    filled(&mut script, "c:kept");
    let kept = script.ask("get c:kept other");
    world.sidecar.pause();
    world.publish("Changed", &[("k", "a")]);
    world.sidecar.resume();
    until(&mut script, "c:a", "last", "last");
    assert_eq!(script.ask("get c:kept other"), kept);

    // Without a sidecar the cache is not trusted after a while, and it comes back with another one.
    let port = address.rsplit(':').next().expect("a port");
    world.sidecar.kill();
    world.publish("Changed", &[("k", "a")]);
    let again = Setup::on(&world.redis).config(ROUTES).env("UNSTALE__HTTP__BIND", &format!("127.0.0.1:{port}")).start(&world.redis);
    until(&mut script, "c:a", "after", "after");
    assert_eq!(script.ask("get c:kept other"), kept, "it resumed and dropped nothing else");
    drop(again);
}

#[test]
fn the_receiver_in_python_keeps_a_cache_fresh() {
    let modules = receivers().join("python");
    keeps_fresh(|url| Script::python(PYTHON, &[url], &modules));
}

#[test]
fn the_receiver_for_node_keeps_a_cache_fresh() {
    let module = receivers().join("node/unstale-receiver.mjs");
    keeps_fresh(|url| Script::node(NODE, &[url, module.to_str().expect("a path of text")]));
}
