-- Has a group deliver new entries without handing them out: they are pending then, as often delivered as not at all.
-- KEYS: stream. ARGV: group, consumer, most entries, how many bytes are enough, bytes and fields that an entry may have.
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local enough, most_bytes, most_fields = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local delivered, heavy, held = 0, 0, 0
for _ = 1, tonumber(ARGV[3]) do
  if held >= enough then break end
  -- One by one: of those that this is for, a few would take all of Redis' memory.
  local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
  if not read then return { delivered, heavy, 1 } end
  local id, parts = read[1][2][1][1], read[1][2][1][2]
  redis.call('XCLAIM', stream, group, consumer, 0, id, 'RETRYCOUNT', 0, 'JUSTID')
  local bytes, fields = 0, #parts / 2
  for part = 1, #parts do bytes = bytes + #parts[part] end
  held = held + bytes + 64 * fields
  delivered = delivered + 1
  if bytes > most_bytes or fields > most_fields then heavy = heavy + 1 end
end
return { delivered, heavy, 0 }
