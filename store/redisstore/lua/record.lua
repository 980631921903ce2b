-- Reads the record v strictly: whatever passes here, record.go can read, so that no
-- verb writes on what its caller then cannot read. What a record is made of:
--
--   head     version (1), state, origin, flags: a byte each; revision: 4 bytes; fence,
--            at, deadline: 7 bytes each, times in µs. at is the end of the lease while
--            running, since when while in doubt, and when it settled otherwise.
--            Flags: 1 marked, 2 forgotten, 4 kept, 8 by, 16 history, 32 outcome,
--            64 claimed at the time that the fence says, 128 generation
--   claimed  7 bytes, unless the fence says it
--   generation  4 bytes, where the flags say so; else it is 0
--   owner    a packed text, as are the following; see record.go for their forms
--   key
--   info     of the owner's bid; it is not looked into
--   by, outcome, kept, history, where the flags say so

local max_number = 2 ^ 53 - 1
local states = {r = 'running', d = 'in_doubt', p = 'pending', s = 'succeeded', f = 'failed', t = 'tombstone'}
local origins = {f = 'first', t = 'taken', c = 'clean'}
local packed_size = {[194] = 32, [195] = 16, [196] = 17, [197] = 25, [198] = 2, [199] = 0}

-- Each of the following returns where what begins at i ends; nil if it is broken.

local function raw_end(s, i)
  local b, high, middle, low = string.byte(s, i, i + 3)
  if b and b < 192 then
    i = i + 1 + b
  elseif b == 192 and low then
    local n = high * 65536 + middle * 256 + low
    i = n <= 65536 and i + 4 + n
  else
    return nil
  end
  return i and i <= #s + 1 and i or nil
end

local function text_end(s, i, key_size)
  local b, from, n = string.byte(s, i, i + 2)
  if not b or b <= 192 then
    return raw_end(s, i)
  elseif not packed_size[b] or b == 198 and (not n or from + n > key_size) then
    return nil
  end
  i = i + 1 + packed_size[b]
  return i <= #s + 1 and (b ~= 196 or string.byte(s, i - 1) % 64 == 0) and i or nil
end

local function owner_end(s, i)
  local b = string.byte(s, i)
  local ends = b and (b <= 192 or b == 196) and text_end(s, i, 0)
  return ends and ends - i <= 516 and ends or nil
end

-- key_end also returns how long the key is in plain text.
local function key_end(s, i)
  local digest = string.byte(s, i) == 202
  local from = digest and i + 1 or i
  local ends = raw_end(s, from)
  if not ends then
    return nil
  end
  local size = ends - from - (string.byte(s, from) == 192 and 4 or 1) + (digest and 64 or 0)
  ends = ends + (digest and 32 or 0)
  return ends <= #s + 1 and size > 0 and size <= 65536 and ends or nil, size
end

local function count_end(s, i)
  local b = string.byte(s, i)
  i = b and i + (b == 255 and 5 or 1)
  return i and i <= #s + 1 and i or nil
end

local function info_end(s, i, key_size)
  for _ = 1, 12 do
    i = i and text_end(s, i, key_size)
  end
  if not i or i + 9 > #s or string.byte(s, i) > 1 then
    return nil
  end
  local seconds, nanos = struct.unpack('>I5I4', s, i + 1)
  if seconds > 315537897599 or nanos > 999999999 then
    return nil
  end
  i = count_end(s, i + 10)
  return i and count_end(s, i)
end

local function context_end(s, i, key_size)
  local b = string.byte(s, i)
  if b ~= 200 and b ~= 201 then
    return text_end(s, i, key_size)
  end
  i = i + 1
  for _ = 1, 5 do
    i = i and string.byte(s, i) ~= 192 and text_end(s, i, key_size)
  end
  return i or nil
end

local function outcome_end(s, i, key_size)
  local has = string.byte(s, i)
  if not has or has > 15 then
    return nil
  end
  i = i + 1
  if has % 2 == 1 then
    if i + 3 > #s then
      return nil
    end
    local n = struct.unpack('>I4', s, i)
    i = i + 4 + n
    if n > 16777216 or i > #s + 1 then
      return nil
    end
  end
  if has % 4 > 1 then
    i = context_end(s, i, key_size)
  end
  if i and has % 8 > 3 then
    i = raw_end(s, i)
  end
  return i
