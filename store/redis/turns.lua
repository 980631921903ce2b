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

-- note adds an event, and drops the oldest release, or else the oldest event,
-- of more than 64.
local function note(event)
  event.at = decimal(now)
  history[#history + 1] = event
  if #history > 64 then
    local drop = 1
    for i, e in ipairs(history) do
      if e.what == 'released' then
        drop = i
        break
      end
    end
    table.remove(history, drop)
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

local function write()
  local before = place(state, claimed, doubted, settled)
  local after = place(r.state, r.claimed, r.doubted, r.settled)
  if after and after ~= before then
    redis.call('ZADD', KEYS[2], after, KEYS[1])
  end
  set('head', table.concat({'1', r.state, r.origin, r.revision, r.fence, r.claimed, r.lease_end, r.deadline,
    r.doubted, r.settled, '-' .. r.marked .. r.forgotten .. r.kept, r.owner}, ' '))
  local sets, gone = {}, {}
  for field in pairs(dirty) do
    if h[field] then
      sets[#sets + 1] = field
      sets[#sets + 1] = h[field]
    else
      gone[#gone + 1] = field
    end
  end
  redis.call('HSET', KEYS[1], unpack(sets))
  if gone[1] then
    redis.call('HDEL', KEYS[1], unpack(gone))
  end
  if before and not after then
    redis.pcall('ZREM', KEYS[2], KEYS[1])
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
end

local function reply(verdict)
  if r.revision ~= revision_read then
    if not echo.info and not string.find(h.info, '^' .. string.rep('%S* ', 12)) then
      return redis.error_reply('CORRUPT info')
    end
    write()
  end
  if expires ~= promised then
    if expires == 0 then
      redis.call('PERSIST', KEYS[1])
    else
      redis.call('PEXPIREAT', KEYS[1], decimal(expires))
    end
  end
  return {now, verdict, expires, fields}
end
