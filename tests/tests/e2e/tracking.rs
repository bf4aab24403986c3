//! Redis' own client-side caching goes on working: the sidecar's deletes invalidate what clients track.

use std::path::Path;

use unstale_tests::World;
use unstale_tests::scripts::Script;

const ROUTES: &str = "[cache.c]\nprefixes = ['c:']\n[[route]]\nevent = 'Changed'\ncache = 'c'\nkeys = ['c:{k}']\npatterns = ['c:{all?}*']";

/// Reads keys through a cache that Redis keeps right.
const READER: &str = "
import sys
import redis
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection

# The library asks for a newer server than it needs, and for one of this name: tracking is the same since 6.0, and in Valkey.
CacheProxyConnection.MIN_ALLOWED_VERSION = '6.2.0'
CacheProxyConnection.DEFAULT_SERVER_NAME = redis.Redis.from_url(sys.argv[1]).info('server').get('server_name', 'redis')
client = redis.Redis.from_url(sys.argv[1], protocol=3, cache_config=CacheConfig(), decode_responses=True)
for line in sys.stdin:
    print(client.strlen(line.strip()), flush=True)
";

fn reads(world: &mut World) -> u64 {
    let stats = world.cmd(&["INFO", "commandstats"]).text();
    let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_strlen:calls=")?.split(',').next());
    calls.map_or(0, |calls| calls.parse().expect("a count"))
}

#[test]
fn p2_4_a_delete_invalidates_what_clients_track() {
    let mut world = World::start(ROUTES);
    let mut reader = Script::python(READER, &[&world.redis.url()], Path::new("."));
    for (key, attributes) in [("c:1", &[("k", "1")][..]), ("c:many:2", &[("k", "none"), ("all", "many")])] {
        world.seed([key]);
        let asked: Vec<String> = (0..3).map(|_| reader.ask(key)).collect();
        assert_eq!(asked, ["5"; 3]);
        let before = reads(&mut world);
        assert_eq!(reader.ask(key), "5");
        let own = reads(&mut world) - before;
        assert_eq!(own, 0, "it answers from its own memory");
        world.publish("Changed", attributes);
        world.wait_done();
        assert_eq!(reader.ask(key), "0");
    }
}
