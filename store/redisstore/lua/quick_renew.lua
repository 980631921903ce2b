-- quick_renew: see undisturbed.lua.

if expires then
  lease_end = math.max(lease_end, now + ARGV[3])
  local head = '\1r' .. origin .. '\64' .. struct.pack('>I4I7I7I7', revision + 1, fence, lease_end, deadline)
  redis.call('SET', KEYS[1], head .. ARGV[1], 'PXAT', expires)
  return {now, expires, head}
end
