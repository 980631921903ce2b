-- witness: tells whether a server still has what it once acknowledged, and is
-- still the same process.
--
-- KEYS[1]  the witness, a hash: beat (a counter), run (the server's run ID), loss
--          (what was noticed last: forgot or replaced) and at (when, in µs)
-- ARGV[1]  the server's run ID; empty: unknown
-- ARGV[2]  the highest beat that the caller was told; 0: none
-- ARGV[3..] the run IDs of all masters: of a witness that one of them has handed
--          over with its slot, nothing is lost
--
-- Reply    {beat, loss, at, now}

local clock = redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000000 + clock[2])
local w = redis.call('HMGET', KEYS[1], 'beat', 'run', 'loss', 'at')
local beat, run, loss, at = tonumber(w[1] or 0), w[2] or '', w[3] or '', w[4] or '0'
local told = tonumber(ARGV[2])

if beat < told then
  beat, loss, at = told, 'forgot', now
elseif run ~= '' and ARGV[1] ~= '' then
  local alive = false
  for i = 3, #ARGV do
    alive = alive or run == ARGV[i]
  end
  if not alive then
    loss, at = 'replaced', now
  end
end
if ARGV[1] ~= '' then
  run = ARGV[1]
end
beat = beat + 1
redis.call('HSET', KEYS[1], 'beat', string.format('%.0f', beat), 'run', run, 'loss', loss, 'at', at)
return {beat, loss, tonumber(at), tonumber(now)}
