-- page: reads on in indexes.
--
-- KEYS     the index. Where all keys share one, also a name that a Cluster has in
--          another slot: a server that refuses the two together needs an index for
--          each slot. None: any of the server's indexes.
-- ARGV[1]  the entry that says that no open record is missing
-- ARGV[2]  up to which score
-- ARGV[3]  how many entries of each; more, if those that follow have the score of
--          the last
-- ARGV[4..] an index, and from which score; and so on; see open.lua
--
-- Reply    {{which, complete, more, {name, score, ...}}, ...} of the indexes that
--          have entries or are not complete; {which} of one that is elsewhere

local pages = {}
for i = 4, #ARGV, 2 do
  local index, which = ARGV[i], (i - 4) / 2
  local complete = redis.pcall('ZSCORE', index, ARGV[1])
  if type(complete) == 'table' and KEYS[1] then
    return complete
  elseif type(complete) == 'table' then
    pages[#pages + 1] = {which}
  else
    local page = redis.call('ZRANGE', index, ARGV[i + 1], ARGV[2], 'BYSCORE', 'LIMIT', 0, ARGV[3], 'WITHSCORES')
    local more = #page == 2 * ARGV[3] and 1 or 0
    if more == 1 then
      local last = page[#page]
      while page[#page] == last do
        page[#page], page[#page - 1] = nil, nil
      end
      for _, name in ipairs(redis.call('ZRANGE', index, last, last, 'BYSCORE')) do
        page[#page + 1] = name
        page[#page + 1] = last
      end
    end
    if page[1] or not complete then
      pages[#pages + 1] = {which, complete and 1 or 0, more, page}
    end
  end
end
return pages
