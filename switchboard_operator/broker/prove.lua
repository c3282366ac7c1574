-- Move a session's cursor up to a number that its user has proven to have.
--
-- KEYS: 1 the session's state
-- ARGV: 1 the epoch, 2 the number, 3 the state's lifetime in seconds
local state = redis.call('HMGET', KEYS[1], 'epoch', 'last', 'cursor')
local number = tonumber(ARGV[2])
if state[1] == ARGV[1] and number <= tonumber(state[2]) and number > tonumber(state[3] or 0) then
  redis.call('HSET', KEYS[1], 'cursor', ARGV[2])
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return 0
