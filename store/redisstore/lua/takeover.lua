-- takeover: gives a record that is in doubt or pending to the bid.
--
-- ARGV[2..7]  the bid
-- ARGV[8]     empty: the predecessors may have taken effect
-- ARGV[9..11] state, revision and fence that the caller has read
-- Verdicts    moved, superseded

if r.state == 'running' and r.owner == owner then
  return reply('')
elseif (r.state or '') ~= ARGV[9] or r.revision ~= ARGV[10] or (r.fence or '0') ~= ARGV[11] then
  return reply('moved')
elseif spent() or r.owner == owner then
  return reply('superseded')
elseif r.state ~= 'in_doubt' and r.state ~= 'pending' then
  return reply('moved')
end
note_replaced()
grant(ARGV[8] ~= '' and 'clean' or 'taken')
return reply('')
