-- Take or renew a session's lease, unless another instance has it, and look a message up.
--
-- KEYS, all of one session: 1 its lease, 2 what became of a message
-- ARGV: 1 the instance, 2 the lease's time in milliseconds
-- Returns 1 if the instance has the lease now, and what became of the message, "" if that is not known
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0, ''} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1, redis.call('GET', KEYS[2]) or ''}
