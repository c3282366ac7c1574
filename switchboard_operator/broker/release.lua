-- Give up a session's lease.
--
-- KEYS: 1 the lease; ARGV: 1 the instance
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 0
