-- acquire: grants the key or leaves the record to its owner.
--
-- ARGV[1..5]  the bid
-- Verdicts    superseded

if spent() then
  return reply('superseded')
elseif r.state == 'tombstone' then
  note_replaced()
  grant('first')
elseif r.state == 'running' and r.owner ~= owner and now >= r.at then
  if r.kept then
    adopt()
  else
    doubt()
    r.marked = true
  end
  extend(ttl)
else
  touch(ttl)
  -- An entry may be missing: a backup that was restored in part, an index removed.
  if before then
    redis.pcall('ZADD', KEYS[2], before, KEYS[1])
  end
end
return reply('')
