-- Takes an instance off the list of the living and gives up its lease.
-- KEYS: beats, lease, positions. ARGV: instance.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return 1
