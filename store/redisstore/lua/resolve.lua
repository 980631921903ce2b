-- resolve: writes a decision that no owner made.
--
-- ARGV[2]     nonce of the resolution
-- ARGV[3]     the state to write: succeeded, failed or tombstone
-- ARGV[4,5]   the kind of decision, and why it was made
-- ARGV[6]     TTL in µs; 0: forever
-- ARGV[7]     empty: not while running; to erase, nor while in doubt or pending
-- ARGV[8..10] state, revision and fence that the caller has read
-- ARGV[11]    empty: the outcome has no data
-- ARGV[12]    its data, any bytes
-- ARGV[13]    its context
-- ARGV[14]    why its data is missing
-- ARGV[15]    the person who decided
-- ARGV[16]    not empty: erase the record; the info of one that says nothing
-- ARGV[17]    how long an erased tombstone is kept, in µs
-- Verdicts    moved

local function given(v)
  return v ~= '' and v or nil
end

local to, by, erase, force = ARGV[3], ARGV[4], ARGV[16] ~= '', ARGV[7] ~= ''

for _, e in ipairs(history) do
  if e.id == ARGV[2] and (e.what == 'resolved' or e.what == 'erased') then
    return reply('')
  end
end
local open = r.state == 'succeeded' or r.state == 'failed'
  or (r.state == 'in_doubt' or r.state == 'pending') and (force or not erase)
  or r.state == 'running' and force
  or r.state == 'tombstone' and erase
if not open or r.state ~= ARGV[8] or r.revision ~= ARGV[9] or r.fence ~= ARGV[10] then
  return reply('moved')
end
local event = {
  what = erase and 'erased' or 'resolved', from = r.state, from_by = h.by, owner = r.owner, fence = r.fence,
  by = by, who = given(ARGV[15]), why = given(ARGV[5]), id = ARGV[2],
}
if erase then
  bury()
  r.deadline, r.forgotten = '0', ''
  set('info', ARGV[16])
  for _, e in ipairs(history) do
    if e.what ~= 'erased' then
      e.who, e.why = nil, nil
    end
  end
  expires_anew(tonumber(ARGV[17]))
elseif to == 'tombstone' then
  bury()
  extend(tonumber(ARGV[6]))
else
  put({
    state = to, data = ARGV[11] ~= '' and ARGV[12] or nil,
    context = given(ARGV[13]), missing = given(ARGV[14]),
  })
  extend(tonumber(ARGV[6]))
end
note(event)
set('by', by)
return reply('')
