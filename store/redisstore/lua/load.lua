-- load: returns the record as it is.

return {now, '', v and math.max(redis.call('PEXPIRETIME', KEYS[1]), 0) or 0, v}
