-- The turns that protocol.go names. They change r, info and history; nothing is
-- written before reply().

local revision_read, state_read, owner_read, before = r.revision, r.state, r.owner, place()
local expires = v and math.max(redis.call('PEXPIRETIME', KEYS[1]), 0) or 0
local promised = expires

local function revise()
  r.revision = r.revision + 1
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
  event.at, event.from, event.fence = now, event.from or '', event.fence or 0
  for _, field in ipairs({'by', 'why', 'id', 'from_by', 'who'}) do
    event[field] = event[field] or ''
  end
  history[#history + 1] = event
  if #history > 64 then
    table.remove(history, droppable())
  end
end

-- extend keeps the record at least ttl µs longer; 0: forever.
local function extend(ttl)
  if expires == 0 then
    return
  elseif ttl == 0 then
    expires = 0
  else
    expires = math.max(expires, until_when(ttl))
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

local function turn(state)
  r.state, r.marked, r.at = state, false, now
  revise()
end

local function doubt()
  turn('in_doubt')
end

-- put records what came of the act.
local function put(state, outcome)
  turn(state)
  if state == 'in_doubt' then
    r.outcome = outcome or r.outcome
    return
  end
  r.by = nil
  if state ~= 'pending' then
    r.outcome, r.kept = outcome or '\0', nil
  end
end

-- adopt makes the kept success of an earlier owner the outcome.
local function adopt()
  put('succeeded', r.kept)
  r.by = 'superseded'
end

local function bury()
  turn('tombstone')
  r.by, r.outcome, r.kept = nil, nil, nil
end

local function raw_text(text)
  local n = #text
  return n < 192 and string.char(n) .. text or string.char(192) .. struct.pack('>I3', n) .. text
end

-- packed returns the record as it is kept.
local function packed()
  local flags = (r.marked and 1 or 0) + (r.forgotten and 2 or 0) + (r.kept and 4 or 0) + (r.by and 8 or 0)
    + (history[1] and 16 or 0) + (r.outcome and 32 or 0) + (r.claimed == r.fence and 64 or 0) + (r.generation > 0 and 128 or 0)
  local parts = {
    '\1', r.state == 'in_doubt' and 'd' or string.sub(r.state, 1, 1), string.sub(r.origin, 1, 1), string.char(flags),
    struct.pack('>I4I7I7I7', r.revision, r.fence, r.at, r.deadline),
    r.claimed == r.fence and '' or struct.pack('>I7', r.claimed),
    r.generation > 0 and struct.pack('>I4', r.generation) or '', r.owner, key, info,
    r.by and raw_text(r.by) or '', r.outcome or '', r.kept or '', history[1] and string.char(#history) or '',
  }
  for _, e in ipairs(history) do
    parts[#parts + 1] = raw_text(e.what)
    parts[#parts + 1] = struct.pack('>I7', e.at)
    parts[#parts + 1] = e.from == '' and '\0' or e.from == 'in_doubt' and 'd' or string.sub(e.from, 1, 1)
    parts[#parts + 1] = e.owner
    parts[#parts + 1] = struct.pack('>I7', e.fence)
    for _, field in ipairs({'by', 'why', 'id', 'from_by', 'who'}) do
      parts[#parts + 1] = raw_text(e[field])
    end
  end
  return table.concat(parts)
end

-- commit runs all commands, or none if this user may not run one of them. What is
-- added to the index comes first, and what is removed from it last.
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
    if r.revision > 4294967295 or math.max(r.fence, r.at, r.claimed, r.deadline) > max_number then
      return redis.error_reply('CORRUPT record')
    end
    v = packed()
    local after = place()
    if after and after ~= before then
      commands[1] = {'ZADD', KEYS[2], after, KEYS[1]}
    end
    commands[#commands + 1] = expires == 0 and {'SET', KEYS[1], v} or {'SET', KEYS[1], v, 'PXAT', expires}
    if before and not after then
      commands[#commands + 1] = {'ZREM', KEYS[2], KEYS[1]}
    end
  elseif expires ~= promised then
    commands[1] = expires == 0 and {'PERSIST', KEYS[1]} or {'PEXPIREAT', KEYS[1], expires}
  end
  local failed = commit(commands)
  if failed then
    return failed
  elseif state_read and state_read ~= 'tombstone' and (r.state ~= state_read or r.owner ~= owner_read) then
    -- Who waits for the record looks again. A user may lack the right: then who waits
    -- polls.
    redis.pcall('SPUBLISH', KEYS[1], '')
  end
  return {now, verdict, expires, v}
end
