-- takeover: gives a record that is in doubt or pending to the bid.
--
-- ARGV[1..5]  the bid
-- ARGV[6]     empty: the predecessors may have taken effect
-- ARGV[7..9]  state, revision and fence that the caller has read
-- Verdicts    moved, superseded

if r.state == 'running' and r.owner == owner then
  return reply('')
elseif (r.state or '') ~= ARGV[7] or r.revision ~= tonumber(ARGV[8]) or r.fence ~= tonumber(ARGV[9]) then
  return reply('moved')
elseif spent() or r.owner == owner then
  return reply('superseded')
elseif r.state ~= 'in_doubt' and r.state ~= 'pending' then
  return reply('moved')
end
note_replaced()
grant(ARGV[6] ~= '' and 'clean' or 'taken')
return reply('')
