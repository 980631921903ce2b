-- acquire: grants the key or leaves the record to its owner.
--
-- ARGV[2..7]  the bid
-- Verdicts    superseded

if spent() then
  return reply('superseded')
elseif r.state == 'tombstone' then
  note_replaced()
  grant('first')
elseif r.state == 'running' and r.owner ~= owner and now >= tonumber(r.lease_end) then
  if r.kept ~= '' then
    adopt()
  else
    doubt()
    r.marked = 'm'
  end
  extend(ttl)
else
  touch(ttl)
  -- A program that knew of no index may have written it.
  local at = place(r.state, r.claimed, r.doubted, r.settled)
  if at then
    redis.pcall('ZADD', KEYS[2], at, KEYS[1])
  end
end
return reply('')
