-- The whole job of a batch in one call, as it would be written by hand: delete, log, publish.
--
-- KEYS  the log; the counter of its numbers; the keys to delete.
-- ARGV  1 the notice   2 the channel
redis.call('UNLINK', unpack(KEYS, 3))
redis.call('XADD', KEYS[1], 'MAXLEN', '~', 100000, '*', 'seq', redis.call('INCR', KEYS[2]), 'notice', ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[1])
