-- touch: writes a record again as it is, so that WAIT on the same connection is
-- about the record and all that was written before.
--
-- KEYS[1]  the record
-- Reply    its head and its owner, and maybe more; empty: there is no record

local head = redis.call('GETRANGE', KEYS[1], 0, 600)
if head ~= '' then
  redis.call('SETRANGE', KEYS[1], 0, string.sub(head, 1, 1))
end
return head
