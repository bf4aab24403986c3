-- Takes pending entries off the list whose bodies are gone from the stream, and returns them.
-- KEYS: stream. ARGV: group, ids.
local gone = {}
for at = 2, #ARGV do
  local id = ARGV[at]
  if #redis.call('XRANGE', KEYS[1], id, id) == 0 and #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) == 1 then
    redis.call('XACK', KEYS[1], ARGV[1], id)
    gone[#gone + 1] = id
  end
end
return gone
