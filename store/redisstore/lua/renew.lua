-- renew: moves the end of the lease, and takes back a doubt that acquire marked.
--
-- ARGV[2..7]  the bid
-- Verdicts    gone, superseded

if not r.state then
  return reply('gone')
elseif not owns() or r.state ~= 'running' and not (r.state == 'in_doubt' and r.marked ~= '') then
  return reply('superseded')
end
r.state, r.marked, r.doubted = 'running', '', '0'
r.lease_end = decimal(math.max(now + lease, tonumber(r.lease_end)))
revise()
extend(ttl)
return reply('')
