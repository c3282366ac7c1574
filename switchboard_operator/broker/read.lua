-- Read a page of a session's mailbox.
--
-- KEYS, all of one session: 1 its state, 2 its list of bodies
-- ARGV: 1 the epoch after whose number 2 to begin ("*": after the cursor), 3 most bodies and 4 most
--   bytes of a page, 5 an epoch in case that one begins
-- Returns epoch, last number, cursor, oldest number kept, the number after which the page begins, and
-- its bodies
local state = redis.call('HMGET', KEYS[1], 'epoch', 'last', 'cursor')
if not state[1] then return {'', 0, 0, 1, 0} end
local epoch, last, cursor = state[1], tonumber(state[2]), tonumber(state[3] or 0)
local length = redis.call('LLEN', KEYS[2])
local start = 0
if ARGV[1] == '*' then
  start = cursor
elseif ARGV[1] == epoch then
  start = tonumber(ARGV[2])
  if start > last then
    -- Redis has gone back in time: the numbers up to there have been given, or will be, to others.
    epoch, last, cursor, start = ARGV[5], length, 0, 0
    redis.call('HSET', KEYS[1], 'epoch', epoch, 'last', last, 'cursor', 0)
  end
end
local oldest = last - length + 1
local page = {epoch, last, cursor, oldest, start}
local from = math.max(start + 1, oldest) - oldest
local size = 0
for place, body in ipairs(redis.call('LRANGE', KEYS[2], from, from + ARGV[3] - 1)) do
  size = size + #body
  if place > 1 and size > tonumber(ARGV[4]) then break end
  page[#page + 1] = body
end
return page
