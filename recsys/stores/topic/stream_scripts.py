"""The Lua scripts of the Streams backend: whatever must be decided and done in one step on the server.

A partition is a stream, read by whoever holds its lease (a key with the member's token and a TTL). Every
script that reads or acknowledges checks the lease first, so that a member that was asleep while its lease
passed on can neither take entries nor acknowledge them.
"""

ADD = """
-- KEYS streams; ARGV max_length, retention_ms, then per message: index of its stream, number of fields, fields
local results, lengths, at = {}, {}, 3
while at <= #ARGV do
  local stream, fields = KEYS[tonumber(ARGV[at])], tonumber(ARGV[at + 1])
  lengths[stream] = lengths[stream] or redis.call('XLEN', stream)
  if lengths[stream] >= tonumber(ARGV[1]) then
    results[#results + 1] = 'FULL'
  else
    local id = redis.pcall('XADD', stream, '*', unpack(ARGV, at + 2, at + 1 + fields))
    results[#results + 1] = id.err or id
    if not id.err then
      lengths[stream] = lengths[stream] + 1
      -- an offset has 20 bits for the sequence: a clock that stands still must not use them up
      local ms, seq = string.match(id, '^(%d+)-(%d+)$')
      if tonumber(seq) > 1000000 then redis.call('XSETID', stream, string.format('%.0f-0', tonumber(ms) + 1)) end
    end
  end
  at = at + 2 + fields
end
for stream in pairs(lengths) do redis.call('PEXPIRE', stream, ARGV[2]) end
return results
"""

BEAT = """
-- KEYS members, leases; ARGV token, lease_ms, then indexes of the leases to give up -> share, indexes owned
local token, lease_ms = ARGV[1], tonumber(ARGV[2])
for i = 3, #ARGV do
  local lease = KEYS[1 + tonumber(ARGV[i])]
  if redis.call('GET', lease) == token then redis.call('DEL', lease) end
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', KEYS[1], now, token)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - lease_ms)
redis.call('PEXPIRE', KEYS[1], 2 * lease_ms)
local members, rank = redis.call('ZRANGE', KEYS[1], 0, -1), 0
for _, member in ipairs(members) do if member < token then rank = rank + 1 end end
local leases = #KEYS - 1
local share = math.floor(leases / #members)
if rank < leases % #members then share = share + 1 end
local owned, free = {}, {}
for i = 1, leases do
  local owner = redis.call('GET', KEYS[1 + i])
  if owner == token then
    redis.call('PEXPIRE', KEYS[1 + i], lease_ms)
    owned[#owned + 1] = i
  elseif not owner then
    free[#free + 1] = i
  end
end
for _, i in ipairs(free) do
  if #owned >= share then break end
  redis.call('SET', KEYS[1 + i], token, 'PX', lease_ms)
  owned[#owned + 1] = i
end
return {share, unpack(owned)}
"""

LEAVE = """
-- KEYS members, leases; ARGV token
redis.call('ZREM', KEYS[1], ARGV[1])
for i = 2, #KEYS do if redis.call('GET', KEYS[i]) == ARGV[1] then redis.call('DEL', KEYS[i]) end end
"""

READ = """
-- KEYS stream, lease, ...; ARGV token, lease_ms, group, limit, retention_ms, then one cursor per stream
-- -> per stream nil where the lease is lost, else {entries, id of the stream's last entry}
-- Entries come after the cursor: first those delivered to the group and not acknowledged, then new ones.
-- So an answer that was lost on its way is simply given again, and order holds whoever asks.
local group, left = ARGV[3], tonumber(ARGV[4])
local function take(stream, from)
  local reply = redis.pcall('XREADGROUP', 'GROUP', group, 'owner', 'COUNT', left, 'STREAMS', stream, from)
  if reply and reply.err then
    if not string.find(reply.err, 'NOGROUP') then return error(reply.err) end
    redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
    if redis.call('PTTL', stream) < 0 then redis.call('PEXPIRE', stream, ARGV[5]) end
    return {}
  end
  local entries = reply and reply[1][2] or {}
  left = left - #entries
  return entries
end
local out = {}
for i = 1, #KEYS, 2 do
  local stream, lease = KEYS[i], KEYS[i + 1]
  if redis.call('GET', lease) ~= ARGV[1] then
    out[#out + 1] = false
  else
    redis.call('PEXPIRE', lease, ARGV[2])
    local entries = {}
    if left > 0 then entries = take(stream, ARGV[5 + (i + 1) / 2]) end
    if left > 0 then for _, entry in ipairs(take(stream, '>')) do entries[#entries + 1] = entry end end
    local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
    out[#out + 1] = {entries, last[1] and last[1][1] or '0-0'}
  end
end
return out
"""

COMMIT = """
-- KEYS stream, lease, ...; ARGV token, group, keep, then per stream the id up to which to acknowledge
-- Entries that every group has finished are dropped once a stream holds more than `keep`.
local token, group = ARGV[1], ARGV[2]
local function finished(stream)
  local low_ms, low_seq
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local info = {}
    for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
    local needed = info['last-delivered-id']
    if info.pending > 0 then needed = redis.call('XPENDING', stream, info.name)[2] end
    local ms, seq = string.match(needed, '^(%d+)-(%d+)$')
    ms, seq = tonumber(ms), tonumber(seq) + (info.pending > 0 and 0 or 1)
    if not low_ms or ms < low_ms or (ms == low_ms and seq < low_seq) then low_ms, low_seq = ms, seq end
  end
  return low_ms and string.format('%.0f-%.0f', low_ms, low_seq)
end
for i = 1, #KEYS, 2 do
  local stream = KEYS[i]
  if redis.call('GET', KEYS[i + 1]) == token then
    local found
    repeat
      found = redis.pcall('XPENDING', stream, group, '-', ARGV[3 + (i + 1) / 2], 1000)
      if found.err then break end
      local ids = {}
      for j, entry in ipairs(found) do ids[j] = entry[1] end
      if #ids > 0 then redis.call('XACK', stream, group, unpack(ids)) end
    until #found < 1000
    if not found.err and redis.call('XLEN', stream) > tonumber(ARGV[3]) then
      local needed = finished(stream)
      if needed then redis.call('XTRIM', stream, 'MINID', needed) end
    end
  end
end
"""

NEXT = """
-- KEYS streams -> the time in ms, then the last id of each, '0-0' where there is no stream
local time = redis.call('TIME')
local out = {string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))}
for i, stream in ipairs(KEYS) do
  local info, last = redis.pcall('XINFO', 'STREAM', stream), '0-0'
  if not info.err then
    for j = 1, #info, 2 do if info[j] == 'last-generated-id' then last = info[j + 1] end end
  end
  out[#out + 1] = last
end
return out
"""

LAG = """
-- KEYS streams; ARGV group -> per stream how many entries the group has not acknowledged
local out = {}
for i, stream in ipairs(KEYS) do
  out[i] = redis.call('XLEN', stream)
  if out[i] > 0 then
    for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
      local info = {}
      for j = 1, #flat, 2 do info[flat[j]] = flat[j + 1] end
      if info.name == ARGV[1] then out[i] = info.pending + (info.lag or out[i]) end
    end
  end
end
return out
"""
