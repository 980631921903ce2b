-- release: takes back a claim that did nothing.
--
-- ARGV[1..5]  the bid
-- ARGV[6]     empty: the body was not started
-- ARGV[7]     how long a tombstone is kept, in µs
-- Verdicts    superseded

local began, tombstone_ttl = ARGV[6] ~= '', tonumber(ARGV[7])

if not r.state then
  create(tombstone_ttl)
  bury()
elseif not owns() then
  for _, e in ipairs(history) do
    if e.what == 'released' and e.owner == owner then
      return reply('')
    end
  end
  return reply('superseded')
elseif r.state == 'tombstone' then
  return reply('')
elseif r.state == 'succeeded' or r.state == 'failed' then
  local adopted = r.by == 'superseded'
  for _, e in ipairs(history) do
    adopted = adopted or e.owner == owner and e.what == 'resolved' and e.from_by == 'superseded'
  end
  return reply(adopted and '' or 'superseded')
elseif r.kept then
  adopt()
  extend(ttl)
elseif r.origin == 'first' or r.origin == 'clean' and began then
  if history[1] then
    extend(tombstone_ttl)
  else
    expires_anew(tombstone_ttl)
  end
  bury()
elseif r.state ~= 'in_doubt' or r.marked then
  doubt()
  extend(ttl)
end
return reply('')
