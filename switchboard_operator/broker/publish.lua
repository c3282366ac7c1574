-- Publish messages that one publisher has numbered, each once, however often this call is repeated.
--
-- KEYS[1]: where the number of the publisher's last message is kept
-- ARGV[1]: the channel; ARGV[2]: seconds to keep the number; ARGV[3]: the first message's number
-- ARGV[4…]: the messages, numbered on from there
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
local first = tonumber(ARGV[3])
local count = #ARGV - 3
-- Written first: if Redis refuses to write, nothing has been published either.
redis.call('SET', KEYS[1], math.max(last, first + count - 1), 'EX', ARGV[2])
for offset = math.max(0, last - first + 1), count - 1 do
  local reply = redis.pcall('PUBLISH', ARGV[1], ARGV[4 + offset])
  if type(reply) == 'table' and reply.err then
    redis.call('SET', KEYS[1], first + offset - 1, 'EX', ARGV[2])
    return reply
  end
end
return count
