-- The claim's side of a call: what acquire, renew, settle, release and takeover
-- have after turns.lua.
--
-- ARGV[1]  owner, key and info, packed as in a record
-- ARGV[2]  fence of its grant; 0: unknown
-- ARGV[3]  lease in µs
-- ARGV[4]  TTL in µs; 0: forever
-- ARGV[5]  deadline in µs from now; 0: none

local fence, lease, ttl = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local owner_size = owner_end(ARGV[1], 1) - 1
local bid_key_end, bid_key_size = key_end(ARGV[1], owner_size + 1)
local owner = string.sub(ARGV[1], 1, owner_size)
local bid_key, bid_info = string.sub(ARGV[1], owner_size + 1, bid_key_end - 1), string.sub(ARGV[1], bid_key_end)

if v and key ~= bid_key then
  return redis.error_reply('CORRUPT another key')
end

local function ends_in()
  return ARGV[5] == '0' and 0 or now + ARGV[5]
end

local function owns()
  return r.owner == owner and (fence == 0 or fence == r.fence)
end

-- spent reports whether this claim has come to its end.
local function spent()
  if r.state == 'tombstone' and r.owner == owner then
    return true
  end
  for _, e in ipairs(history) do
    if e.owner == owner then
      return true
    end
  end
  return false
end

-- create makes the record of a claim that the store does not know.
local function create(remember)
  expires_anew(remember)
  r.owner, r.fence = owner, fence == 0 and 1 or fence
  r.claimed, r.origin, r.deadline = now, 'first', ends_in()
  key, info = bid_key, bid_info
end

-- note_replaced keeps the owner's nonce from being granted again, unless a
-- resolution has done so.
local function note_replaced()
  if not r.by then
    local what = r.state == 'tombstone' and 'released' or 'taken_over'
    note({what = what, from = r.state, owner = r.owner, fence = r.fence})
  end
end

-- grant gives the key of an existing record to the bid.
local function grant(origin)
  extend(ttl)
  r.state, r.owner, r.origin = 'running', owner, origin
  r.fence = math.max(r.fence + 1, now)
  revise()
  r.claimed, r.at, r.deadline = now, now + lease, ends_in()
  r.marked, r.forgotten, r.by, r.outcome = false, false, nil, nil
  info = bid_info
end
