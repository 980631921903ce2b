-- confirm: writes to a witness, so that WAIT on the same connection is about it and
-- all that was written before.
--
-- KEYS[1]  the witness

return redis.call('HSET', KEYS[1], 'confirmed', '1')
