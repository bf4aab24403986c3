-- The newest dead letters up to an id, without what may be large or secret in them: the event's type, and why it was buried.
-- KEYS: the dead letters. ARGV: the highest id, how many, how much of each field.
local letters = {}
for _, letter in ipairs(redis.call('XREVRANGE', KEYS[1], ARGV[1], '-', 'COUNT', ARGV[2])) do
  local fields, kept = letter[2], {}
  for i = 1, #fields, 2 do
    if string.lower(fields[i]) == 'type' or string.sub(fields[i], 1, 5) == 'dead_' then
      kept[#kept + 1] = fields[i]
      kept[#kept + 1] = string.sub(fields[i + 1], 1, tonumber(ARGV[3]))
    end
  end
  letters[#letters + 1] = {letter[1], kept}
end
return letters
