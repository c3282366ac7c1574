-- Publish a postback once, however often this call is repeated: give it the next id of its session,
-- keep it in the session's mailbox, and send it to every instance.
--
-- KEYS, all of one session: 1 what this postback became, 2 the session's state, 3 its list of bodies
-- ARGV: 1 body, 2 where its tag goes, 3 an epoch in case that one begins, 4 channel,
--   5 most bodies kept (0: no mailbox) and 6 most bytes, lifetimes in seconds of 7 the list, 8 the
--   state and 9 what this postback became
-- Returns its id, "" if it has none, and 0 published, 1 published before, 2 published without an id
--
-- What is called here, and each function that is made, costs about as much as all else: so they are few.
local body, most = ARGV[1], tonumber(ARGV[5])
local id, refused = '', nil
local epoch, number, length, bytes, begins

if most > 0 then
  local state = redis.pcall('HMGET', KEYS[2], 'epoch', 'last', 'bytes')
  length = redis.pcall('LLEN', KEYS[3])
  refused = state.err and state or type(length) == 'table' and length
  if not refused then
    local last = tonumber(state[2] or 0) or 0
    epoch = state[1]
    begins = not epoch or length > last
    if begins then
      epoch, last, length = ARGV[3], 0, 0
    end
    bytes = length > 0 and tonumber(state[3] or 0) or 0
    number = string.format('%d', last + 1)
    id = epoch .. ':' .. number
  end
end

-- The first write: what refuses any of them refuses this one, before anything has happened.
local kept = refused or redis.pcall('SET', KEYS[1], id, 'EX', ARGV[9], 'NX')
local bare = not kept or kept.err
if bare then
  local became = redis.pcall('GET', KEYS[1])
  if type(became) == 'string' then return {became, 1} end
  -- Redis refuses to keep it, for want of memory for instance: then those who listen get it all the same.
  -- But a replica is not the place to publish at.
  local reply = became or kept
  if string.find(reply.err, 'READONLY', 1, true) then return reply end
  id = ''
end

local message = body
-- Without an id nothing in the body may pass for our tag.
if id ~= '' or string.find(body, '^[ \t\n\r]*{"switchboard":"') then
  local cut = tonumber(ARGV[2])
  message = string.sub(body, 1, cut) .. '"switchboard":"' .. id .. '",' .. string.sub(body, cut + 1)
end
local sent = redis.pcall('PUBLISH', ARGV[4], message)
if type(sent) == 'table' then
  if not bare then redis.call('DEL', KEYS[1]) end
  return sent
end
if bare then return {'', 2} end
if most == 0 then return {'', 0} end

if begins then
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[2], 'epoch', epoch)
end
redis.call('RPUSH', KEYS[3], body)
length, bytes = length + 1, bytes + #body
while length > most or (bytes > tonumber(ARGV[6]) and length > 1) do
  length, bytes = length - 1, bytes - #redis.call('LPOP', KEYS[3])
end
redis.call('HSET', KEYS[2], 'last', number, 'bytes', string.format('%d', bytes))
redis.call('EXPIRE', KEYS[3], ARGV[7])
redis.call('EXPIRE', KEYS[2], ARGV[8])
return {id, 0}
