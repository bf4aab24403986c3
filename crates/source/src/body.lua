-- The fields of an entry; of one that is too large, the beginnings of the first of them.
-- KEYS: stream. ARGV: id, bytes and fields that an entry may have, how many fields are kept of a larger one, and how many bytes of each.
local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not entry then return { {}, 0 } end
local parts, bytes = entry[2], 0
for part = 1, #parts do bytes = bytes + #parts[part] end
if bytes <= tonumber(ARGV[2]) and #parts / 2 <= tonumber(ARGV[3]) then return { parts, 0 } end
local kept = {}
for part = 1, math.min(#parts, 2 * ARGV[4]) do kept[part] = string.sub(parts[part], 1, ARGV[5]) end
return { kept, 1 }
