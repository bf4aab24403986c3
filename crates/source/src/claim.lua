-- Takes over pending entries in the order given until they are enough, and looks at each before it is handed out.
-- KEYS: stream. ARGV: group, consumer, least idle time (ms), whose they must still be ("": anybody's), how many bytes are enough, bytes and
-- fields that an entry may have, ids.
--
-- What somebody has taken over since is left to him: two who take over from the same don't get the same, whatever the clock says.
-- An entry without a body that isn't pending was acknowledged by somebody in the meantime; one that is pending was trimmed away and is
-- lost. Only a script can tell the two apart, for XCLAIM removes the second without a word.
local stream, group, consumer, idle, owner = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local enough, most_bytes, most_fields = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local taken, gone, heavy = {}, {}, {}
local looked_at, held = 0, 0
for at = 8, #ARGV do
  if held >= enough then break end
  looked_at = looked_at + 1
  local id = ARGV[at]
  local is_free = owner == '' or #redis.call('XPENDING', stream, group, id, id, 1, owner) == 1
  local entry = is_free and redis.call('XRANGE', stream, id, id)[1]
  if not is_free then
    -- Not to be had any more.
  elseif not entry then
    if #redis.call('XPENDING', stream, group, id, id, 1) == 1 then
      redis.call('XACK', stream, group, id)
      gone[#gone + 1] = id
    end
  else
    local bytes, fields = 0, #entry[2] / 2
    for part = 1, #entry[2] do bytes = bytes + #entry[2][part] end
    -- A field takes memory beside its text, here and there.
    held = held + bytes + 64 * fields
    if bytes > most_bytes or fields > most_fields then
      if #redis.call('XCLAIM', stream, group, consumer, idle, id, 'JUSTID') == 1 then heavy[#heavy + 1] = { id, bytes, fields } end
    else
      taken[#taken + 1] = redis.call('XCLAIM', stream, group, consumer, idle, id)[1]
    end
  end
end
return { taken, gone, heavy, looked_at }
