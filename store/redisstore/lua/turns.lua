-- The turns that protocol.go names. They change r, the head, and h, the other
-- fields; nothing is written before reply().

local r = {
  state = state, origin = origin, revision = revision or '0', fence = held_fence, claimed = claimed,
  lease_end = lease_end, deadline = deadline, doubted = doubted, settled = settled, marked = marked,
  forgotten = forgotten, kept = kept, owner = held_by,
}
local revision_read = r.revision
local expires = state and math.max(redis.call('PEXPIRETIME', KEYS[1]), 0) or 0
local promised = expires
local dirty, echo = {}, {}

local function decimal(n)
  return string.format('%.0f', n)
end

-- set gives a field of the hash its value; nil removes it.
local function set(field, value)
  if h[field] ~= value then
    h[field] = value
    dirty[field] = true
  end
end

local function revise()
  r.revision = decimal(r.revision + 1)
end

local function repeats(later, e)
  return e.what == later.what and e.owner == later.owner and e.from == later.from and e.from_by == later.from_by
end

-- droppable is the oldest event that a later one repeats, or else the oldest
-- release, or else the oldest event.
local function droppable()
  local release
  for i, e in ipairs(history) do
    for j = i + 1, #history do
      if repeats(history[j], e) then
        return i
      end
    end
    release = release or e.what == 'released' and i
  end
  return release or 1
end

-- note adds an event, and drops one of more than 64.
local function note(event)
  event.at = decimal(now)
  history[#history + 1] = event
  if #history > 64 then
    table.remove(history, droppable())
  end
  set('history', cjson.encode(history))
end

-- extend keeps the record at least ttl µs longer; 0: forever. A sixteenth is
-- added so that touch need not write on every read.
local function extend(ttl)
  if expires == 0 then
    return
  elseif ttl == 0 then
    expires = 0
  else
    expires = math.max(expires, math.ceil((now + ttl + math.floor(ttl / 16)) / 1000))
  end
end

local function expires_anew(ttl)
  expires = math.floor(now / 1000)
  extend(ttl)
end

local function touch(ttl)
  if expires == 0 or ttl ~= 0 and expires * 1000 - now >= ttl then
    return
  end
  extend(ttl)
end

local function set_outcome(o)
  set('data', o.data)
  set('context', o.context)
  set('missing', o.missing)
end

local function keep(o)
  r.kept = o and 'k' or ''
  set('kept_data', o and o.data)
  set('kept_context', o and o.context)
  set('kept_missing', o and o.missing)
end

local function turn(state)
  r.state, r.marked, r.lease_end = state, '', '0'
  r.doubted, r.settled = '0', decimal(now)
  revise()
end

local function doubt()
  turn('in_doubt')
  r.doubted, r.settled = r.settled, '0'
end

-- put records what came of the act.
local function put(o)
  if o.state == 'in_doubt' then
    doubt()
    if o.data and o.data ~= '' then
      set('data', o.data)
      set('context', o.context)
    end
    return
  end
  turn(o.state)
  set('by', nil)
  if o.state ~= 'pending' then
    set_outcome(o)
    keep(nil)
  end
end

-- adopt makes the kept success of an earlier owner the outcome.
local function adopt()
  put({state = 'succeeded', data = h.kept_data, context = h.kept_context, missing = h.kept_missing})
  set('by', 'superseded')
end

local function bury()
  turn('tombstone')
  set('by', nil)
  set_outcome({})
  keep(nil)
end

local outcome_fields = {data = true, context = true, missing = true}

-- readable_info reports whether record.go can read the info of the hash.
local function readable_info()
  local words = {}
  for word in string.gmatch(h.info .. ' ', '(%S*) ') do
    words[#words + 1] = word
  end
  local bare = string.gsub(h.info, '%%%x%x', '')
  if #words < 13 or string.find(bare, '[%%%z\1-\31]') then
    return false
  end
  for _, count in ipairs({words[12], words[15] or '0'}) do
    if not string.find(count, '^%-?%d+$') or #count > 11 or math.abs(tonumber(count)) > 2147483647 then
      return false
    end
  end
  if words[11] == '' then
    return true
  end
  local year, month, day, hour, minute, second, rest =
    string.match(words[11], '^(%d%d%d%d)%-(%d%d)%-(%d%d)T(%d%d):(%d%d):(%d%d)(.*)Z$')
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  if not year or month < 1 or month > 12 or hour > '23' or minute > '59' or second > '59'
      or rest ~= '' and (not string.find(rest, '^%.%d+$') or #rest > 10) then
    return false
  end
  local leap = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
  local days = month == 2 and (leap and 29 or 28) or 30 + (month + math.floor(month / 8)) % 2
  return day >= 1 and day <= days
end

-- changes returns the commands that write the record, and makes fields the answer.
-- What they add to the index comes first, and what they remove from it last.
local function changes()
  set('head', table.concat({'1', r.state, r.origin, r.revision, r.fence, r.claimed, r.lease_end, r.deadline,
    r.doubted, r.settled, '-' .. r.marked .. r.forgotten .. r.kept, r.owner}, ' '))
  local sets, gone = {'HSET', KEYS[1]}, {'HDEL', KEYS[1]}
  for field in pairs(dirty) do
    if h[field] then
      sets[#sets + 1] = field
      sets[#sets + 1] = h[field]
    else
      gone[#gone + 1] = field
    end
  end
  fields = {}
  for field, value in pairs(h) do
    if field == 'info' and echo.info then
      field, value = 'echo', 'info'
    elseif outcome_fields[field] and echo.outcome then
      field, value = 'echo', 'outcome'
    end
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  local commands = {sets, gone[3] and gone}
  local before = place(state, claimed, doubted, settled)
  local after = place(r.state, r.claimed, r.doubted, r.settled)
  if after and after ~= before then
    table.insert(commands, 1, {'ZADD', KEYS[2], after, KEYS[1]})
  elseif before and not after then
    commands[#commands + 1] = {'ZREM', KEYS[2], KEYS[1]}
  end
  return commands
end

-- commit runs all commands, or none if this user may not run one of them.
local function commit(commands)
  for _, c in ipairs(#commands > 1 and redis.acl_check_cmd and commands or {}) do
    if not redis.acl_check_cmd(c[1], c[2], '0', '0') then
      return redis.error_reply('NOPERM ' .. string.lower(c[1]))
    end
  end
  for _, c in ipairs(commands) do
    redis.call(unpack(c))
  end
end

local function reply(verdict)
  local commands = {}
  if r.revision ~= revision_read then
    if tonumber(r.revision) > max_number or tonumber(r.fence) > max_number then
      return redis.error_reply('CORRUPT head')
    elseif not echo.info and not readable_info() then
      return redis.error_reply('CORRUPT info')
    end
    commands = changes()
  end
  if expires ~= promised then
    commands[#commands + 1] = expires == 0 and {'PERSIST', KEYS[1]} or {'PEXPIREAT', KEYS[1], decimal(expires)}
  end
  return commit(commands) or {now, verdict, expires, fields}
end
