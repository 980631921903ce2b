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
-- nothing was written. What is read here must also pass Record.Validate, and the
-- parsers in record.go: they come when the verb has written.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local fields = redis.call('HGETALL', KEYS[1])
local h, history = {}, {}
local state, origin, revision, held_fence, claimed, lease_end, deadline, doubted, settled, marked, forgotten, kept, held_by

-- Above, a number is no longer exact. Numbers have no leading zeros, so that < '1'
-- says whether one is 0.
local max_number = 2 ^ 53 - 1

if fields[1] then
  local bad = #fields > 64 and 'CORRUPT too many fields'
  for i = 1, bad and 0 or #fields, 2 do
    local field, value = fields[i], fields[i + 1]
    if #value > 65536 and #value > (string.find(field, 'data$') and 16777216
        or (field == 'info' or field == 'history') and 4194304 or 65536) then
      bad = 'CORRUPT too long'
    end
    h[field] = value
  end
  local head = h.head or ''
  if not bad then
    state, origin, revision, held_fence, claimed, lease_end, deadline, doubted, settled, marked, forgotten, kept, held_by =
      string.match(head, '^1 ([%l_]+) (%l+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) %-(m?)(f?)(k?) (.+)$')
  end
  if bad then
    -- It is not looked into.
  elseif not state then
    bad = string.find(head, '^%d+ ') and string.sub(head, 1, 2) ~= '1 ' and 'VERSION unknown' or 'CORRUPT head'
  elseif origin ~= 'first' and origin ~= 'taken' and origin ~= 'clean'
      or held_fence < '1' or held_fence + 0 > max_number or revision < '1' or revision + 0 > max_number
      or lease_end + 0 > max_number or claimed < '1' or #claimed > 16 or #deadline > 16 or #doubted > 16 or #settled > 16
      or #held_by > 512 or marked ~= '' and state ~= 'in_doubt' or kept ~= '' and state ~= 'running' and state ~= 'pending'
      or kept == '' and (h.kept_data or h.kept_context or h.kept_missing) then
    bad = 'CORRUPT head'
  elseif state == 'succeeded' or state == 'failed' then
    bad = (lease_end ~= '0' or doubted ~= '0' or settled < '1') and 'CORRUPT head'
  elseif state == 'running' then
    bad = (lease_end < '1' or doubted ~= '0' or settled ~= '0'
      or h.data or h.context or h.missing) and 'CORRUPT head'
  elseif state == 'in_doubt' then
    bad = (lease_end ~= '0' or doubted < '1' or settled ~= '0'
      or h.missing or h.data == '' or h.data and marked ~= '' or h.context and not h.data) and 'CORRUPT head'
  else
    bad = (state ~= 'pending' and state ~= 'tombstone' or lease_end ~= '0' or doubted ~= '0' or settled < '1'
      or h.data or h.context or h.missing) and 'CORRUPT head'
  end
  if bad then
    -- That is enough.
  elseif h.id ~= ARGV[1] and (ARGV[1] ~= '' or not h.id) then
    bad = 'CORRUPT another key'
  elseif not h.info then
    bad = 'CORRUPT info'
  elseif h.history then
    -- read_history returns the events, or nil if a script did not write them.
    local function read_history(text)
      if string.find(text, '[%z\1-\31]') then
        return nil
      end
      -- Without what is in its strings, JSON of this form has few characters.
      local bare, words = string.gsub(text, '\\.', '')
      bare, words = string.gsub(bare, '"[^"]*"', '')
      local _, events = string.gsub(bare, '{', '')
      if events > 64 or words > 2048 or string.find(bare, '[^%[%]{},:]') then
        return nil
      end
      local ok, list = pcall(cjson.decode, text)
      if not ok or type(list) ~= 'table' or not list[1] then
        return nil
      end
      for _, e in ipairs(list) do
        if type(e) ~= 'table' then
          return nil
        end
        for word, value in pairs(e) do
          if type(value) ~= 'string' or not string.find(word, '^[%l_]+$') then
            return nil
          end
          words = words - 2
        end
        if (e.what or '') == '' or not string.find(e.at or '', '^[1-9]%d*$') or #e.at > 16
            or e.fence and (not string.find(e.fence, '^[1-9]%d*$') or #e.fence > 16) then
          return nil
        end
        events = events - 1
      end
      -- What is left over was there twice, or elsewhere.
      return words == 0 and events == 0 and list or nil
    end
    history = read_history(h.history)
    bad = not history and 'CORRUPT history'
  end
  if bad then
    return redis.error_reply(bad)
  end
end
