-- Publish a postback once, however often this call is repeated: give it the next id of its session,
-- keep it in the session's mailbox, and send it to every instance.
--
-- KEYS, all of one session: 1 what this postback became, 2 the session's state, 3 its list of bodies
-- ARGV: 1 channel, 2 body, 3 where its tag goes, 4 an epoch in case that one begins,
--   5 most bodies kept (0: no mailbox) and 6 most bytes, lifetimes in seconds of 7 the list, 8 the
--   state and 9 what this postback became
-- Returns its id, "" if it has none, and 0 published, 1 published before, 2 published without an id
local channel, body, cut, most = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])

local function failed(reply)
  return type(reply) == 'table' and reply.err
end

local function tagged(id)
  return string.sub(body, 1, cut) .. '"switchboard":"' .. id .. '",' .. string.sub(body, cut + 1)
end

-- Nothing in the body may pass for our tag.
local function untagged()
  return string.find(body, '^[ \t\n\r]*{"switchboard":"') and tagged('') or body
end

-- Redis refuses to keep it, for want of memory for instance: then those who listen get it all the same.
-- But a replica is not the place to publish at.
local function bare(reply)
  if string.find(reply.err, 'READONLY', 1, true) then return reply end
  local sent = redis.pcall('PUBLISH', channel, untagged())
  return failed(sent) and sent or {'', 2}
end

local became = redis.pcall('GET', KEYS[1])
if failed(became) then return bare(became) end
if became then return {became, 1} end

if most == 0 then
  local kept = redis.pcall('SET', KEYS[1], '', 'EX', ARGV[9])
  if failed(kept) then return bare(kept) end
  local sent = redis.pcall('PUBLISH', channel, untagged())
  if failed(sent) then redis.call('DEL', KEYS[1]) end
  return failed(sent) and sent or {'', 0}
end

local state = redis.pcall('HMGET', KEYS[2], 'epoch', 'last', 'bytes')
if failed(state) then return bare(state) end
local length = redis.pcall('LLEN', KEYS[3])
if failed(length) then return bare(length) end
local epoch, last, bytes = state[1], tonumber(state[2] or 0) or 0, tonumber(state[3] or 0) or 0
local begins = not epoch or length > last
if begins then
  epoch, last, length = ARGV[4], 0, 0
end
if length == 0 then bytes = 0 end
local number = string.format('%.0f', last + 1)
local id = epoch .. ':' .. number

-- The first write: what refuses any of them refuses this one, before anything has happened.
local kept = redis.pcall('SET', KEYS[1], id, 'EX', ARGV[9])
if failed(kept) then return bare(kept) end
local sent = redis.pcall('PUBLISH', channel, tagged(id))
if failed(sent) then
  redis.call('DEL', KEYS[1])
  return sent
end
if begins then redis.call('DEL', KEYS[2], KEYS[3]) end
redis.call('RPUSH', KEYS[3], body)
length, bytes = length + 1, bytes + #body
while length > most or (bytes > tonumber(ARGV[6]) and length > 1) do
  length, bytes = length - 1, bytes - #redis.call('LPOP', KEYS[3])
end
redis.call('HSET', KEYS[2], 'epoch', epoch, 'last', number, 'bytes', bytes)
redis.call('EXPIRE', KEYS[3], ARGV[7])
redis.call('EXPIRE', KEYS[2], ARGV[8])
return {id, 0}
