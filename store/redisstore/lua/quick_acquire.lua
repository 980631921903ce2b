-- quick_acquire: what most acquires meet, answered before a record is read in full.
-- A key without a record is granted; a settled record that nothing changes is
-- returned as it is, for the caller to read: all that the long form would do is prolong
-- its life, and refuse a record that cannot be read or that is another key's, as the
-- caller does.
--
-- Reply  {now, expires} if the key had no record
--
-- A script adds to the index first, and removes from it last: a record that is open
-- always has its entry. One that a refused SET leaves without its record is removed
-- by the next listing.

local ttl = tonumber(ARGV[4])

if not v then
  -- A server that does not run the other scripts has no PEXPIRETIME.
  if not redis.acl_check_cmd then
    redis.call('PEXPIRETIME', KEYS[1])
  end
  local deadline = ARGV[5] == '0' and 0 or now + ARGV[5]
  local record = '\1rf\64' .. struct.pack('>I4I7I7I7', 1, now, now + ARGV[3], deadline) .. ARGV[1]
  redis.call('ZADD', KEYS[2], now, KEYS[1])
  if ttl == 0 then
    redis.call('SET', KEYS[1], record)
    return {now, 0}
  end
  local expires = until_when(ttl)
  redis.call('SET', KEYS[1], record, 'PXAT', expires)
  return {now, expires}
end
local version, state, _, flags = string.byte(v, 1, 4)
-- A history may say that the bid's nonce is spent.
if version == 1 and (state == 115 or state == 102) and (flags or 16) % 32 < 16 then
  local expires = math.max(redis.call('PEXPIRETIME', KEYS[1]), 0)
  if expires == 0 or ttl ~= 0 and expires * 1000 - now >= ttl then
    return {now, '', expires, v}
  end
end
