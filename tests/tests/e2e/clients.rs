//! The clients that people use, as they come from their registries: each publishes an event in every form, and hears what was dropped, from the channel and
//! over HTTP. And nothing else in Redis is touched.

use std::collections::BTreeSet;
use std::path::Path;

use unstale_testkit::wait_until_sync;
use unstale_tests::scripts::Script;
use unstale_tests::{PATIENCE, World};

const ROUTES: &str = "[cache.c]
prefixes = ['c:']
[[route]]
event = 'Changed'
cache = 'c'
keys = ['c:{k}']";

/// The forms of an event, which are the keys that they change, too.
const FORMS: [&str; 4] = ["flat", "json", "msgpack", "cloud"];
/// What nobody may touch: of the same cache, beside it, and of somebody else.
const OTHERS: [&str; 4] = ["c:flat2", "c", "unstaler:events", "other:flat"];

/// `listen` begins to, `publish` adds an event in each form, `channel KEY` and `http KEY` answer whether it was heard there that the key was dropped.
const REDIS_PY: &str = r#"
import json, sys, threading
from http.client import HTTPConnection
import msgpack, redis

url, address = sys.argv[1:]
r = redis.Redis.from_url(url)
heard = {"channel": set(), "http": set()}

def drop(way, notice):
    heard[way].update(key for part in notice.get("drop", []) for key in part["keys"])

def listen():
    channel = r.pubsub()
    channel.subscribe(**{"unstale:notices": lambda message: drop("channel", json.loads(message["data"]))})
    while channel.get_message(timeout=10)["type"] != "subscribe":
        pass
    channel.run_in_thread(daemon=True)
    connection = HTTPConnection(address.removeprefix("http://"))
    connection.request("GET", "/v1/notices")
    stream = connection.getresponse()
    assert stream.readline() == b"event: hello\n"
    threading.Thread(target=read, args=(stream,), daemon=True).start()

def read(stream):
    for line in stream:
        if line.startswith(b"data: "):
            drop("http", json.loads(line[6:]))

def publish():
    r.xadd("unstale:events", {"type": "Changed", "k": "flat"})
    r.xadd("unstale:events", {"type": "Changed", "data": json.dumps({"k": "json"})})
    r.xadd("unstale:events", {"type": "Changed", "data": msgpack.packb({"k": "msgpack"})})
    cloud = {"specversion": "1.0", "type": "Changed", "id": "7", "source": "/tests", "data": {"k": "cloud"}}
    r.xadd("unstale:events", {"data": json.dumps(cloud)})

for line in sys.stdin:
    command, *key = line.split()
    if key:
        print(key[0] in heard[command], flush=True)
    else:
        globals()[command]()
        print("done", flush=True)
"#;

/// What the scripts for Node have in common; each has `subscribe(hear)` and `add(fields)` of its own client. Fields are pairs.
const NODE: &str = r"
import { createInterface } from 'node:readline';
import { encode } from '@msgpack/msgpack';

const heard = { channel: new Set(), http: new Set() };
const drop = (way, notice) => (notice.drop ?? []).forEach((part) => part.keys.forEach((key) => heard[way].add(key)));

const commands = {
  async listen() {
    await subscribe((message) => drop('channel', JSON.parse(message)));
    const { body } = await fetch(`${address}/v1/notices`);
    const stream = body.pipeThrough(new TextDecoderStream())[Symbol.asyncIterator]();
    let text = (await stream.next()).value;
    (async () => {
      for (;;) {
        const lines = text.split('\n');
        text = lines.pop();
        lines.filter((line) => line.startsWith('data: ')).forEach((line) => drop('http', JSON.parse(line.slice(6))));
        text += (await stream.next()).value;
      }
    })();
  },
  async publish() {
    await add(['type', 'Changed', 'k', 'flat']);
    await add(['type', 'Changed', 'data', JSON.stringify({ k: 'json' })]);
    await add(['type', 'Changed', 'data', Buffer.from(encode({ k: 'msgpack' }))]);
    const cloud = { specversion: '1.0', type: 'Changed', id: '7', source: '/tests', data: { k: 'cloud' } };
    await add(['data', JSON.stringify(cloud)]);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [command, key] = line.split(' ');
  console.log(key ? heard[command].has(key) : ((await commands[command]()) ?? 'done'));
}
";

const IOREDIS: &str = r"
import Redis from 'ioredis';

const [url, address] = process.argv.slice(-2);
const redis = new Redis(url);
const subscribe = async (hear) => {
  const channel = redis.duplicate();
  channel.on('message', (_, message) => hear(message));
  await channel.subscribe('unstale:notices');
};
const add = (fields) => redis.xadd('unstale:events', '*', ...fields);
";

const NODE_REDIS: &str = r"
import { createClient } from 'redis';

const [url, address] = process.argv.slice(-2);
const redis = await createClient({ url }).connect();
const subscribe = async (hear) => (await redis.duplicate().connect()).subscribe('unstale:notices', hear);
const add = (fields) => redis.xAdd('unstale:events', '*', Object.fromEntries(Array.from({ length: fields.length / 2 }, (_, i) => fields.slice(2 * i, 2 * i + 2))));
";

fn keys() -> BTreeSet<String> {
    FORMS.iter().map(|form| format!("c:{form}")).collect()
}

/// The client and the sidecar understand each other in everything.
fn gets_on(start: impl Fn(&str, &str) -> Script) {
    let mut world = World::start(ROUTES);
    let mut client = start(&world.redis.url(), &world.sidecar.http());
    world.seed(keys().iter().map(String::as_str).chain(OTHERS));
    assert_eq!(client.ask("listen"), "done");
    let seen = world.monitored(|world| {
        assert_eq!(client.ask("publish"), "done");
        world.wait_done();
    });
    assert_eq!(world.keys(), OTHERS.map(str::to_owned).into());
    assert_eq!(world.dead_letters(), []);
    touched_nothing_else(&seen);
    for way in ["channel", "http"] {
        for key in keys() {
            wait_until_sync("the client to hear of a key", PATIENCE, || {
                let answer = client.ask(&format!("{way} {key}"));
                if answer.eq_ignore_ascii_case("true") { Ok(()) } else { Err(format!("{key} on {way}: {answer}")) }
            });
        }
    }
}

/// Of what MONITOR showed, only deletes name a key of a cache, and these name just those that the events changed.
fn touched_nothing_else(seen: &[String]) {
    let words = |line: &str| line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut deleted = BTreeSet::new();
    for line in seen {
        let words = words(line);
        let named = words.iter().skip(1).filter(|word| word.starts_with("c:") || OTHERS.contains(&word.as_str())).cloned();
        match words.first().map(|command| command.to_uppercase()).as_deref() {
            Some("UNLINK") => deleted.extend(words[1..].iter().cloned()),
            Some("EVALSHA" | "EVAL") => assert!(named.clone().all(|key| keys().contains(&key)), "{line}"),
            _ => assert_eq!(named.count(), 0, "{line}"),
        }
    }
    assert_eq!(deleted, keys(), "{seen:#?}");
}

#[test]
fn redis_py_publishes_and_hears() {
    gets_on(|url, address| Script::python(REDIS_PY, &[url, address], Path::new(".")));
}

#[test]
fn ioredis_publishes_and_hears() {
    gets_on(|url, address| Script::node(&format!("{IOREDIS}{NODE}"), &[url, address]));
}

#[test]
fn node_redis_publishes_and_hears() {
    gets_on(|url, address| Script::node(&format!("{NODE_REDIS}{NODE}"), &[url, address]));
}
