-- The id of the newest entry that a stream ever had. A script, for XINFO STREAM answers with whole entries, and those may be huge.
-- KEYS: stream.
local stream = redis.call('XINFO', 'STREAM', KEYS[1])
for at = 1, #stream, 2 do
  if stream[at] == 'last-generated-id' then return stream[at + 1] end
end
