-- quick_settle: what most settles meet, answered before the turns are defined. An
-- owner that runs, and that nobody has disturbed, says how the act ended.
--
-- Reply  {now, expires, head}; the rest of the record is as the caller sent it

local ttl = tonumber(ARGV[5])

if state == 'running' and held_by == ARGV[2] and (ARGV[3] == held_fence or ARGV[3] == '0') and not h.history
    and kept == '' and not h.by and h.info == ARGV[7] and (ARGV[8] == 'succeeded' or ARGV[8] == 'failed')
    and ARGV[9] ~= '' and ARGV[11] ~= '' and ARGV[12] == '' and ttl ~= 0 and revision + 0 < max_number then
  local head = string.format('1 %s %s %.0f %s %s 0 %s 0 %.0f -%s ', ARGV[8], origin, revision + 1, held_fence, claimed,
    deadline, now, forgotten) .. held_by
  -- GT never shortens, and takes forever for the longest. It comes first: alone, it
  -- does no harm.
  local expires = math.ceil((now + ttl + math.floor(ttl / 16)) / 1000)
  if redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expires), 'GT') == 0 then
    expires = math.max(redis.call('PEXPIRETIME', KEYS[1]), 0)
  end
  redis.call('HSET', KEYS[1], 'head', head, 'data', ARGV[10], 'context', ARGV[11])
  redis.pcall('ZREM', KEYS[2], KEYS[1])
  return {now, expires, head}
end
