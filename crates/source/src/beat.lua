-- One beat: says that this instance lives and how far its receivers are, keeps or takes the lease, and lists who lives and how far they are.
-- KEYS: beats, lease, positions, notice log, pulse. ARGV: instance, lease in ms (0: give it up), how long a beat is kept (ms), from which age
-- on one is dead (ms), position ("": none yet), the longest gap in the pulse (ms).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- The removal comes first: with a write behind it the ZADD passes under `maxmemory`, and so does the SET.
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])) do redis.call('HDEL', KEYS[3], gone) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])
redis.call('ZADD', KEYS[1], now, ARGV[1])
-- What beat in the future did so before the clock was set back. It counts as of now, or the dead would live until the clock is there again.
for _, early in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do redis.call('ZADD', KEYS[1], now, early) end
-- The pulse is since when somebody's beats have gone through without a gap: for so long everybody's could have.
local since = tonumber(redis.pcall('GET', KEYS[5])) or now
since = math.min(since, now)
redis.call('SET', KEYS[5], since, 'PX', ARGV[6])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[3], ARGV[1], ARGV[5]) end
local lease, holder = tonumber(ARGV[2]), redis.pcall('GET', KEYS[2])
-- A lease runs out unless it is renewed. One that doesn't was set by hand: without a time limit, with a long one, or as another type.
-- If its holder lives it makes it an ordinary one with its next beat; else it would keep everybody from reading.
local stray = 0
if type(holder) == 'table' then
  redis.call('DEL', KEYS[2])
  holder, stray = false, 1
elseif holder and holder ~= ARGV[1] and lease > 0 then
  local left, beat = redis.call('PTTL', KEYS[2]), redis.call('ZSCORE', KEYS[1], holder)
  local dead = not beat or tonumber(beat) < now - ARGV[4]
  if dead and (left < 0 or left > lease) then holder, stray = false, 1 end
end
local held = 0
if holder == ARGV[1] then
  if lease > 0 then
    redis.call('PEXPIRE', KEYS[2], lease)
    held = 1
  else
    redis.call('DEL', KEYS[2])
  end
elseif not holder and lease > 0 then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', lease)
  held = 1
end
-- A log that is none is no concern of the beat.
local newest, seq = redis.pcall('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)[1], '0'
local fields = newest and newest[2] or {}
for field = 1, #fields, 2 do
  if fields[field] == 'seq' then seq = fields[field + 1] end
end
-- The living, the one first that has been silent longest, and in what time he is dead if he stays so.
local alive = redis.call('ZRANGEBYSCORE', KEYS[1], now - ARGV[4], '+inf')
local left = redis.call('ZSCORE', KEYS[1], alive[1]) + ARGV[4] + 1 - now
return {now, held, alive, left, now - since, stray, redis.call('HGETALL', KEYS[3]), seq}
