-- Counts entries that went from a stream before its group had delivered them, and has the group forget them: its lag would stay too
-- high for ever. Looks and corrects in one, for both change while entries are read and trimmed.
-- From Redis 8 on a lag is of what is there still; there the counts tell what went, until the group's next read sets its own right.
-- Where groups have no lag (before Redis 7.0) only the loss of all that was undelivered can be seen, and counts as one.
-- A server that was started again, or was a replica, has counted what the group was given wrong: neither its file nor its master told it.
-- There a lag is no evidence, and the count is set right.
-- KEYS: stream. ARGV: group, "1" if the count is to be set right whatever it says, how many bytes are enough to look at.
local function named(flat)
  local map = {}
  for at = 1, #flat, 2 do map[flat[at]] = flat[at + 1] end
  return map
end

-- How many entries are there still up to this one. Only by looking at each can they be counted, and there may be millions, for which Redis would
-- do nothing else: then nobody counts, and the group doesn't know its lag until it has delivered the newest.
local function count_up_to(last)
  local count, held, from = 0, 0, '-'
  while held < tonumber(ARGV[3]) do
    local entry = redis.call('XRANGE', KEYS[1], from, last, 'COUNT', 1)[1]
    if not entry then return count end
    for part = 1, #entry[2] do held = held + 32 + #entry[2][part] end
    count, from = count + 1, '(' .. entry[1]
  end
end

local length = redis.call('XLEN', KEYS[1])
local stream = named(redis.call('XINFO', 'STREAM', KEYS[1]))
local newest = stream['last-generated-id']
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = named(flat)
  local delivered = group['last-delivered-id']
  local anew = ARGV[2] == '1' and stream['entries-added']
  local lag = group.lag
  if lag and group['entries-read'] then lag = math.max(lag, stream['entries-added'] - group['entries-read']) end
  if group.name == ARGV[1] and (anew or lag and lag > length) then
    -- An empty stream has nothing left to deliver: the group is at its end.
    local at = length == 0 and not anew and newest or delivered
    local count = count_up_to(delivered)
    if count then
      redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], at, 'ENTRIESREAD', stream['entries-added'] - length + count)
    else
      redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], at)
    end
    return anew and 0 or lag - length
  end
  -- A group that has delivered nothing may be new, and what went before it is none of its losses.
  if group.name == ARGV[1] and not group.lag and length == 0 and delivered ~= '0-0' and delivered ~= newest then
    redis.call('XGROUP', 'SETID', KEYS[1], ARGV[1], newest)
    return 1
  end
end
return 0
