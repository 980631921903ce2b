-- page: reads on in an index.
--
-- KEYS[1]  the index; see open.lua
-- KEYS[2]  only where all keys share one index: a name that a Cluster has in
--          another slot. A server that refuses the two together needs an index for
--          each slot.
-- ARGV[1]  the entry that says that no open record is missing
-- ARGV[2,3] from which score to which
-- ARGV[4]  how many entries; more, if those that follow have the score of the last
--
-- Reply    {complete, more, {name, score, ...}}

local function range(from, to, ...)
  return redis.call('ZRANGE', KEYS[1], from, to, 'BYSCORE', ...)
end

local complete = redis.call('ZSCORE', KEYS[1], ARGV[1]) and 1 or 0
local page = range(ARGV[2], ARGV[3], 'LIMIT', 0, ARGV[4], 'WITHSCORES')
if #page < 2 * ARGV[4] then
  return {complete, 0, page}
end
local last = page[#page]
while page[#page] == last do
  page[#page], page[#page - 1] = nil, nil
end
for _, name in ipairs(range(last, last)) do
  page[#page + 1] = name
  page[#page + 1] = last
end
return {complete, 1, page}
