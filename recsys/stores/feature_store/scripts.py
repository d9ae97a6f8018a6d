"""The Lua scripts of the feature store: compare-and-set on users, items and trend counts; heartbeats.

Each writes before it deletes: a server out of memory refuses a script's first write, and then nothing has changed.
"""

SOUND = """
local function sound(key, kind)
  -- A key of another kind is nothing that this store wrote: it makes room.
  local stored = redis.call('TYPE', key).ok
  if stored ~= kind and stored ~= 'none' then redis.call('DEL', key) end
end
"""

CLEAR = (
    SOUND
    + """
-- KEYS; ARGV what they are to be
for _, key in ipairs(KEYS) do sound(key, ARGV[1]) end
return 1
"""
)

SAVE = """
-- KEYS user; ARGV expected revision, ttl_ms, then field, value, ... -> 1 where written
-- A revision that is no number, or a key that is no hash, counts as revision -1 (keys.UNREADABLE).
local stored = redis.pcall('HGET', KEYS[1], 'r')
if not stored then
  stored = '0'
elseif type(stored) == 'table' then
  if not string.find(stored.err, 'WRONGTYPE') then return stored end
  stored = '-1'
elseif #stored > 15 or not string.match(stored, '^%d+$') then
  stored = '-1'
end
if tonumber(stored) ~= tonumber(ARGV[1]) then return 0 end
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'r', string.format('%.0f', math.max(tonumber(stored), 0) + 1), unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local kept = {r = true}
for i = 3, #ARGV, 2 do kept[ARGV[i]] = true end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if not kept[field] then redis.call('HDEL', KEYS[1], field) end
end
return 1
"""

PUT_ITEMS = (
    SOUND
    + """
-- KEYS items:changed, items; ARGV ttl_ms, then per item: expected value ('' for none), new value, item_id
-- -> per item 1 where written
-- A revision is the time in microseconds, or one more than the last: it grows on even when all data was lost,
-- and tells which members have outlived their item.
sound(KEYS[1], 'zset')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
-- Nothing comes after a revision that no number is greater than: whatever has one changed now.
for i, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '9007199254740991', '+inf')) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + i), member)
end
local top = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local revision = math.max(now, top[2] and tonumber(top[2]) + 1 or 0)
local written, any = {}, false
for i = 2, #KEYS do
  local at = 2 + (i - 2) * 3
  local stored = redis.pcall('GET', KEYS[i])
  if not stored or type(stored) == 'table' then stored = '' end
  if stored == ARGV[at] then
    redis.call('SET', KEYS[i], ARGV[at + 1], 'PX', ARGV[1])
    redis.call('ZADD', KEYS[1], string.format('%.0f', revision), ARGV[at + 2])
    revision, any = revision + 1, true
    written[i - 1] = 1
  else
    written[i - 1] = 0
  end
end
if any then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - 1000 * tonumber(ARGV[1])))
end
return written
"""
)

COUNT_TRENDS = (
    SOUND
    + """
-- KEYS trends, then one per hour; ARGV partition, after, reached, ttl_ms, items kept, then per hour:
-- expires_at_ms, msgpack of item_id, weight, ... -> the offset found; counted where it is `after`
-- Offsets are compared as text: they may be beyond what a Lua number can tell apart.
-- One that is no number is of nothing that was counted.
sound(KEYS[1], 'hash')
local found = redis.call('HGET', KEYS[1], ARGV[1]) or '-1'
if #found > 40 or not string.match(found, '^-?%d+$') then found = '-1' end
if found ~= ARGV[2] then return found end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
local kept = tonumber(ARGV[5])
for i = 2, #KEYS do
  sound(KEYS[i], 'zset')
  local weights = cmsgpack.unpack(ARGV[2 * i + 3])
  for j = 1, #weights, 2 do redis.call('ZINCRBY', KEYS[i], weights[j + 1], weights[j]) end
  redis.call('PEXPIREAT', KEYS[i], ARGV[2 * i + 2])
  local size = redis.call('ZCARD', KEYS[i])
  if size > kept then redis.call('ZREMRANGEBYRANK', KEYS[i], 0, size - math.ceil(kept / 2) - 1) end
end
return found
"""
)

REPORT = (
    SOUND
    + """
-- KEYS heartbeats; ARGV process, what it reports, ttl_ms
sound(KEYS[1], 'hash')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now) .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i + 1], '^%d+'))
  if not at or at < now - tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], all[i]) end
end
return 1
"""
)
