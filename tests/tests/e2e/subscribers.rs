//! Caches that people run already, with subscribers of their own, served as they are: by `[[republish]]`, and by counters.

use std::path::Path;

use unstale_testkit::wait_until_sync;
use unstale_tests::scripts::Script;
use unstale_tests::{PATIENCE, World};

/// As the preset `llm-gateway` shows it.
const REPUBLISH: &str = "
presets = ['llm-gateway']
[preset.llm-gateway.cache.virtual_key]
second_delete = '0s'
[[republish]]
cache = 'virtual_key'
channel = 'vkey_invalidated'
format = 'key'
strip = 'vkey:'
[[republish]]
cache = 'virtual_key'
channel = 'vkey_batch_invalidated'
format = 'json'
fields = { keys = 'KeyHashes', time = 'Timestamp' }
strip = 'vkey:'
";

/// Instances of the first system hold their virtual keys by the hash. `heard` answers what each of the two subscribers was told, in order.
const PYTHON_SUBSCRIBER: &str = r#"
import datetime, json, sys
import redis

r = redis.Redis.from_url(sys.argv[1], decode_responses=True)
heard = {"vkey_invalidated": [], "vkey_batch_invalidated": []}

def one(message):
    heard["vkey_invalidated"].append(message["data"])

def batch(message):
    told = json.loads(message["data"])
    datetime.datetime.fromisoformat(told["Timestamp"].replace("Z", "+00:00"))
    heard["vkey_batch_invalidated"].append(" ".join(told["KeyHashes"]))

channel = r.pubsub()
channel.subscribe(vkey_invalidated=one, vkey_batch_invalidated=batch)
for _ in range(2):
    assert channel.get_message(timeout=10)["type"] == "subscribe"
channel.run_in_thread(daemon=True)
for line in sys.stdin:
    print("|".join(heard[line.strip()]) or "nothing", flush=True)
"#;

const NODE_SUBSCRIBER: &str = r"
import { createInterface } from 'node:readline';
import Redis from 'ioredis';

const redis = new Redis(process.argv.at(-1));
const heard = { vkey_invalidated: [], vkey_batch_invalidated: [] };
redis.on('message', (channel, message) => {
  if (channel === 'vkey_invalidated') return heard[channel].push(message);
  const { KeyHashes, Timestamp } = JSON.parse(message);
  if (Number.isNaN(Date.parse(Timestamp))) throw new Error(message);
  heard[channel].push(KeyHashes.join(' '));
});
await redis.subscribe(...Object.keys(heard));
for await (const line of createInterface({ input: process.stdin })) console.log(heard[line].join('|') || 'nothing');
";

fn until(script: &mut Script, question: &str, wanted: &str) {
    wait_until_sync(&format!("{question:?} to be answered with {wanted:?}"), PATIENCE, || {
        let answer = script.ask(question);
        if answer == wanted { Ok(()) } else { Err(answer) }
    });
}

fn subscribed(world: &mut World, channel: &str, wanted: i64) {
    wait_until_sync(&format!("{wanted} subscribers of {channel}"), PATIENCE, || {
        let count = world.cmd(&["PUBSUB", "NUMSUB", channel]).array()[1].int();
        if count == wanted { Ok(()) } else { Err(format!("there are {count}")) }
    });
}

