-- What stands under KEYS[1]; if nothing does, the fence ARGV[1] for ARGV[2] ms. A fence of the same kind lives on for as long: whoever finds it fetches behind it.
local held = redis.call('GET', KEYS[1])
if not held then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return ARGV[1]
end
if string.sub(held, 1, 2) == string.sub(ARGV[1], 1, 2) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return held
