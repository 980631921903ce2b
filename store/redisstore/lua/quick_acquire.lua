-- quick_acquire: what most acquires meet, answered before the turns are defined.
-- A key without a record is granted; a settled record that nothing changes is
-- returned.
--
-- Reply  {now, expires} if the key had no record
--
-- A script adds to the index first, and removes from it last: a record that is open
-- always has its entry.

local ttl = tonumber(ARGV[5])

if not state then
  -- A key is granted only if it can be given an end, and be settled: a server that
  -- does not run the other scripts has no PEXPIRETIME.
  if not redis.acl_check_cmd then
    redis.call('PEXPIRETIME', KEYS[1])
  elseif ttl ~= 0 and not redis.acl_check_cmd('PEXPIREAT', KEYS[1], '0') then
    return redis.error_reply('NOPERM pexpireat')
  end
  local ends = ARGV[6] == '0' and 0 or now + ARGV[6]
  local at = string.format('%.0f', now)
  local head = string.format('1 running first 1 %s %s %.0f %.0f 0 0 - ', at, at, now + ARGV[4], ends)
  redis.call('ZADD', KEYS[2], at, KEYS[1])
  redis.call('HSET', KEYS[1], 'head', head .. ARGV[2], 'id', ARGV[1], 'info', ARGV[7])
  local expires = 0
  if ttl ~= 0 then
    expires = math.ceil((now + ttl + math.floor(ttl / 16)) / 1000)
    redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expires))
  end
  return {now, expires}
elseif (state == 'succeeded' or state == 'failed') and not h.history then
  local expires = math.max(redis.call('PEXPIRETIME', KEYS[1]), 0)
  if expires == 0 or ttl ~= 0 and expires * 1000 - now >= ttl then
    return {now, '', expires, fields}
  end
end
