-- renew: moves the end of the lease, and takes back a doubt that acquire marked.
--
-- ARGV[1..5]  the bid
-- Verdicts    gone, superseded

if not r.state then
  return reply('gone')
elseif not owns() or r.state ~= 'running' and not (r.state == 'in_doubt' and r.marked) then
  return reply('superseded')
end
r.at = math.max(now + lease, r.state == 'running' and r.at or 0)
r.state, r.marked = 'running', false
revise()
extend(ttl)
return reply('')
