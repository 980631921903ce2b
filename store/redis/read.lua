-- What every verb starts with: it reads the clock and the record.
--
-- KEYS[1]  the record, a hash:
--   head     version state origin revision fence claimed lease_end deadline
--            doubted settled flags owner; times in µs, 0 if there is none; flags
--            are a dash and, in this order, m: marked, f: forgotten, k: has a
--            kept success
--   id       the key in plain text
--   info     of the owner's bid, thirteen words or more that are not looked into
--   by, history (JSON), data, context, missing, kept_data, kept_context,
--   kept_missing: only where there is something to say
-- ARGV[1]  its key in plain text; empty: whichever it is
--
-- Reply, unless a verb says otherwise: {now, verdict, expires, {field, value, ...}}
--   now      the server's clock in µs
--   verdict  why the call was refused; empty: it was not
--   expires  until when the record is remembered, in ms; 0: forever
--   fields   the record; none: absent. The pair echo, info stands for the info
--            that the caller sent, and echo, outcome for data, context and
--            missing.
-- An error that begins with CORRUPT or VERSION: the record cannot be read, and
-- nothing was written.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local fields = redis.call('HGETALL', KEYS[1])
local h, history = {}, {}
local state, origin, revision, held_fence, claimed, lease_end, deadline, doubted, settled, marked, forgotten, kept, held_by

if fields[1] then
  for i = 1, #fields, 2 do
    h[fields[i]] = fields[i + 1]
  end
  local head = h.head or ''
  state, origin, revision, held_fence, claimed, lease_end, deadline, doubted, settled, marked, forgotten, kept, held_by =
    string.match(head, '^1 ([%l_]+) (%l+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) %-(m?)(f?)(k?) (.+)$')
  local bad
  if not state then
    bad = string.find(head, '^%d+ ') and string.sub(head, 1, 2) ~= '1 ' and 'VERSION unknown' or 'CORRUPT head'
  elseif state ~= 'succeeded' and state ~= 'running' and state ~= 'failed' and state ~= 'in_doubt'
      and state ~= 'pending' and state ~= 'tombstone'
      or origin ~= 'first' and origin ~= 'taken' and origin ~= 'clean'
      or state == 'running' and lease_end == '0'
      -- Above, a number is no longer exact.
      or tonumber(held_fence) > 2 ^ 53 - 1 or tonumber(revision) > 2 ^ 53 - 1 then
    bad = 'CORRUPT head'
  elseif h.id ~= ARGV[1] and (ARGV[1] ~= '' or not h.id) then
    bad = 'CORRUPT another key'
  elseif not h.info then
    bad = 'CORRUPT info'
  elseif h.history then
    local ok, list = pcall(cjson.decode, h.history)
    bad = (not ok or type(list) ~= 'table' or not list[1]) and 'CORRUPT history'
    history = bad and {} or list
    for _, e in ipairs(history) do
      local words = type(e) == 'table' and e or {}
      for _, word in pairs(words) do
        bad = bad or type(word) ~= 'string' and 'CORRUPT history'
      end
      if bad or not words.what or not string.find((words.at or '') .. (words.fence or ''), '^%d+$') then
        bad = 'CORRUPT history'
      end
    end
  end
  if bad then
    return redis.error_reply(bad)
  end
end
