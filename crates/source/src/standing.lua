-- How a stream stands: the id of the newest entry that it ever had, how many it has, and how many it ever had, if the server knows (Redis 7.0).
-- A script, for XINFO STREAM answers with whole entries, and those may be huge.
-- KEYS: stream.
local stream = redis.call('XINFO', 'STREAM', KEYS[1])
local named = {}
for at = 1, #stream, 2 do named[stream[at]] = stream[at + 1] end
return {named['last-generated-id'], named['length'], named['entries-added'] or false}
