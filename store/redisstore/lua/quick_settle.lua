-- quick_settle: see undisturbed.lua.

if expires and (ARGV[6] == 'succeeded' or ARGV[6] == 'failed') then
  local head = '\1' .. string.sub(ARGV[6], 1, 1) .. origin .. '\96'
    .. struct.pack('>I4I7I7I7', revision + 1, fence, now, deadline)
  redis.call('SET', KEYS[1], head .. ARGV[1] .. ARGV[7], 'PXAT', expires)
  redis.pcall('ZREM', KEYS[2], KEYS[1])
  redis.pcall('SPUBLISH', KEYS[1], '')
  return {now, expires, head}
end
