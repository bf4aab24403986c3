-- What a part of a batch does to Redis, in one call.
--
-- KEYS  the notice log; the keys to delete, cache by cache; the counters.
-- ARGV  1 entries to keep in the log   2 "1" to measure the log   3 channel, or "" for none
--       4 the notice up to its time    5 the rest of the notice, or "" if there is nothing to announce
--       6 how many caches have keys here, and for each of them how many
--       then pairs of channel and message to republish.
--
-- The trim comes first for two reasons: a log of the wrong type stops the script before it did anything, and with a write behind it the
-- XADD passes under `maxmemory`. An error in the deletes or at the log stops the script: nothing is announced that was not deleted.

local log = KEYS[1]
local newest = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
redis.call('XTRIM', log, 'MAXLEN', '~', ARGV[1])

local key = 1
local deleted = {}
for cache = 1, tonumber(ARGV[6]) do
  local count = tonumber(ARGV[6 + cache])
  deleted[cache] = redis.call('UNLINK', unpack(KEYS, key + 1, key + count))
  key = key + count
end

-- A counter of the wrong type concerns itself only.
local counters = {}
for counter = key + 1, #KEYS do
  local reply = redis.pcall('INCR', KEYS[counter])
  counters[#counters + 1] = type(reply) == 'table' and reply.err or ''
end

local time = redis.call('TIME')
local ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

local id, seq, unheard = false, '0', ''
if ARGV[5] ~= '' then
  -- The notice names the one before it: numbers alone may go on in a log that was destroyed and written anew.
  local last, before = 0, newest and newest[1] or '0-0'
  local fields = newest and newest[2] or {}
  for field = 1, #fields, 2 do
    if fields[field] == 'seq' then last = tonumber(fields[field + 1]) or 0 end
  end
  seq = string.format('%.0f', last + 1)
  -- Redis' Lua hashes each text from end to end: a notice is put together once for the log and once for the channel, and not in steps.
  local body = '"seq":' .. seq .. ',"prev":"' .. before .. '"' .. ARGV[4] .. ms
  id = redis.call('XADD', log, '*', 'seq', seq, 'notice', '{"v":1,' .. body .. ARGV[5])

  -- The log is what vouches for a notice; a channel that may not be written to is reported, and holds nothing up.
  local function publish(channel, message)
    local reply = redis.pcall('PUBLISH', channel, message)
    if type(reply) == 'table' and reply.err then unheard = reply.err end
  end
  if ARGV[3] ~= '' then publish(ARGV[3], '{"v":1,"id":"' .. id .. '",' .. body .. ARGV[5]) end
  for extra = 7 + #deleted, #ARGV, 2 do publish(ARGV[extra], ARGV[extra + 1]) end
end

local bytes, length = 0, 0
if ARGV[2] == '1' then
  local reply = redis.pcall('MEMORY', 'USAGE', log, 'SAMPLES', 0)
  if type(reply) == 'number' then bytes, length = reply, redis.call('XLEN', log) end
end
return { ms, id, deleted, counters, unheard, bytes, length, seq }