/// The subscriber is told of exact keys of that cache, once, in both forms; and what is said on its channels by others moves nothing.
fn is_served(start: impl Fn(&str) -> Script) {
    let mut world = World::start(REPUBLISH);
    let mut subscriber = start(&world.redis.url());
    subscribed(&mut world, "vkey_invalidated", 1);
    subscribed(&mut world, "vkey_batch_invalidated", 1);
    world.seed(["vkey:h1", "vkey:h2", "vkey:h3", "vkey:last"]);
    world.add(&["type", "SpendBatchCompleted", "key_hashes", r#"["h1","h2"]"#]);
    world.wait_done();
    // Of another cache, and a pattern.
    world.publish("ProviderDeleted", &[("provider_id", "1")]);
    world.add(&["type", "CacheInvalidationRequested", "data", r#"{"patterns":["vkey:none*"]}"#]);
    world.wait_done();
    let notices = world.notices().len();

    // As an instance of that system publishes it itself.
    world.cmd(&["PUBLISH", "vkey_invalidated", "h3"]);
    until(&mut subscriber, "vkey_invalidated", "h1|h2|h3");
    world.publish("SpendUpdated", &[("key_hash", "last")]);
    until(&mut subscriber, "vkey_invalidated", "h1|h2|h3|last");
    until(&mut subscriber, "vkey_batch_invalidated", "h1 h2|last");
    world.wait_done();
    assert_eq!(world.notices().len(), notices + 1, "only the event was answered");
    assert_eq!(world.keys(), ["vkey:h3".to_owned()].into());
    assert_eq!(
        (subscriber.ask("vkey_invalidated"), subscriber.ask("vkey_batch_invalidated")),
        ("h1|h2|h3|last".into(), "h1 h2|last".into())
    );
}

#[test]
fn the_first_systems_subscriber_in_python_is_served() {
    is_served(|url| Script::python(PYTHON_SUBSCRIBER, &[url], Path::new(".")));
}

#[test]
fn the_first_systems_subscriber_in_node_is_served() {
    is_served(|url| Script::node(NODE_SUBSCRIBER, &[url]));
}

/// A process with Bentocache's two tiers and its bus. `get KEY VALUE` reads through all of it; `peek KEY` reads from the tiers alone.
const BENTOCACHE: &str = r"
import { createInterface } from 'node:readline';
import { BentoCache, bentostore } from 'bentocache';
import { memoryDriver } from 'bentocache/drivers/memory';
import { redisBusDriver, redisDriver } from 'bentocache/drivers/redis';

const { hostname: host, port } = new URL(process.argv.at(-1));
const connection = { host, port: Number(port) };
const store = bentostore().useL1Layer(memoryDriver()).useL2Layer(redisDriver({ connection })).useBus(redisBusDriver({ connection }));
const bento = new BentoCache({ default: 'products', stores: { products: store } });

for await (const line of createInterface({ input: process.stdin })) {
  const [command, key, value] = line.split(' ');
  console.log((command === 'get' ? await bento.getOrSet({ key, ttl: '1h', factory: () => value }) : await bento.get({ key })) ?? 'nothing');
}
";

#[test]
fn processes_with_bentocache_drop_their_own_copies() {
    let mut world = World::start(
        "
[cache.product]
prefixes = ['bentocache:product:']
[[route]]
event = 'ProductUpdated'
cache = 'product'
keys = ['bentocache:product:{id}', 'bentocache:product:{id}:{locales[]?}']
[[republish]]
cache = 'product'
channel = 'bentocache.notifications:products'
format = 'bentocache'
strip = 'bentocache:'
",
    );
    let mut processes = [0, 1].map(|_| Script::bentocache(BENTOCACHE, &[&world.redis.url()]));
    // A store begins with its first use.
    for process in &mut processes {
        assert_eq!(process.ask("peek product:7"), "nothing");
    }
    subscribed(&mut world, "bentocache.notifications:products", 2);
    for key in ["product:7", "product:7:é", "product:8"] {
        let [one, other] = &mut processes;
        assert_eq!(one.ask(&format!("get {key} old")), "old");
        // It takes what the first stored in Redis, once it has heard the first one's message.
        until(other, &format!("get {key} other"), "old");
        // What is in Redis only an L1 can answer now.
        assert_eq!(world.cmd(&["RENAME", &format!("bentocache:{key}"), &format!("kept:{key}")]).text(), "OK");
        for process in &mut processes {
            assert_eq!(process.ask(&format!("peek {key}")), "old", "{key} is in its L1");
        }
    }
    world.add(&["type", "ProductUpdated", "id", "7", "locales", r#"["é"]"#]);
    for process in &mut processes {
        until(process, "peek product:7", "nothing");
        until(process, "peek product:7:é", "nothing");
        assert_eq!(process.ask("peek product:8"), "old");
    }
    world.wait_done();
    assert_eq!(processes[0].ask("get product:7 new"), "new");
    until(&mut processes[1], "get product:7 newer", "new");
}

/// Reads messages as `FusionCache`'s backplane does. `told` answers what each says: sender, action, key, and whether it is of this minute.
const FUSIONCACHE: &str = r#"
import datetime, struct, sys
import redis

told = []

def take(bytes, form):
    size = struct.calcsize(form)
    return struct.unpack(form, bytes[:size])[0], bytes[size:]

def text(bytes):
    length, rest = take(bytes, "<i")
    return rest[:length].decode(), rest[length:]

def hear(message):
    version, rest = take(message["data"], "<B")
    sender, rest = text(rest)
    ticks, rest = take(rest, "<q")
    action, rest = take(rest, "<B")
    key, rest = text(rest)
    assert version == 0 and not rest
    at = datetime.datetime(1, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(microseconds=ticks // 10)
    age = abs(datetime.datetime.now(datetime.timezone.utc) - at)
    told.append(f"{sender} {['Unknown', 'EntrySet', 'EntryRemove', 'EntryExpire'][action]} {key} {age < datetime.timedelta(minutes=1)}")

channel = redis.Redis.from_url(sys.argv[1]).pubsub()
channel.subscribe(**{"FusionCache.Backplane:v2": hear})
assert channel.get_message(timeout=10)["type"] == "subscribe"
channel.run_in_thread(daemon=True)
for line in sys.stdin:
    print("|".join(told) or "nothing", flush=True)
"#;

#[test]
fn fusioncache_is_told_of_each_key_in_its_own_format() {
    let mut world = World::start(
        "
[cache.product]
prefixes = ['v2:product:']
[[route]]
event = 'ProductUpdated'
cache = 'product'
keys = ['v2:product:{ids[]}']
[[republish]]
cache = 'product'
channel = 'FusionCache.Backplane:v2'
format = 'fusioncache'
strip = 'v2:'
",
    );
    let mut backplane = Script::python(FUSIONCACHE, &[&world.redis.url()], Path::new("."));
    subscribed(&mut world, "FusionCache.Backplane:v2", 1);
    world.add(&["type", "ProductUpdated", "ids", r#"["7","é"]"#]);
    until(&mut backplane, "told", "unstale EntryRemove product:7 True|unstale EntryRemove product:é True");
}

/// A worker of the second system: what it holds itself is as good as the epoch under which it was read.
const WORKER: &str = r#"
import sys
import redis

r = redis.Redis.from_url(sys.argv[1], decode_responses=True)
held, epoch = {}, None
for line in sys.stdin:
    key, now = line.strip(), r.get("gw:models:catalog:epoch")
    if now != epoch:
        held, epoch = {}, now
    if key not in held:
        held[key] = r.get(key) or "nothing"
    print(held[key], flush=True)
"#;

#[test]
fn a_bumped_epoch_makes_every_worker_drop_what_it_holds() {
    let mut world = World::preset("model-catalog");
    let mut workers = [0, 1, 2].map(|_| Script::python(WORKER, &[&world.redis.url()], Path::new(".")));
    let keys = ["gw:models:provider:p1", "gw:models:provider:p2", "gw:models:model:p1:m", "gw:catalog:v3:p1:x"];
    world.seed(keys);
    world.cmd(&["SET", "gw:models:catalog:epoch", "41"]);
    let mut all_say = |world: &mut World, value: &str| {
        for key in keys {
            let said = workers.each_mut().map(|worker| worker.ask(key));
            assert_eq!(said, [value; 3], "{key} with epoch {}", world.cmd(&["GET", "gw:models:catalog:epoch"]).text());
        }
    };
    all_say(&mut world, "value");
    // Who changes what nobody announced is not heard of.
    for key in keys {
        world.cmd(&["SET", key, "new"]);
    }
    all_say(&mut world, "value");
    world.add(&["type", "ProvidersBatchInvalidated", "providers", "[]", "cascade", "true"]);
    world.wait_done();
    all_say(&mut world, "value");
    assert_eq!(world.cmd(&["GET", "gw:models:catalog:epoch"]).text(), "41");

    world.add(&["type", "ProvidersBatchInvalidated", "providers", r#"["p1","p2"]"#, "cascade", "false"]);
    world.wait_done();
    // Once for both, and when it is seen the keys are gone.
    assert_eq!(world.cmd(&["GET", "gw:models:catalog:epoch"]).text(), "42");
    all_say(&mut world, "nothing");
}
