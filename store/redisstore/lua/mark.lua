-- mark: says that no open record is missing in an index.
--
-- KEYS[1]  the index; see open.lua
-- ARGV[1]  the entry that says so

return redis.call('ZADD', KEYS[1], '-inf', ARGV[1])
