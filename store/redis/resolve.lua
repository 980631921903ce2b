-- resolve: writes a decision that no owner made.
--
-- ARGV[2]     nonce of the resolution
-- ARGV[3]     the state to write: succeeded, failed or tombstone
-- ARGV[4,5]   who decided, and why
-- ARGV[6]     TTL in µs; 0: forever
-- ARGV[7]     empty: not while running
-- ARGV[8..10] state, revision and fence that the caller has read
-- ARGV[11]    empty: the outcome has no data
-- ARGV[12]    its data, any bytes
-- ARGV[13]    its context
-- ARGV[14]    why its data is missing
-- Verdicts    moved

local function given(v)
  return v ~= '' and v or nil
end

local to, by = ARGV[3], ARGV[4]

for _, e in ipairs(history) do
  if e.what == 'resolved' and e.id == ARGV[2] then
    return reply('')
  end
end
local open = r.state == 'in_doubt' or r.state == 'pending'
  or r.state == 'running' and ARGV[7] ~= ''
  or (r.state == 'succeeded' or r.state == 'failed') and to == 'tombstone'
if not open or r.state ~= ARGV[8] or r.revision ~= ARGV[9] or r.fence ~= ARGV[10] then
  return reply('moved')
end
note({
  what = 'resolved', from = r.state, owner = r.owner, fence = r.fence,
  by = by, why = given(ARGV[5]), id = ARGV[2],
})
if to == 'tombstone' then
  bury()
else
  put({
    state = to, data = ARGV[11] ~= '' and ARGV[12] or nil,
    context = given(ARGV[13]), missing = given(ARGV[14]),
  })
end
set('by', by)
extend(tonumber(ARGV[6]))
return reply('')
