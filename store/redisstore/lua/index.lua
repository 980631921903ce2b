-- index: puts the index right about one record.

local at = place()
if at then
  redis.call('ZADD', KEYS[2], at, KEYS[1])
else
  redis.call('ZREM', KEYS[2], KEYS[1])
end
return at and 1 or 0
