-- How a stream stands: how many entries it has, and unless that tells enough already, the id of the newest that it ever had and how many it ever
-- had, if the server knows (Redis 7.0).
-- Only XINFO STREAM knows the latter, and it brings the first and the last entry along, whole: for one of 300 MB that takes Redis seconds. So
-- it is asked only where there may be nothing but what the group has yet to be given, which is soon over, and not while entries are at work.
-- KEYS: stream. ARGV: how many entries the group lacks ("": it can't say), how many it has pending.
local length, lag, pending = redis.call('XLEN', KEYS[1]), tonumber(ARGV[1]), tonumber(ARGV[2])
-- Something is there that the group was given, so nothing went that it wasn't: a stream loses its oldest first. Or all that is there is pending.
if lag and lag < length or not lag and 0 < length and length <= pending then return {length, false, false} end
local stream = redis.call('XINFO', 'STREAM', KEYS[1])
local named = {}
for at = 1, #stream, 2 do named[stream[at]] = stream[at + 1] end
return {length, named['last-generated-id'], named['entries-added'] or false}
