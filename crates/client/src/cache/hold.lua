-- Puts the fence ARGV[1] around the value under KEYS[1], which lives on as before. Returns 0 if there is no value, or a fence stands there already.
local held = redis.call('GET', KEYS[1])
if not held or string.find(held, '^%z[FHWB]') then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. held, 'KEEPTTL')
return 1
