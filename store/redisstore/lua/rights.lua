-- rights: asks which commands this user may not run on keys of the store.
--
-- ARGV[1]    how many keys
-- ARGV[2..]  the keys, then the commands in lower case
--
-- Reply      {command, ...}; nil: the server cannot say

if not redis.acl_check_cmd then
  return false
end
local keys, refused = tonumber(ARGV[1]), {}
for i = 2 + keys, #ARGV do
  for k = 2, 1 + keys do
    local command, key = ARGV[i], ARGV[k]
    local args = {command, key, '0', '0', '0'}
    if command == 'eval' or command == 'evalsha' then
      args = {command, '', '1', key}
    elseif string.find(command, 'subscribe$') then
      args = {command, key} -- each argument is a channel
    end
    local known, may = pcall(redis.acl_check_cmd, unpack(args))
    if not known or not may then
      refused[#refused + 1] = command
      break
    end
  end
end
return refused
