-- touch: writes a record again as it is, so that WAIT on the same connection is
-- about the record and all that was written before.
--
-- KEYS[1]  the record
-- Reply    its field head; nil: there is no record

local head = redis.call('HGET', KEYS[1], 'head')
if head then
  redis.call('HSET', KEYS[1], 'head', head)
end
return head