end

-- says_why reports whether an outcome is one of a doubt: it has data, and no data is
-- missing.
local function says_why(outcome)
  local has = string.byte(outcome)
  return (has == 1 or has == 3) and struct.unpack('>I4', outcome, 2) > 0
end

local r, key, key_size, info, history = {revision = 0, fence = 0, generation = 0}, nil, 0, nil, {}

-- raw reads a plain text at i, and returns where it ends.
local function raw(i)
  local ends = i and raw_end(v, i)
  return ends and string.sub(v, i + (string.byte(v, i) == 192 and 4 or 1), ends - 1), ends
end

local function read_history(i)
  local n = string.byte(v, i) or 0
  if n < 1 or n > 64 then
    return nil
  end
  i = i + 1
  for k = 1, n do
    local e = {}
    e.what, i = raw(i)
    if (e.what or '') == '' or i + 7 > #v then
      return nil
    end
    e.at, e.from = struct.unpack('>I7c1', v, i)
    e.from = states[e.from] or e.from == '\0' and ''
    local owner = i + 8
    i = owner_end(v, owner)
    if not i or not e.from or e.at < 1 or e.at > max_number or i + 6 > #v then
      return nil
    end
    e.owner = string.sub(v, owner, i - 1)
    e.fence = struct.unpack('>I7', v, i)
    i = e.fence <= max_number and i + 7
    for _, field in ipairs({'by', 'why', 'id', 'from_by', 'who'}) do
      e[field], i = raw(i)
    end
    if not i then
      return nil
    end
    history[k] = e
  end
  return i
end

-- read_record reads all of v, and reports whether it is a record.
local function read_record()
  if #v < 40 then
    return false
  end
  r.state, r.origin = states[string.sub(v, 2, 2)], origins[string.sub(v, 3, 3)]
  local flags = string.byte(v, 4)
  r.revision, r.fence, r.at, r.deadline, r.claimed = struct.unpack('>I4I7I7I7I7', v, 5)
  local body = 37
  if flags % 128 > 63 then
    r.claimed, body = r.fence, 30
  end
  if flags > 127 then
    r.generation = struct.unpack('>I4', v, body)
    body = body + 4
  end
  r.marked, r.forgotten = flags % 2 == 1, flags % 4 > 1
  local has_kept, has_by, has_history, has_outcome = flags % 8 > 3, flags % 16 > 7, flags % 32 > 15, flags % 64 > 31
  local settled = r.state == 'succeeded' or r.state == 'failed'
  if not r.state or not r.origin or r.generation > r.revision or flags > 127 and r.generation < 1 or r.revision < 1 or r.fence < 1 or r.claimed < 1 or r.at < 1
      or r.fence > max_number or r.claimed > max_number or r.at > max_number or r.deadline > max_number
      or r.marked and r.state ~= 'in_doubt' or has_kept and r.state ~= 'running' and r.state ~= 'pending'
      or has_outcome and not settled and (r.state ~= 'in_doubt' or r.marked) then
    return false
  end
  local i = owner_end(v, body)
  if not i or string.byte(v, body) == 0 then
    return false
  end
  r.owner = string.sub(v, body, i - 1)
  local from = i
  i, key_size = key_end(v, from)
  if not i then
    return false
  end
  key, from = string.sub(v, from, i - 1), i
  i = info_end(v, from, key_size)
  if not i then
    return false
  end
  info = string.sub(v, from, i - 1)
  if has_by then
    r.by, i = raw(i)
    if (r.by or '') == '' then
      return false
    end
  end
  if has_outcome then
    from, i = i, outcome_end(v, i, key_size)
    r.outcome = i and string.sub(v, from, i - 1)
    if not i or not settled and not says_why(r.outcome) then
      return false
    end
  end
  if has_kept then
    from, i = i, outcome_end(v, i, key_size)
    r.kept = i and string.sub(v, from, i - 1)
  end
  if i and has_history then
    i = read_history(i)
  end
  return i == #v + 1
end

if v then
  local version = string.byte(v) or 0
  if version > 1 and version < 32 then
    return redis.error_reply('VERSION unknown')
  elseif version ~= 1 or not read_record() then
    return redis.error_reply('CORRUPT record')
  end
end
