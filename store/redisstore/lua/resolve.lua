-- resolve: writes a decision that no owner made.
--
-- ARGV[1]     the key, packed as in a record
-- ARGV[2]     nonce of the resolution
-- ARGV[3]     the state to write: succeeded, failed or tombstone
-- ARGV[4,5]   the kind of decision, and why it was made
-- ARGV[6]     TTL in µs; 0: forever
-- ARGV[7]     empty: not while running; to erase, nor while in doubt or pending
-- ARGV[8..10] state, revision and fence that the caller has read
-- ARGV[11]    the outcome as in a record; empty: it says nothing
-- ARGV[12]    the person who decided
-- ARGV[13]    not empty: erase the record; the info of one that says nothing
-- ARGV[14]    how long an erased tombstone is kept, in µs
-- Verdicts    moved

local to, by, erase, force = ARGV[3], ARGV[4], ARGV[13] ~= '', ARGV[7] ~= ''

if v and key ~= ARGV[1] then
  return redis.error_reply('CORRUPT another key')
end
for _, e in ipairs(history) do
  if e.id == ARGV[2] and (e.what == 'resolved' or e.what == 'erased') then
    return reply('')
  end
end
local open = r.state == 'succeeded' or r.state == 'failed'
  or (r.state == 'in_doubt' or r.state == 'pending') and (force or not erase)
  or r.state == 'running' and force
  or r.state == 'tombstone' and erase
if not open or r.state ~= ARGV[8] or r.revision ~= tonumber(ARGV[9]) or r.fence ~= tonumber(ARGV[10]) then
  return reply('moved')
end
local event = {
  what = erase and 'erased' or 'resolved', from = r.state, from_by = r.by, owner = r.owner, fence = r.fence,
  by = by, who = ARGV[12], why = ARGV[5], id = ARGV[2],
}
if r.state == 'succeeded' and to == 'tombstone' then
  r.generation = r.generation + 1
end
if erase then
  bury()
  r.deadline, r.forgotten, info = 0, false, ARGV[13]
  for _, e in ipairs(history) do
    if e.what ~= 'erased' then
      e.who, e.why = '', ''
    end
  end
  expires_anew(tonumber(ARGV[14]))
elseif to == 'tombstone' then
  bury()
  extend(tonumber(ARGV[6]))
else
  put(to, ARGV[11] ~= '' and ARGV[11] or nil)
  extend(tonumber(ARGV[6]))
end
note(event)
r.by = by
return reply('')
