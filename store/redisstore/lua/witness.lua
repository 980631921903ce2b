-- witness: reports whether a server still has what it once acknowledged, and is
-- still the same process.
--
-- KEYS[1]  the witness, a hash: beat (a counter), run (the server's run ID), loss
--          (what was noticed last: forgot or replaced), at (when, in µs) and by
--          (which caller noticed)
-- ARGV[1]  the caller
-- ARGV[2]  the highest beat that the caller knows; 0: none
-- ARGV[3..] the run IDs of all masters: a witness that one of them has handed over
--          with its slot has lost nothing
--
-- Reply    {beat, loss, at, now, by}

local clock = redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000000 + clock[2])
local w = redis.call('HMGET', KEYS[1], 'beat', 'run', 'loss', 'at', 'by')
local beat, run, loss, at, by = tonumber(w[1] or 0), w[2] or '', w[3] or '', w[4] or '0', w[5] or ''
local told = tonumber(ARGV[2])
-- A counter that cannot be read is a lost one.
local unread = not string.find(w[1] or '0', '^%d+$') or beat >= 2 ^ 53 - 1
if unread or not string.find(at, '^%d+$') or #at > 16 then
  beat, at = unread and 0 or beat, '0'
end

-- Not every user may run INFO.
local info = redis.pcall('INFO', 'server')
local here = type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
local alive, listed = run == '' or here == '' or run == here, #ARGV < 3
for i = 3, #ARGV do
  alive = alive or run == ARGV[i]
  listed = listed or here == ARGV[i]
end

if unread or beat < told then
  beat, loss, at, by = told, 'forgot', now, ARGV[1]
elseif not alive then
  loss, at, by = 'replaced', now, ARGV[1]
end
-- A list without this server is older than a fail-over: the next one decides.
if here ~= '' and (listed or not alive) then
  run = here
end
beat = beat + 1
redis.call('HSET', KEYS[1], 'beat', string.format('%.0f', beat), 'run', run, 'loss', loss, 'at', at, 'by', by)
return {beat, loss, tonumber(at), tonumber(now), by}
