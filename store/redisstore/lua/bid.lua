-- The claim's side of a call: what acquire, renew, settle, release and takeover
-- have after turns.lua.
--
-- ARGV[2]  owner: the claim's nonce
-- ARGV[3]  fence of its grant; 0: unknown
-- ARGV[4]  lease in µs
-- ARGV[5]  TTL in µs; 0: forever
-- ARGV[6]  deadline in µs from now; 0: none
-- ARGV[7]  info, words that are not looked into

local owner, fence = ARGV[2], ARGV[3]
local lease, ttl = tonumber(ARGV[4]), tonumber(ARGV[5])
echo.info = h.info == ARGV[7]

local function set_info()
  set('info', ARGV[7])
  echo.info = true
end

local function owns()
  return r.owner == owner and (fence == '0' or fence == r.fence)
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
  r.owner, r.fence = owner, fence == '0' and '1' or fence
  r.claimed, r.origin = decimal(now), 'first'
  r.deadline = ARGV[6] == '0' and '0' or decimal(now + ARGV[6])
  r.forgotten, r.kept = '', ''
  set('id', ARGV[1])
  set_info()
end

-- note_replaced keeps the owner's nonce from being granted again, unless a
-- resolution has done so.
local function note_replaced()
  if not h.by then
    local what = r.state == 'tombstone' and 'released' or 'taken_over'
    note({what = what, from = r.state, owner = r.owner, fence = r.fence})
  end
end

-- grant gives the key of an existing record to the bid.
local function grant(origin)
  extend(ttl)
  r.state, r.owner, r.origin = 'running', owner, origin
  r.fence = decimal(math.max(r.fence + 1, now))
  revise()
  r.claimed, r.lease_end = decimal(now), decimal(now + lease)
  r.deadline = ARGV[6] == '0' and '0' or decimal(now + ARGV[6])
  r.doubted, r.settled, r.marked, r.forgotten = '0', '0', '', ''
  set('by', nil)
  set_info()
  set_outcome({})
end
