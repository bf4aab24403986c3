-- Ends what the fence ARGV[1] began under KEYS[1]: ARGV[2] takes its place for ARGV[3] ms, or nothing if that is 0. If the fence isn't there any more,
-- the key stays as it is, or goes if ARGV[4] is 'remove'. Returns whether the fence was there.
local own = redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) == ARGV[1]
if own and ARGV[3] ~= '0' then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
elseif own or ARGV[4] == 'remove' then
  redis.call('UNLINK', KEYS[1])
end
return own and 1 or 0
