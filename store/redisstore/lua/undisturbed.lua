-- What most renewals and settles meet, answered before a record is read in full: an
-- owner that runs, and that nobody has disturbed. Its record is its grant and its
-- renewals: all but the head is byte for byte what its owner sends, no flag is set but
-- that the fence is the time of the claim, and the head is in range. Anything else is
-- for the long form.
--
-- Reply  {now, expires, head}; the rest of the record is as the caller sent it

local ttl = tonumber(ARGV[4])
local origin, revision, fence, lease_end, deadline, expires

if v and ttl ~= 0 and string.sub(v, 1, 2) == '\1r' and string.byte(v, 4) == 64 and string.sub(v, 30) == ARGV[1] then
  origin = string.sub(v, 3, 3)
  revision, fence, lease_end, deadline = struct.unpack('>I4I7I7I7', v, 5)
  if (fence == tonumber(ARGV[2]) or ARGV[2] == '0') and (origin == 'f' or origin == 't' or origin == 'c')
      and revision > 0 and revision < 4294967295 and fence > 0 and lease_end > 0
      and math.max(fence, lease_end, deadline) < 2 ^ 53 then
    local promised = redis.call('PEXPIRETIME', KEYS[1])
    expires = promised > 0 and math.max(promised, until_when(ttl))
  end
end
