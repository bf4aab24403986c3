-- What parts of batches do to Redis, in one call.
--
-- KEYS  the notice log; then of each part the keys to delete, cache by cache, and its counters.
-- ARGV  1 entries to keep in the log   2 "1" to measure the log   3 channel, or "" for none   4 what all notices say up to their time
--       then of each part the rest of its notice, or "" if there is nothing to announce; how many counters it has; how many messages to
--       republish; how many caches have keys here, and for each of them how many; pairs of channel and message.
--
-- The trim comes first for two reasons: a log of the wrong type stops the script before it did anything, and with a write behind it the
-- XADD passes under `maxmemory`. An error in the deletes or at the log stops the script: nothing is announced that was not deleted.

local log = KEYS[1]
local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
redis.call('XTRIM', log, 'MAXLEN', '~', ARGV[1])

-- A notice names the one before it: numbers alone may go on in a log that was destroyed and written anew.
local before, seq = '0-0', 0
if newest then
  local fields = newest[2]
  before = newest[1]
  for field = 1, #fields, 2 do
    if fields[field] == 'seq' then seq = tonumber(fields[field + 1]) or 0 end
  end
end

-- Nil, or why it was not published: the log is what vouches for a notice, so that is reported and holds nothing up.
local function publish(channel, message)
  local reply = redis.pcall('PUBLISH', channel, message)
  return type(reply) == 'table' and reply.err
end

-- The last of KEYS and of ARGV that belong to the parts before.
local key, arg = 1, 4

local function deliver()
  local rest, counters, messages, caches = ARGV[arg + 1], tonumber(ARGV[arg + 2]), tonumber(ARGV[arg + 3]), tonumber(ARGV[arg + 4])
  arg = arg + 4

  local deleted = {}
  for cache = 1, caches do
    local count = tonumber(ARGV[arg + cache])
    deleted[cache] = redis.call('UNLINK', unpack(KEYS, key + 1, key + count))
    key = key + count
  end
  arg = arg + caches

  -- A counter of the wrong type concerns itself only.
  local counted = {}
  for counter = 1, counters do
    local reply = redis.pcall('INCR', KEYS[key + counter])
    counted[counter] = type(reply) == 'table' and reply.err or ''
  end
  key = key + counters

  local time = redis.call('TIME')
  local ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

  local id, number, unheard = false, '0', false
  if rest ~= '' then
    seq = seq + 1
    number = string.format('%.0f', seq)
    -- Redis' Lua hashes each text from end to end: a notice is put together once for the log and once for the channel, and not in steps.
    local body = '"seq":' .. number .. ',"prev":"' .. before .. '"' .. ARGV[4] .. ms
    id = redis.call('XADD', log, '*', 'seq', number, 'notice', '{"v":1,' .. body .. rest)
    before = id
    if ARGV[3] ~= '' then unheard = publish(ARGV[3], '{"v":1,"id":"' .. id .. '",' .. body .. rest) end
    for message = 1, messages do
      unheard = publish(ARGV[arg + 2 * message - 1], ARGV[arg + 2 * message]) or unheard
    end
  end
  arg = arg + 2 * messages
  return { ms, id, deleted, counted, unheard or '', number }
end

local parts = {}
while arg < #ARGV do parts[#parts + 1] = deliver() end

local bytes, length = 0, 0
if ARGV[2] == '1' then
  local reply = redis.pcall('MEMORY', 'USAGE', log, 'SAMPLES', 0)
  if type(reply) == 'number' then bytes, length = reply, redis.call('XLEN', log) end
end
return { parts, bytes, length }
