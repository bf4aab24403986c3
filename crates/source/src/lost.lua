-- Counts entries that went from a stream before its group had delivered them, and has the group forget them: its lag would stay too
-- high for ever. Looks and corrects in one, for both change while entries are read and trimmed.
-- KEYS: stream. ARGV: group.
local function named(flat)
  local map = {}
  for at = 1, #flat, 2 do map[flat[at]] = flat[at + 1] end
  return map
end

local length = redis.call('XLEN', KEYS[1])
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = named(flat)
  if group.name == ARGV[1] and group.lag and group.lag > length then
    local stream = named(redis.call('XINFO', 'STREAM', KEYS[1]))
    -- An empty stream has nothing left to deliver: the group is at its end.
    local at = length == 0 and stream['last-generated-id'] or group['last-delivered-id']
    redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], at, 'ENTRIESREAD', stream['entries-added'] - length)
    return group.lag - length
  end
end
return 0
