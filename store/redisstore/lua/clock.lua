-- What every verb starts with: it reads the clock and the record.
--
-- KEYS[1]  the record, a string; see record.go and record.lua for its form
--
-- Reply, unless a verb says otherwise: {now, verdict, expires, record}
--   now      the server's clock in µs
--   verdict  why the call was refused; empty: it was not
--   expires  until when the record is remembered, in ms; 0: forever
--   record   nil: absent
-- An error that begins with CORRUPT or VERSION: the record cannot be read, and
-- nothing was written.

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local v = redis.call('GET', KEYS[1])

-- until_when returns in ms when a record is forgotten that is to live for ttl µs. A
-- sixteenth is added so that not every contact has to prolong it.
local function until_when(ttl)
  return math.ceil((now + ttl + math.floor(ttl / 16)) / 1000)
end
