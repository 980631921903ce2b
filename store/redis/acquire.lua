-- acquire: grants the key or leaves the record to its owner.
--
-- ARGV[2..7]  the bid
-- Verdicts    superseded

if spent() then
  return reply('superseded')
elseif r.state == 'tombstone' then
  if not h.by then
    note({what = 'released', from = 'tombstone', owner = r.owner, fence = r.fence})
  end
  grant('first')
elseif r.state == 'running' and r.owner ~= owner and now >= tonumber(r.lease_end) then
  doubt()
  r.marked = 'm'
  extend(ttl)
else
  touch(ttl)
end
return reply('')
