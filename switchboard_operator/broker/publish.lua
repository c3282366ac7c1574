-- Publish postbacks, each once however often this call is repeated: give it the next id of its session,
-- keep it in the session's mailbox, and send it to every instance.
--
-- KEYS, three for each postback: what it became, its session's state, its session's list of bodies
-- ARGV: 1 the channel that anybody may listen to, 2 the instances' own, 3 most bytes of a mailbox,
--   lifetimes in seconds of 4 a list, 5 a state and 6 what a postback became, 7 the time, in steps in
--   each of which lifetimes are renewed once, 8 a tag for epochs that begin; then three for each
--   postback: session and size as they stand in a bundle, the body, most bodies kept (0: no mailbox)
-- Returns for each its id, "" where it is to have none, {id, 1} if it was published before, and
-- {"", 2} if it is published without the id that it should have
--
-- What is called here, and each string that is made, costs about as much as all else: so they are few.
local OWN, EACH = 8, 3 -- arguments
local BUNDLE, BUNDLE_BYTES = 64, 65536 -- at most in one, so that who listens gives others a turn

local most_bytes, lifetime, state_lifetime, once_lifetime = tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
local now, tag = ARGV[7], ARGV[8]

-- Instances listen to both channels, so if one has more listeners, there are others.
local heard = redis.pcall('PUBSUB', 'NUMSUB', ARGV[1], ARGV[2])
local alone = heard.err or heard[2] ~= heard[4] or redis.pcall('PUBSUB', 'NUMPAT') ~= 0

local heads, bodies, count, size = {}, {}, 0, 0

local function send_bundle()
  redis.call('PUBLISH', ARGV[2], table.concat(heads, ' ', 1, count) .. '\n' .. table.concat(bodies, '', 1, count))
  count, size = 0, 0
end

-- For others a postback bears its id itself; one without an id must have nothing that passes for it.
local function send_alone(id, body)
  if id ~= '' or string.find(body, '^[ \t\n\r]*{"switchboard":"') then
    local cut = string.find(body, '{', 1, true)
    body = string.sub(body, 1, cut) .. '"switchboard":"' .. id .. '",' .. string.sub(body, cut + 1)
  end
  redis.call('PUBLISH', ARGV[1], body)
end

local function send(id, head, body)
  if alone then return send_alone(id, body) end
  count, size = count + 1, size + #body
  heads[count], bodies[count] = id .. head, body
  if count == BUNDLE or size > BUNDLE_BYTES then send_bundle() end
end

local function begin(state_key, list, epoch)
  redis.call('DEL', state_key, list)
  redis.call('HSET', state_key, 'epoch', epoch)
end

-- Drop what is too much of a list of *length*, and note what is left.
local function note(state_key, list, number, length, bytes, most, renewed)
  while length > most or (bytes > most_bytes and length > 1) do
    length, bytes = length - 1, bytes - #redis.call('LPOP', list)
  end
  bytes = string.format('%d', bytes)
  if renewed == now and length > 1 then
    redis.call('HSET', state_key, 'last', number, 'bytes', bytes)
  else
    redis.call('HSET', state_key, 'last', number, 'bytes', bytes, 'renewed', now)
    redis.call('EXPIRE', list, lifetime)
    redis.call('EXPIRE', state_key, state_lifetime)
  end
end

local function publish(once, state_key, list, head, body, most, place)
  local id, state, epoch, number = '', nil, nil, nil
  if most > 0 then
    state = redis.pcall('HMGET', state_key, 'epoch', 'last', 'bytes', 'renewed')
    epoch = state[1] or tag .. place
    number = string.format('%d', (state[1] and tonumber(state[2]) or 0) + 1)
    id = epoch .. ':' .. number
  end

  -- The first write: what refuses any of them refuses this one, before anything has happened.
  local kept = state and state.err and state or redis.pcall('SET', once, id, 'EX', once_lifetime, 'NX')
  if not kept or kept.err then
    local became = redis.pcall('GET', once)
    if type(became) == 'string' then return {became, 1} end
    -- Redis refuses to keep it, for want of memory for instance: those who listen get it all the same.
    -- But a replica is not the place to publish at.
    local reply = became or kept
    if string.find(reply.err, 'READONLY', 1, true) then return reply end
    send('', head, body)
    return {'', 2}
  end

  if most > 0 then
    if not state[1] then begin(state_key, list, epoch) end
    local length = redis.pcall('RPUSH', list, body)
    if type(length) == 'table' then -- it is no list
      redis.call('SET', once, '', 'EX', once_lifetime)
      send('', head, body)
      return {'', 2}
    end
    local bytes = length > 1 and tonumber(state[3]) or 0
    if length > tonumber(number) then -- the count lags behind its list
      epoch, number, length, bytes = tag .. place, '1', 1, 0
      id = epoch .. ':1'
      begin(state_key, list, epoch)
      redis.call('RPUSH', list, body)
      redis.call('SET', once, id, 'EX', once_lifetime)
    end
    note(state_key, list, number, length, bytes + #body, most, state[4])
  end
  send(id, head, body)
  return id
end

local replies = {}
for place = 1, #KEYS / 3 do
  local key, own = 3 * place, OWN + EACH * place
  local reply = publish(
    KEYS[key - 2], KEYS[key - 1], KEYS[key], ARGV[own - 2], ARGV[own - 1], tonumber(ARGV[own]), place
  )
  if type(reply) == 'table' and reply.err then return reply end
  replies[place] = reply
end
if count > 0 then send_bundle() end
return replies
